// Agents of a Mesos cluster: the task as Marathon runs it, by the app that we print; and containers as Mesos' CNI isolator
// attaches them (src/slave/containerizer/mesos/isolators/network/cni/cni.cpp).
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, eventually, exec, type Host, Hosts, must, type Output } from "../support/hosts.ts";
import { LATE_S } from "../support/pods.ts";

let hosts: Hosts;
let app: { cmd: string; env: Record<string, string>; constraints: string[][] };
const handles: string[] = [];
const tasks = new Map<number, Bun.Subprocess<"ignore", "ignore", "pipe">>();

/** The folder that `ip netns exec` takes files of /etc from. */
const etc = (host: Host) => `/etc/netns/${host.netns}`;
const agent = (number: number) => hosts.host(number + 1);

/** A command line on an agent, as a task has it. */
const onAgent = (number: number, command: string) => [
  ...agent(number).command("unshare", "--uts", "sh", "-c"),
  `hostname c1agent${number}; ${command}`,
];
const environment = (number: number, env: Record<string, string> = {}) => ({
  ...process.env,
  ...agent(number).env,
  ...app.env,
  ...env,
});
const folders = (number: number) =>
  `--cni-bin-dir ${agent(number).folder}/mesos/bin --cni-conf-dir ${agent(number).folder}/mesos/conf`;

function start(number: number): void {
  const command = onAgent(number, `${app.cmd} ${folders(number)}`);
  tasks.set(
    number,
    Bun.spawn(command, {
      env: environment(number),
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    }),
  );
}

const run = (number: number, env: Record<string, string>, command = `${app.cmd} ${folders(number)}`) =>
  exec(onAgent(number, command), {
    env: environment(number, env) as Record<string, string>,
    timeoutMs: 20_000,
  });

beforeAll(async () => {
  hosts = await Hosts.create("mes", 3);
  const names = hosts.hosts.map(({ ip }, number) => `${ip} c1agent${number}\n`).join("");
  for (const host of hosts.hosts) {
    mkdirSync(etc(host), { recursive: true });
    writeFileSync(join(etc(host), "hosts"), `127.0.0.1 localhost\n${names}`);
    writeFileSync(join(etc(host), "resolv.conf"), "");
  }
  const parameters = ["--host-prefix", "c1agent", "--ipalloc-range", "10.32.0.0/12", "--instances", "3"];
  const weave = join(DIST, "weave");
  app = JSON.parse(await must([weave, "manifest", "marathon", ...parameters, "--command", weave]));
});

afterAll(async () => {
  for (const task of tasks.values()) {
    task.kill();
    await task.exited;
  }
  for (const handle of handles) await exec(["umount", handle]);
  for (const host of hosts?.hosts ?? []) rmSync(etc(host), { recursive: true, force: true });
  hosts?.disposeSync();
});

describe("an agent that cannot be part of it says why, and nothing is done", () => {
  test.each([
    [
      { IPALLOC_RANGE: "10.99.0.0/16" },
      "IPALLOC_RANGE 10.99.0.0/16 overlaps with existing route 10.99.0.0/24 of this host: choose a range that no host uses",
    ],
    [{ HOST_PREFIX: "c2agent" }, 'the host name "c1agent0" is not HOST_PREFIX "c2agent" and a number'],
    [{ HOST_PREFIX: "" }, "--mesos needs HOST_PREFIX"],
    [{ IPALLOC_RANGE: "" }, "--mesos needs IPALLOC_RANGE"],
    [{ IPALLOC_INIT: "now" }, '--ipalloc-init: "now"'],
  ])("%o", async (env, message) => {
    const { code, stderr } = await run(0, env);
    expect(code).not.toBe(0);
    expect(stderr).toContain(message);
    expect((await agent(0).exec(["ip", "link", "show", "weave"])).code).not.toBe(0);
    expect(() => readdirSync(join(agent(0).folder, "mesos"))).toThrow();
  });
});

test("each agent is connected to those beside it, and by them to all; no host has two", async () => {
  expect(app.constraints).toEqual([["hostname", "UNIQUE"]]);
  for (const number of [0, 1, 2]) start(number);
  for (const number of [0, 1, 2]) {
    await eventually(
      `agent ${number} knows all`,
      () =>
        agent(number)
          .status()
          .catch(() => ""),
      (text) => text.includes("Peers: 3"),
    );
  }
  const targets = async (number: number) =>
    (await agent(number).weave("status", "targets")).trim().split("\n");
  expect(await targets(0)).toEqual(["c1agent1"]);
  expect((await targets(1)).sort()).toEqual(["c1agent0", "c1agent2"]);
  expect(await targets(2)).toEqual(["c1agent1"]);
  const { code, stderr } = await run(1, {});
  expect(code).toBe(1);
  expect(stderr).toContain("weave is already running");
}, 300_000);

/** A call of the isolator for a container, with the network's configuration as the agent has read it. */
async function isolator(
  number: number,
  command: string,
  container: string,
  network: string,
  netns: string,
): Promise<Output> {
  const conf = join(agent(number).folder, "mesos/conf");
  const plugins = join(agent(number).folder, "mesos/bin");
  // All files of the folder are read; what is no configuration of one network is passed over.
  const configs = readdirSync(conf).map((file) => JSON.parse(readFileSync(join(conf, file), "utf8")));
  const config = configs.find(({ name, type }) => name === network && typeof type === "string");
  config.args = {
    "org.apache.mesos": {
      network_info: { name: network, labels: { labels: [{ key: "app", value: "web" }] } },
    },
  };
  // The environment has nothing in it but this.
  const variables = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: container,
    CNI_PATH: plugins,
    CNI_IFNAME: "eth0",
    CNI_NETNS: netns,
    PATH: process.env["PATH"] ?? "",
    ...agent(number).env,
  };
  const assignments = Object.entries(variables).map(([key, value]) => `${key}=${value}`);
  return exec(agent(number).command("env", "-i", ...assignments, join(plugins, config.type)), {
    stdin: JSON.stringify(config),
  });
}

test("containers get their addresses by the isolator's calls, and give them back", async () => {
  await hosts.meshed();
  const attached: { netns: string; handle: string; address: string; id: string }[] = [];
  for (const number of [0, 2]) {
    const id = crypto.randomUUID();
    const path = await hosts.pod(`task${number}`);
    // The isolator keeps a handle of its own.
    const handle = join(agent(number).folder, `${id}-ns`);
    writeFileSync(handle, "");
    await must(["mount", "--bind", path, handle]);
    handles.push(handle);
    const { code, stdout } = await isolator(number, "ADD", id, "weave", handle);
    expect(code).toBe(0);
    const result = JSON.parse(stdout);
    // What Mesos can read: CNI 0.2, an address with its prefix.
    expect(result.ip4.ip).toMatch(/^10\.(3[2-9]|4[0-7])\.\d+\.\d+\/12$/);
    attached.push({ netns: path.split("/").at(-1) ?? "", handle, address: result.ip4.ip.split("/")[0], id });
  }
  const [one, two] = attached;
  if (!one || !two) throw new Error("two were to be attached");
  const ping = ["ping", "-n", "-c", "2", "-W", String(LATE_S)];
  expect((await exec(["ip", "netns", "exec", one.netns, ...ping, two.address])).code).toBe(0);
  for (const [i, number] of [0, 2].entries()) {
    const { id, handle } = attached[i] ?? one;
    // The isolator may try again.
    for (let times = 0; times < 2; times++)
      expect((await isolator(number, "DEL", id, "weave", handle)).code).toBe(0);
    expect(
      (await agent(number).weave("ps")).split("\n").some((line) => line.startsWith(id.slice(0, 12))),
    ).toBe(false);
  }
}, 300_000);

test("an agent whose task ends goes on forwarding, and the next task takes over without a reboot", async () => {
  const [path, other] = [await hosts.pod("before"), await hosts.pod("after")];
  const add = async (number: number, id: string, netns: string) =>
    JSON.parse((await isolator(number, "ADD", id, "weave", netns)).stdout).ip4.ip.split("/")[0];
  await add(1, "before", path);
  const address = await add(0, "after", other);
  await hosts.meshed();
  tasks.get(1)?.kill();
  await tasks.get(1)?.exited;
  const ping = [
    "ip",
    "netns",
    "exec",
    path.split("/").at(-1) ?? "",
    "ping",
    "-n",
    "-c",
    "1",
    "-W",
    String(LATE_S),
    address,
  ];
  expect((await exec(ping)).code).toBe(0);
  start(1);
  await eventually(
    "the next task is there",
    () =>
      agent(1)
        .status()
        .catch(() => ""),
    (text) => text.includes("Peers: 3"),
  );
  expect((await exec(ping)).code).toBe(0);
}, 300_000);
