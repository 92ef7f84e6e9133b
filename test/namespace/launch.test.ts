// Launches that cannot succeed: one line that says why, and the host as it was before.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { lockHolder } from "../../lib/sys/lockholder.ts";
import { DIST, eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";

let hosts: Hosts;
let host: Host;

beforeAll(async () => {
  hosts = await Hosts.create("lau", 1);
  host = hosts.host(1);
});

afterAll(() => hosts.disposeSync());

const state = async () => [
  await host.must(["ip", "-br", "link"]),
  await host.must(["nft", "list", "ruleset"]),
  await host.must(["ip", "-4", "addr"]),
  await host.must(["sh", "-c", "grep . /proc/sys/net/ipv6/conf/*/disable_ipv6"]),
  existsSync(join(host.folder, "run/weave.sock")),
];

/** Holds a TCP port in the host until it is killed. */
async function occupy(port: number, address: string): Promise<() => Promise<void>> {
  const script = `require("node:net").createServer().listen(${port}, "${address}", () => console.log("ready"))`;
  const child = Bun.spawn(host.command(process.execPath, "-e", script), { stdout: "pipe", stderr: "ignore" });
  await child.stdout.getReader().read();
  return async () => {
    child.kill();
    await child.exited;
  };
}

const cases: readonly [string, () => Promise<() => Promise<unknown>>, string[], number, string][] = [
  [
    "the mesh's port is in use",
    () => occupy(6783, "0.0.0.0"),
    [],
    1,
    "cannot listen for peers on :6783: TCP port 6783 is in use by",
  ],
  [
    "the control port is in use",
    () => occupy(6784, "127.0.0.1"),
    [],
    1,
    "cannot serve the control API on 127.0.0.1:6784",
  ],
  [
    "a link of the bridge's name is no bridge",
    async () => {
      await host.must(["ip", "link", "add", "weave", "type", "veth", "peer", "name", "weave-peer"]);
      return () => host.must(["ip", "link", "del", "weave"]);
    },
    [],
    1,
    'link "weave" is in the way: not a bridge',
  ],
  [
    "a link of the overlay's name is another kind of link",
    async () => {
      await host.must(["ip", "link", "add", "vxlan-6784", "type", "vxlan", "id", "5", "dstport", "4789"]);
      return () => host.must(["ip", "link", "del", "vxlan-6784"]);
    },
    [],
    1,
    "link vxlan-6784 is in the way: not an external VXLAN link on UDP port 6784",
  ],
  [
    "a folder is where the control socket belongs",
    async () => {
      mkdirSync(join(host.folder, "run/weave.sock"), { recursive: true });
      return () => host.must(["rm", "-r", join(host.folder, "run/weave.sock")]);
    },
    [],
    1,
    "run/weave.sock is in the way: not a socket; remove it",
  ],
  [
    "a file is where the run folder belongs",
    async () => {
      const folder = join(host.folder, "run");
      await host.must(["sh", "-ec", `rm -r ${folder}; touch ${folder}`]);
      return () => host.must(["rm", folder]);
    },
    [],
    1,
    "/run is not a folder; remove it",
  ],
  [
    "the name of a peer cannot be one",
    async () => async () => {},
    ["10.99.0.1:6783/x"],
    2,
    'peer "10.99.0.1:6783/x": should be HOST or HOST:PORT',
  ],
  ["the password is empty", async () => async () => {}, ["--password="], 2, '--password: "": is empty'],
  [
    "the state file is damaged",
    async () => {
      mkdirSync(join(host.folder, "lib"), { recursive: true });
      writeFileSync(
        join(host.folder, "lib/weave.db"),
        "this is no database, and long enough to be looked at as one".repeat(50),
      );
      return () => host.must(["rm", "-rf", join(host.folder, "lib")]);
    },
    [],
    3,
    "moved to",
  ],
];

describe.each([[[]], [["--foreground"]]])("launch %p", (mode) => {
  test.each(cases)("%s", async (_what, arrange, args, code, text) => {
    const undo = await arrange();
    try {
      const before = await state();
      const launch = [join(DIST, "weave"), "launch", "--ipalloc-init=consensus=1", ...mode, ...args];
      const result = await host.exec(launch, { timeoutMs: 20_000 });
      const lines = result.stderr.trim().split("\n");
      expect(lines.at(-1)).toContain(text);
      if (mode.length === 0) expect(lines.length).toBe(1);
      expect(result.code).toBe(code);
      expect(await state()).toEqual(before);
    } finally {
      await undo();
    }
  });
});

test("another router has the TAP link: the launch fails, and that one goes on", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1");
  const other = {
    WEAVE_RUN_DIR: join(host.folder, "other/run"),
    WEAVE_STATE_DIR: join(host.folder, "other/lib"),
  };
  const launch = [join(DIST, "weave"), "launch", "--ipalloc-init=consensus=1", "--http-addr=127.0.0.1:7784"];
  const { code, stderr } = await host.exec(launch, { env: other, timeoutMs: 20_000 });
  expect([code, stderr]).toEqual([1, expect.stringContaining("link sleeve-6783 is in use")]);
  expect(await host.weave("status")).toContain("Service: router");
  await host.weave("reset", "--force");
});

test("a launch without CAP_NET_ADMIN is refused, and leaves nothing behind", async () => {
  const before = await state();
  const launch = ["setpriv", "--bounding-set=-net_admin", join(DIST, "weave"), "launch"];
  const { code, stderr } = await host.exec(launch, { timeoutMs: 20_000 });
  expect([code, stderr]).toEqual([1, expect.stringContaining("the router cannot run without CAP_NET_ADMIN")]);
  expect(await state()).toEqual(before);
});

test("another VXLAN link has the port: sleeve does without, and the status says so", async () => {
  await host.must(["ip", "link", "add", "vx7", "up", "type", "vxlan", "external", "dstport", "6784"]);
  try {
    await host.weave("launch", "--ipalloc-init=consensus=1");
    expect(await host.weave("status")).toContain("no VXLAN link on UDP port 6784");
    await host.weave("reset", "--force");
  } finally {
    await host.must(["ip", "link", "del", "vx7"]);
  }
});

test("a program has the fast datapath's UDP port: sleeve does without, too", async () => {
  const script = 'await Bun.udpSocket({ hostname: "0.0.0.0", port: 6784 }); console.log("ready");';
  const child = Bun.spawn(host.command(process.execPath, "-e", script), { stdout: "pipe", stderr: "ignore" });
  await child.stdout.getReader().read();
  await host.weave("launch", "--ipalloc-init=consensus=1");
  expect(await host.weave("status")).toContain(
    "cannot repair VXLAN link: no VXLAN link on UDP port 6784: UDP port 6784 is in use by bun",
  );
  expect(await host.must(["ip", "-br", "link"])).not.toContain("vxlan-6784");
  await host.weave("reset", "--force");
  child.kill();
  await child.exited;
});

describe("the pid file and the log", () => {
  const runFile = (name: string) => join(host.folder, "run", name);
  const launch = () =>
    host.exec([join(DIST, "weave"), "launch", "--ipalloc-init=consensus=1"], { timeoutMs: 20_000 });

  test("others cannot lock the pid file, and a launch repairs the mode of an older version's", async () => {
    mkdirSync(join(host.folder, "run"), { recursive: true });
    writeFileSync(runFile("weave.pid"), "");
    chmodSync(runFile("weave.pid"), 0o644);
    for (const path of [hosts.folder, host.folder]) chmodSync(path, 0o755);
    await host.weave("launch", "--ipalloc-init=consensus=1");
    expect(statSync(runFile("weave.pid")).mode & 0o777).toBe(0o600);
    const nobody = [
      "setpriv",
      "--reuid=65534",
      "--clear-groups",
      "flock",
      "-n",
      runFile("weave.pid"),
      "true",
    ];
    expect((await exec(nobody)).stderr).toContain("Permission denied");
    const again = await launch();
    expect(again.stderr).toContain(`weave is already running (pid ${host.pid})`);
    await host.weave("stop");
  });

  test("stop signals the holder of the lock, not whoever has the pid in the file", async () => {
    const bystander = Bun.spawn(["sleep", "600"]);
    const holder = Bun.spawn(["flock", "-x", runFile("weave.pid"), "sleep", "600"], { detached: true });
    try {
      await eventually(
        "the lock is held",
        () => lockHolder(runFile("weave.pid")),
        (pid) => pid === holder.pid,
      );
      writeFileSync(runFile("weave.pid"), `${bystander.pid}\n`);
      const { stderr } = await host.exec([join(DIST, "weave"), "stop"], { timeoutMs: 20_000 });
      expect(stderr).toContain("weave is not running");
      expect([bystander.exitCode, bystander.signalCode]).toEqual([null, null]);
      expect((await launch()).stderr).toContain("weave is already running");
    } finally {
      process.kill(-holder.pid, "SIGKILL");
      await holder.exited;
      bystander.kill();
    }
    // The program that it runs has the file open, too.
    await eventually(
      "the lock is free",
      () => lockHolder(runFile("weave.pid")),
      (pid) => pid === undefined,
    );
  });

  test("a stopped router is ended, too", async () => {
    await host.weave("launch", "--ipalloc-init=consensus=1");
    process.kill(host.pid, "SIGSTOP");
    await host.weave("stop");
    expect(lockHolder(runFile("weave.pid"))).toBeUndefined();
  });

  test.each([
    ["weave.pid", (path: string, target: string) => symlinkSync(target, path), "too many symbolic links"],
    ["weave.log", (path: string, target: string) => symlinkSync(target, path), "too many symbolic links"],
    ["weave.log", (path: string) => must(["mkfifo", path]), ""],
    ["weave.pid", (path: string) => mkdirSync(path), ""],
  ])("something else in the place of %s is refused", async (name, put, reason) => {
    const target = join(host.folder, "target");
    writeFileSync(target, "untouched");
    rmSync(runFile(name), { force: true });
    await put(runFile(name), target);
    try {
      const { code, stderr } = await launch();
      expect(code).toBe(1);
      expect(stderr).toContain(runFile(name));
      expect(stderr).toContain(reason);
      expect(readFileSync(target, "utf8")).toBe("untouched");
    } finally {
      rmSync(runFile(name), { recursive: true });
    }
  });

  test("a run folder that others can write is refused", async () => {
    chmodSync(join(host.folder, "run"), 0o777);
    const { code, stderr } = await launch();
    chmodSync(join(host.folder, "run"), 0o755);
    expect([code, stderr]).toEqual([1, expect.stringContaining("is writable by other users")]);
  });
});

test("and after all that, a launch succeeds", async () => {
  expect(await host.weave("launch", "--ipalloc-init=consensus=1")).toStartWith("weave is running");
});

test("a start with the previous bridge but no attached container starts no thread for containers", async () => {
  for (let i = 0; i < 2; i++) {
    await host.weave("stop");
    await host.weave("launch", "--ipalloc-init=consensus=1");
  }
  const folder = `/proc/${host.pid}/task`;
  const threads = readdirSync(folder).map((tid) => readFileSync(`${folder}/${tid}/comm`, "utf8").trim());
  expect(threads).not.toContain("Worker");
});

describe("requests over TCP", () => {
  test("too many connections are closed before they take all of the router's files", async () => {
    // The router counts each 2 s: where that is before the last of them, those after it stay open.
    const script = `
      const net = require("node:net");
      let closed = 0;
      for (let i = 0; i < 600; i++)
        net.connect(6784, "127.0.0.1").on("error", () => {}).on("close", () => {
          if (++closed === 400) process.exit();
        });`;
    await host.weave("stop");
    const limited = [
      "prlimit",
      "--nofile=1000:1000",
      join(DIST, "weave"),
      "launch",
      "--ipalloc-init=consensus=1",
    ];
    await host.must(limited);
    await host.must([process.execPath, "-e", script], { timeoutMs: 30_000 });
    expect(await host.weave("status")).toContain("closed connections to the HTTP ports");
    expect(await raw("GET /healthz HTTP/1.0\r\n\r\n")).toContain("ok");
  });

  /** What comes back for these bytes, until the router closes the connection or has answered. */
  const raw = (request: string) => {
    const script = `
      const socket = require("node:net").connect(6784, "127.0.0.1", () => socket.write(${JSON.stringify(request)}));
      socket.on("data", (data) => { process.stdout.write(data); socket.end(); });`;
    return host.must([process.execPath, "-e", script], { timeoutMs: 20_000 });
  };

  test("one of HTTP/1.0 need not name a host", async () => {
    expect(await raw("GET /status HTTP/1.0\r\n\r\n")).toMatch(/^HTTP\/1.1 200 .*Service: router/s);
  });

  test.each([
    "GET http://[/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET //[ HTTP/1.0\r\n\r\n",
    "GET /ip/%E0%A4%A HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /status HTTP/1.1\r\nHost: %%%\r\n\r\n",
  ])("no answer has a page with our source in it: %p", async (request) => {
    const answer = await raw(request);
    expect(answer).toMatch(/^HTTP\/1.1 \d\d\d /);
    expect(answer).not.toMatch(/<html|bunfs|\.ts:/i);
  });
});
