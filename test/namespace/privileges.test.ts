// What the running daemons may do: the privileges of each of their threads as the kernel shows them, and what a program gets
// that the router runs when it tries more.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Privileges, privilegesIn } from "../../lib/sys/confine.ts";
import { capabilityBits, type DaemonName, namesOf } from "../../lib/sys/privileges.ts";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";

let hosts: Hosts;
let host: Host;
const children: Bun.Subprocess[] = [];

/** What this machine lets root have at all. */
const machine = privilegesIn(readFileSync("/proc/self/status", "utf8")).bounding;

beforeAll(async () => {
  hosts = await Hosts.create("prv", 1);
  host = hosts.host(1);
});

afterAll(async () => {
  for (const child of children) {
    child.kill("SIGKILL");
    await child.exited;
  }
  hosts.disposeSync();
});

const threads = (pid: number): Privileges[] =>
  readdirSync(`/proc/${pid}/task`).flatMap((tid) => {
    try {
      return [privilegesIn(readFileSync(`/proc/${pid}/task/${tid}/status`, "utf8"))];
    } catch (error) {
      // A thread of a pool may have ended meanwhile: ESRCH where its file was open by then.
      if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return [];
      throw error;
    }
  });

function expected(daemon: DaemonName): Privileges {
  const allowed = capabilityBits(namesOf(daemon)) & machine;
  return {
    inheritable: 0n,
    permitted: allowed,
    effective: allowed,
    bounding: allowed,
    ambient: 0n,
    noNewPrivileges: true,
    filtered: true,
  };
}

function expectConfined(pid: number, daemon: DaemonName, least: number): void {
  const found = threads(pid);
  expect(found.length).toBeGreaterThanOrEqual(least);
  for (const each of found) expect(each).toEqual(expected(daemon));
}

const pidOf = (at: Host) => Number(readFileSync(join(at.folder, "run/weave.pid"), "utf8"));

function start(...command: string[]): Bun.Subprocess<"ignore", "pipe", "pipe"> {
  const child = Bun.spawn(host.command(...command), {
    env: { ...process.env, ...host.env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  children.push(child);
  return child;
}

test("every thread of a launched router has the privileges of the table, and no others", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await host.weave("attach", "--netns", await hosts.pod("a"));
  expectConfined(pidOf(host), "weave-router", 5);
});

test("more is refused by the kernel, to programs that a confined process runs, too", async () => {
  const tries = [
    "mount -t tmpfs none /mnt",
    "hostname taken",
    "chroot / true",
    `mknod ${join(host.folder, "node")} c 1 3`,
    "chown 1:1 /proc/self/comm",
    "setpriv --reuid 1 --clear-groups true",
    "nsenter --target 1 --mount true",
  ];
  const shell = [
    "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status",
    ...tries.map((command) => `${command} > /dev/null 2>&1 && echo 'done: ${command}'`),
    // What it is for is not refused.
    "ip link add prv-dummy type bridge && ip link delete prv-dummy && echo 'link added'",
  ].join("\n");
  for (const daemon of ["weave-router", "weave-npc"] as const) {
    const program = `
      const { limitNextProgram, confine } = await import(${JSON.stringify(join(import.meta.dir, "../../lib/sys/confine.ts"))});
      limitNextProgram("${daemon}");
      confine("${daemon}");
      process.stdout.write(Bun.spawnSync(["sh", "-c", ${JSON.stringify(shell)}]).stdout);`;
    const text = await host.must([process.execPath, "-e", program]);
    expect(privilegesIn(text)).toEqual(expected(daemon));
    expect(text.match(/^done: .*|^link added$/gm)).toEqual(["link added"]);
  }
  // The same, without that: it is not this machine that refuses.
  const unconfined = (await host.exec(["unshare", "--mount", "--uts", "sh", "-c", shell])).stdout;
  expect(unconfined.match(/^done: .*/gm)?.length).toBeGreaterThanOrEqual(3);
});

test("a router in the foreground, by each of its names, is confined in the same way", async () => {
  await host.weave("stop");
  for (const command of [
    [join(DIST, "weave-router"), "--ipalloc-init=consensus=1"],
    [join(DIST, "weave"), "launch", "--foreground", "--ipalloc-init=consensus=1"],
  ]) {
    const child = start(...command);
    await eventually(
      "the router answers",
      () => host.status().catch(String),
      (text) => text.includes("Service: router"),
    );
    expectConfined(pidOf(host), "weave-router", 3);
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
  }
});

test("weave-npc has fewer", async () => {
  const kubeconfig = join(host.folder, "kubeconfig");
  const cluster = { name: "c", cluster: { server: "https://127.0.0.1:1" } };
  const context = { name: "x", context: { cluster: "c", user: "u" } };
  const users = [{ name: "u", user: { token: "t" } }];
  writeFileSync(
    kubeconfig,
    JSON.stringify({ clusters: [cluster], contexts: [context], users, "current-context": "x" }),
  );
  const npc = start(join(DIST, "weave-npc"), "--node-name", "n", "--kubeconfig", kubeconfig);
  await eventually(
    "weave-npc answers",
    async () => (await host.exec(["curl", "-s", "http://127.0.0.1:6781/healthz"])).stdout,
    (text) => text === "ok\n",
  );
  expectConfined(npc.pid, "weave-npc", 3);
});
