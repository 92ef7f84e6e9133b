// The life of the daemon: it ends in order in every phase, and a launch whose router dies says why.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { lockHolder } from "../../lib/sys/lockholder.ts";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";
import { kernelState, settledState, stateDifference } from "../support/kernelstate.ts";
import { NotifySocket } from "../support/notifysocket.ts";
import { addPod, ping } from "../support/pods.ts";
import { randomOf } from "../support/seed.ts";

let hosts: Hosts;
let host: Host;
let log: string;

beforeAll(async () => {
  hosts = await Hosts.create("lif", 1);
  host = hosts.host(1);
  log = join(hosts.folder, "foreground.log");
});

afterAll(() => hosts.disposeSync());

const logged = () => (existsSync(log) ? readFileSync(log, "utf8") : "");

/** Runs a command of the host until `use` is done with it. */
async function running(
  command: readonly string[],
  use: (child: Bun.Subprocess) => Promise<void>,
  env: Record<string, string> = {},
): Promise<void> {
  writeFileSync(log, "");
  const child = Bun.spawn(host.command(...command), {
    env: { ...(process.env as Record<string, string>), ...host.env, ...env },
    stdout: "ignore",
    stderr: Bun.file(log),
  });
  try {
    await use(child);
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
}

const foreground = (...args: string[]) => [join(DIST, "weave"), "launch", "--foreground", ...args];
const says = (text: string) => eventually(`the log says "${text}"`, logged, (lines) => lines.includes(text));

/** Ends it by SIGTERM; everything has to be closed by then, and nothing given up. */
async function ends(child: Bun.Subprocess): Promise<void> {
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
  expect(logged()).toContain("exiting on SIGTERM");
  expect(logged()).not.toMatch(/^ERRO|unexpected error/m);
  expect(lockHolder(join(host.folder, "run/weave.pid"))).toBeUndefined();
  expect(existsSync(join(host.folder, "run/weave.sock"))).toBe(false);
}

/** Answers DNS queries with nothing: whoever asks waits. */
async function silentNameserver(): Promise<() => Promise<void>> {
  const netns = host.netns;
  mkdirSync(`/etc/netns/${netns}`, { recursive: true });
  writeFileSync(`/etc/netns/${netns}/resolv.conf`, "nameserver 127.0.0.9\noptions timeout:30\n");
  const script = 'await Bun.udpSocket({ hostname: "127.0.0.9", port: 53 }); console.log("ready");';
  const child = Bun.spawn(host.command(process.execPath, "-e", script), { stdout: "pipe", stderr: "ignore" });
  await child.stdout.getReader().read();
  return async () => {
    child.kill();
    await child.exited;
    rmSync(`/etc/netns/${netns}`, { recursive: true });
  };
}

describe("SIGTERM ends the router in order", () => {
  test("at random moments of its start", async () => {
    const random = randomOf("moments of a start");
    const before = await settledState(host);
    for (let i = 0; i < Number(process.env["ROUNDS"] ?? 5); i++) {
      await running(foreground("--ipalloc-init=consensus=1"), async (child) => {
        await says("INFO: ");
        await Bun.sleep(random.below(250));
        await ends(child);
        // A start that was interrupted leaves the host as it was.
        if (logged().includes("weave is ready")) await host.weave("reset", "--force");
        expect(stateDifference(before, await kernelState(host.netns))).toEqual([]);
      });
    }
  }, 300_000);

  test("while the name of a peer is being resolved", async () => {
    const stop = await silentNameserver();
    try {
      await running(foreground("peer.example"), async (child) => {
        await says("weave is ready");
        await ends(child);
      });
      await host.weave("reset", "--force");
    } finally {
      await stop();
    }
  });

  test("while a container waits for its address, which is told to come again", async () => {
    const netns = await hosts.pod("waits");
    await running(foreground("--ipalloc-init=consensus=2", "10.99.0.9"), async (child) => {
      await says("weave is ready");
      const config = { cniVersion: "1.0.0", name: "weave", type: "weave-net" };
      const add = host.cni("ADD", config, { id: "waits", netns });
      await eventually(
        "the call is held",
        () => host.report("{{json .IPAM.PendingAllocates}}"),
        (text) => text.includes("waits"),
      );
      await ends(child);
      expect(JSON.parse((await add).stdout)).toHaveProperty("code");
    });
  });

  test("and at once where it comes twice", async () => {
    await running(foreground("--ipalloc-init=consensus=1"), async (child) => {
      await says("weave is ready");
      child.kill("SIGTERM");
      child.kill("SIGINT");
      expect(await child.exited).toBe(0);
    });
    await host.weave("launch", "--ipalloc-init=consensus=1");
    await host.weave("reset", "--force");
  });

  test.each([
    ["refuses", "http://127.0.0.1:1"],
    ["says nothing", "http://127.0.0.8:6443"],
  ])("while the API server %s", async (_how, server) => {
    const kubeconfig = join(host.folder, "kubeconfig");
    const cluster = { name: "c", cluster: { server } };
    const context = { name: "c", context: { cluster: "c", user: "u" } };
    const user = { name: "u", user: { token: "t" } };
    writeFileSync(
      kubeconfig,
      JSON.stringify({ "current-context": "c", contexts: [context], clusters: [cluster], users: [user] }),
    );
    const script = `
      require("node:net").createServer(() => console.log("asked")).listen(6443, "127.0.0.8", () => console.log("ready"));`;
    const silent = Bun.spawn(host.command(process.execPath, "-e", script), {
      stdout: "pipe",
      stderr: "ignore",
    });
    const reader = silent.stdout.getReader();
    await reader.read();
    try {
      const node = { HOSTNAME: "node1", EXPECT_NPC: "0" };
      const command = [join(DIST, "weave-router"), "--kubernetes", `--kubeconfig=${kubeconfig}`];
      await running(
        command,
        async (child) => {
          if (server.endsWith(":6443")) await reader.read();
          else await says("cannot enter the cluster yet");
          await ends(child);
        },
        node,
      );
    } finally {
      silent.kill();
      await silent.exited;
    }
  });
});

describe("a service of systemd", () => {
  const router = (...args: string[]) => [join(DIST, "weave-router"), ...args];
  const env = (socket: NotifySocket) => ({ NOTIFY_SOCKET: socket.path, WATCHDOG_USEC: "200000" });

  test("is ready without DNS, is alive while its event loop turns, and says that it stops", async () => {
    const stop = await silentNameserver();
    using socket = new NotifySocket(join(hosts.folder, "notify"));
    try {
      await running(
        router("peer.example"),
        async (child) => {
          await socket.said("READY=1");
          await socket.said("WATCHDOG=1", 3);
          process.kill(host.pid, "SIGSTOP");
          await eventually(
            "the router is stopped",
            () => readFileSync(`/proc/${host.pid}/stat`, "utf8").split(") ")[1]?.[0],
            (state) => state === "T",
          );
          const stopped = socket.lines.length;
          // Six times as long as between two of them.
          await Bun.sleep(600);
          expect(socket.lines.length).toBe(stopped);
          process.kill(host.pid, "SIGCONT");
          await socket.said("WATCHDOG=1", 6);
          expect(await host.weave("status")).toContain("Targets: 1");
          await ends(child);
        },
        env(socket),
      );
      expect(socket.lines).toContain("STOPPING=1");
    } finally {
      await stop();
      await host.weave("reset", "--force");
    }
  });

  test("says why it does not start", async () => {
    using socket = new NotifySocket(join(hosts.folder, "notify"));
    await running(
      router("--ipalloc-range=10.99.0.0/16", "--http-addr=10.98.0.1:80"),
      async (child) => {
        expect(await child.exited).toBe(1);
        expect(socket.lines.join()).toContain("STATUS=cannot serve the control API on 10.98.0.1:80");
        expect(socket.lines).not.toContain("READY=1");
      },
      env(socket),
    );
  });
});

/** Write garbage into all pipes that a process has between its own threads. */
function disturb(pid: number): void {
  const pipes = new Map<string, Set<string>>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const target = readlinkSync(`/proc/${pid}/fd/${fd}`);
      if (!target.startsWith("pipe:")) continue;
      const flags = Number.parseInt(
        /flags:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8"))?.[1] ?? "",
        8,
      );
      const ends = pipes.get(target) ?? new Set();
      pipes.set(target, ends.add(flags & 1 ? fd : "read"));
    } catch {
      // Closed meanwhile.
    }
  }
  for (const ends of pipes.values()) {
    const [writing] = [...ends].filter((end) => end !== "read");
    if (ends.size < 2 || writing === undefined) continue;
    try {
      writeFileSync(`/proc/${pid}/fd/${writing}`, new Uint8Array([4, 0, 0, 0, 255, 255, 255, 255]));
    } catch {
      // Likewise.
    }
  }
}

test.each([
  ["fastdp", []],
  ["sleeve", ["--no-fastdp", "--password=s3cr3t"]],
])(
  "a sleeve engine that fails is started again, under %s",
  async (overlay, options) => {
    await using pair = await Hosts.create(`eng${overlay[0]}`, 2);
    const [a, b] = [pair.host(1), pair.host(2)];
    await a.weave("launch", "--ipalloc-init=consensus=2", ...options);
    await b.weave("launch", "--ipalloc-init=consensus=2", ...options, a.ip);
    const [one, two] = [await addPod(pair, a, "one"), await addPod(pair, b, "two")];
    const established = () =>
      eventually(
        `a connection by ${overlay}`,
        () => b.status("connections"),
        (text) => new RegExp(` established .*\\b${overlay} `).test(text),
      );
    const talk = () =>
      eventually(
        "pods talk",
        () => ping(one, two.address),
        ({ code }) => code === 0,
      );
    await established();
    await talk();
    const { pid } = b;
    const connections = b.log.match(/connection fully established/g)?.length ?? 0;
    disturb(pid);
    await eventually(
      "the engine is back, and its connections",
      () => b.log,
      (text) =>
        text.includes("restarted the sleeve engine") &&
        (text.match(/connection fully established/g)?.length ?? 0) > connections,
    );
    await established();
    await talk();
    expect(await b.weave("status")).toContain("the sleeve engine has failed");
    expect(b.pid).toBe(pid);
    const [report = "", ...others] = readdirSync(join(b.folder, "lib/crashes"));
    expect(others).toEqual([]);
    expect(JSON.parse(readFileSync(join(b.folder, "lib/crashes", report), "utf8"))).toMatchObject({
      kind: "failed part",
      what: "the sleeve engine",
    });
  },
  300_000,
);

test("a launch whose router is killed while it starts says so", async () => {
  const stop = await silentNameserver();
  try {
    const launchAndKill = async () => {
      const launch = host.exec([join(DIST, "weave"), "launch", "peer.example"], { timeoutMs: 20_000 });
      await eventually(
        "it has started",
        () => lockHolder(join(host.folder, "run/weave.pid")),
        (pid) => pid !== undefined && existsSync(join(host.folder, "run/weave.sock")),
      );
      await host.killRouter();
      return launch;
    };
    // A launch waits 1.5 s for peers: on a busy machine it may have ended before the router does.
    const { code, stderr } = await eventually(
      "it is met while it starts",
      launchAndKill,
      ({ code }) => code !== 0,
    );
    expect([code, stderr]).toEqual([1, expect.stringContaining("the router was ended by SIGKILL")]);
  } finally {
    await stop();
  }
});
