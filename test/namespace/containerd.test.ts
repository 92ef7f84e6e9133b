// containerd by its CRI socket: many sandboxes with host ports at once, and what fails meanwhile. Nothing is left behind.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Containerd } from "../support/containerd.ts";
import { eventually, type Host, Hosts } from "../support/hosts.ts";

const EACH = 15;

let hosts: Hosts;
let nodes: { host: Host; runtime: Containerd }[] = [];

const node = (i: number) => {
  const found = nodes[i - 1];
  if (!found) throw new Error(`there is no node ${i}`);
  return found;
};

beforeAll(async () => {
  hosts = await Hosts.create("cri", 2);
  const [one, two] = [hosts.host(1), hosts.host(2)];
  await one.weave("launch", "--ipalloc-init=consensus=1");
  // One that divided the range alone would give out the same addresses.
  await two.weave("launch", "--ipalloc-init=observer", one.ip);
  nodes = await Promise.all(
    hosts.hosts.map(async (host) => ({ host, runtime: await Containerd.start(host) })),
  );
}, 300_000);

afterAll(async () => {
  for (const { runtime } of nodes) await runtime.end();
  hosts?.disposeSync();
});

const tcp = (port: number) => [{ protocol: 0, container_port: 80, host_port: port }];

/** Who answers at a host port of a host, asked from another; "" at once where it is not forwarded. */
const who = async (from: Host, host: Host, port: number) =>
  (await from.exec(["curl", "-s", "-m", "30", `http://${host.ip}:${port}/cgi-bin/who`])).stdout.trim();

/** Wait until a sandbox that was just started listens. */
const answersAs = (name: string, from: Host, host: Host, port: number) =>
  eventually(
    `${name} answers`,
    () => who(from, host, port),
    (answer) => answer === name,
  );

/** What is left on a host: addresses, links, rules. */
async function left(host: Host): Promise<string> {
  const [held, links, tables] = await Promise.all([
    host.weave("ps"),
    host.must(["ip", "-br", "link"]),
    host.must(["nft", "list", "tables"]),
  ]);
  return [
    ...held.split("\n").filter((line) => line !== "" && !line.startsWith("weave:")),
    ...links.split("\n").filter((line) => line.startsWith("vethwepl")),
    ...tables.split("\n").filter((line) => line.includes("hostports")),
  ].join("\n");
}

const nothingLeft = async () => {
  for (const { host } of nodes)
    await eventually(
      `nothing is left on ${host.name}`,
      () => left(host),
      (text) => text === "",
      30_000,
    );
};

/** Lines of the routers' logs above information. */
const complaints = () =>
  nodes.flatMap(({ host }) => host.log.split("\n").filter((line) => /^(WARN|ERRO): /.test(line)));

let before = 0;
afterEach(() => {
  before = complaints().length;
});

test("30 sandboxes at once on two hosts, each behind its own host port; deleted at once, nothing is left", async () => {
  const all = Array.from({ length: 2 * EACH }, (_, i) => ({
    ...node((i % 2) + 1),
    name: `pod${i}`,
    port: 8000 + i,
  }));
  const ids = await Promise.all(all.map(({ runtime, name, port }) => runtime.runSandbox(name, tcp(port))));
  const addresses = await Promise.all(all.map(({ runtime }, i) => runtime.address(ids[i] ?? "")));
  expect(new Set(addresses).size).toBe(all.length);
  const [one, two] = [node(1).host, node(2).host];
  const answers = await Promise.all(all.map(({ host, port }) => who(host === one ? two : one, host, port)));
  expect(answers).toEqual(all.map(({ name }) => name));
  await Promise.all(
    all.map(async ({ runtime }, i) => {
      // A kubelet stops twice, and containerd calls DEL again on removal.
      await runtime.stop(ids[i] ?? "");
      await runtime.stop(ids[i] ?? "");
      await runtime.remove(ids[i] ?? "");
    }),
  );
  await nothingLeft();
  expect(complaints().slice(before)).toEqual([]);
}, 300_000);

describe("the router of a host", () => {
  const away: [string, (host: Host) => Promise<void>, (host: Host) => Promise<unknown>][] = [
    ["stopped", async (host) => void (await host.weave("stop")), (host) => host.weave("launch")],
    ["killed", (host) => host.killRouter(), (host) => host.weave("launch")],
    [
      "hung",
      async (host) => void process.kill(host.pid, "SIGSTOP"),
      async (host) => process.kill(host.pid, "SIGCONT"),
    ],
  ];
  test.each(away)(
    "%s: host ports go on, no sandbox starts, one can be stopped, and nothing is left",
    async (how, end, resume) => {
      const { host, runtime } = node(1);
      const from = node(2).host;
      const [, goes] = await Promise.all([
        runtime.runSandbox(`stays-${how}`, tcp(8080)),
        runtime.runSandbox(`goes-${how}`, tcp(8081)),
      ]);
      await answersAs(`stays-${how}`, from, host, 8080);
      await end(host);
      try {
        expect(await who(from, host, 8080)).toBe(`stays-${how}`);
        // A router that hangs costs each call of the plugin 6 s, and no more.
        if (how !== "hung")
          await expect(runtime.runSandbox(`late-${how}`, tcp(8082))).rejects.toThrow("weave");
        await runtime.stop(goes);
        expect(await who(from, host, 8081)).toBe("");
      } finally {
        await resume(host);
      }
      expect(await who(from, host, 8080)).toBe(`stays-${how}`);
      for (const id of await runtime.sandboxes()) {
        await runtime.stop(id);
        await runtime.remove(id);
      }
      await nothingLeft();
    },
    300_000,
  );
});

test("containerd killed: its sandboxes and their host ports go on; the next one removes them", async () => {
  const { host, runtime } = node(2);
  const from = node(1).host;
  const id = await runtime.runSandbox("survivor", tcp(8080));
  await answersAs("survivor", from, host, 8080);
  const starting = runtime.runSandbox("unfinished", tcp(8081)).catch(() => undefined);
  await runtime.kill();
  expect(await who(from, host, 8080)).toBe("survivor");
  await runtime.run();
  await starting;
  expect(await runtime.sandboxes()).toContain(id);
  expect(await who(from, host, 8080)).toBe("survivor");
  for (const each of await runtime.sandboxes()) {
    await runtime.stop(each);
    await runtime.remove(each);
  }
  await nothingLeft();
}, 300_000);

/** A call of the plugin as containerd/go-cni makes it for a list: the plugin's part, with name, version and capabilities. */
function listed(host: Host, runtimeConfig: object, more: object = {}) {
  const list = JSON.parse(readFileSync(join(host.confDir, "10-weave.conflist"), "utf8"));
  return { ...list.plugins[0], name: list.name, cniVersion: list.cniVersion, runtimeConfig, ...more };
}

describe("other callers", () => {
  test("nomad: its arguments, both protocols of a port at the address of the host, CHECK after a restart, DEL", async () => {
    const { host } = node(1);
    const id = "9d2f9bbf-6b3e-4b2c-9b69-8d3a5b6a0f11";
    const netns = await hosts.pod("nomad");
    const mapping = (protocol: string) => ({
      hostPort: 25_010,
      containerPort: 80,
      protocol,
      hostIP: host.ip,
    });
    const config = listed(host, { portMappings: [mapping("tcp"), mapping("udp")] });
    const CNI_ARGS = `IgnoreUnknown=true;NOMAD_REGION=global;NOMAD_NAMESPACE=default;NOMAD_JOB_ID=web;NOMAD_GROUP_NAME=web;NOMAD_ALLOC_ID=${id}`;
    const call = { id, netns, env: { CNI_ARGS } };
    const added = await host.cni("ADD", config, call);
    expect(added.code).toBe(0);
    const prevResult = JSON.parse(added.stdout);
    expect(await host.must(["nft", "list", "table", "ip", "weave-hostports"])).toContain(
      `udp . ${host.ip} . 25010`,
    );
    await host.weave("stop");
    await host.weave("launch");
    expect((await host.cni("CHECK", { ...config, prevResult }, call)).stdout).toBe("");
    expect((await host.cni("DEL", { ...config, prevResult }, call)).code).toBe(0);
    await nothingLeft();
  });

  test("nerdctl: a DEL before the ADD, --ip and --mac-address as CNI_ARGS, the same at the next start", async () => {
    const { host } = node(1);
    const id = "default-2b5b8d0f6c9f4bb7a1b4f9e47a1f8f3b8a7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e";
    const config = listed(host, {
      portMappings: [{ HostPort: 8088, ContainerPort: 80, Protocol: "tcp", HostIP: "0.0.0.0" }],
    });
    const CNI_ARGS = "IgnoreUnknown=1;IP=10.32.40.7;MAC=02:42:0a:20:28:07;NERDCTL_CNI_DHCP_HOSTNAME=web";
    for (const start of ["first", "second"]) {
      const netns = await hosts.pod(`nerdctl-${start}`);
      expect(await host.cni("DEL", config, { id, env: { CNI_ARGS } })).toMatchObject({ code: 0, stdout: "" });
      const { stdout } = await host.cni("ADD", config, { id, netns, env: { CNI_ARGS } });
      expect(JSON.parse(stdout)).toMatchObject({
        ips: [{ address: "10.32.40.7/12" }],
        interfaces: [{}, { mac: "02:42:0a:20:28:07" }],
      });
    }
    await host.cni("DEL", config, { id, env: { CNI_ARGS } });
    await nothingLeft();
    expect(complaints().slice(before)).toEqual([]);
  });
});
