// Host ports by the plugin itself: connections from outside, from the host, by 127.0.0.1, from pods, and from the pod itself.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";
import { type CniPod, CONFIG, podCommand } from "../support/pods.ts";

interface Mapping {
  hostPort: number;
  containerPort: number;
  protocol?: string;
  hostIP?: string;
}

let hosts: Hosts;
let host: Host;
let outside: Host;
const servers: Bun.Subprocess[] = [];

beforeAll(async () => {
  hosts = await Hosts.create("hp", 2);
  [host, outside] = [hosts.host(1), hosts.host(2)];
  await host.weave("launch", "--ipalloc-init=consensus=1", "--no-masq-local");
  await outside.weave("launch", "--ipalloc-init=observer", host.ip);
});

afterEach(() => {
  for (const server of servers.splice(0)) server.kill();
});

afterAll(() => hosts.disposeSync());

const configOf = (portMappings: Mapping[], more: object = {}) => ({
  ...CONFIG,
  runtimeConfig: { portMappings },
  ...more,
});

/** Attach a pod with host ports; it answers on TCP 80 and UDP 53 who asks, and its name. */
async function pod(name: string, portMappings: Mapping[], on = host, more: object = {}): Promise<CniPod> {
  const path = await hosts.pod(name);
  const { code, stdout } = await on.cni("ADD", configOf(portMappings, more), { id: name, netns: path });
  if (code !== 0) throw new Error(stdout);
  const result = JSON.parse(stdout);
  const [address] = result.ips[0].address.split("/");
  const made = { id: name, netns: path.split("/").at(-1) ?? "", address, mac: result.interfaces[1].mac };
  const script = `
    const answer = (from) => ${JSON.stringify(name)} + " " + from.replace("::ffff:", "") + "\\n";
    Bun.listen({ hostname: "0.0.0.0", port: 80, socket: { data() {}, open(s) { s.end(answer(s.remoteAddress)); } } });
    await Bun.udpSocket({ port: 53, socket: { data(s, _, port, from) { s.send(answer(from), port, from); } } });
    console.log("ready");`;
  const server = Bun.spawn(podCommand(made, process.execPath, "-e", script), { stdout: "pipe" });
  servers.push(server);
  await server.stdout.getReader().read();
  return made;
}

const del = ({ id, netns }: CniPod, on = host) =>
  on.cni("DEL", configOf([]), { id, netns: `/run/netns/${netns}` });

/** Ask a port of an address in a namespace; "" without an answer within so many seconds. */
async function ask(
  netns: string,
  address: string,
  port: number,
  protocol = "tcp",
  seconds = 30,
): Promise<string> {
  const script = `exec 3<>/dev/${protocol}/${address}/${port} && echo >&3 && head -n1 <&3`;
  const within = ["timeout", String(seconds), "bash", "-c", script];
  const { stdout } = await exec(["ip", "netns", "exec", netns, ...within]);
  return stdout.trim();
}

/** That nobody answers, or within a second. */
const silent = async (netns: string, address: string, port: number) =>
  expect(await ask(netns, address, port, "tcp", 1)).toBe("");

const table = async () => (await host.exec(["nft", "list", "table", "ip", "weave-hostports"])).stdout;
const nothingLeft = async () => {
  expect(await table()).toBe("");
  expect(await host.must(["sysctl", "-n", "net.ipv4.conf.weave.route_localnet"])).toBe("0\n");
};

test("from outside, from the host, by 127.0.0.1, from a pod, and from the pod itself", async () => {
  const one = await pod("one", [
    { hostPort: 8080, containerPort: 80, protocol: "tcp" },
    { hostPort: 8053, containerPort: 53, protocol: "UDP" },
  ]);
  const other = await pod("other", []);
  const far = await pod("far", [], outside);
  // From outside, the pod sees who asks.
  expect(await ask(outside.netns, host.ip, 8080)).toBe(`one ${outside.ip}`);
  expect(await ask(outside.netns, host.ip, 8053, "udp")).toBe(`one ${outside.ip}`);
  expect(await ask(host.netns, host.ip, 8080)).toMatch(/^one /);
  expect(await ask(host.netns, "127.0.0.1", 8080)).toMatch(/^one 10\.32\./);
  expect(await ask(host.netns, "127.0.0.1", 8053, "udp")).toMatch(/^one 10\.32\./);
  const gateway = /via (\S+)/.exec(await must(podCommand(one, "ip", "route")))?.[1] ?? "";
  for (const from of [one, other, far])
    for (const address of [host.ip, gateway]) expect(await ask(from.netns, address, 8080)).toMatch(/^one /);
  // The port of one protocol is not that of another, and what is not forwarded is the host's.
  await silent(outside.netns, host.ip, 8053);
  // What is not for a host port keeps its address: another address's port 8080 is not the host's.
  expect(await ask(other.netns, one.address, 80)).toBe(`one ${other.address}`);
  expect(await table()).toContain(`8080 comment "weave/one/eth0" : ${one.address} . 80`);
  for (const each of [one, other]) await del(each);
  await del(far, outside);
  await silent(outside.netns, host.ip, 8080);
  await nothingLeft();
});

test("an address of the host alone; others stay the host's own", async () => {
  await host.must(["ip", "addr", "add", "10.99.0.77/24", "dev", "eth0"]);
  const one = await pod("hostip", [{ hostPort: 8080, containerPort: 80, hostIP: "10.99.0.77" }]);
  const any = await pod("anyip", [{ hostPort: 8080, containerPort: 80, hostIP: "0.0.0.0" }]);
  const six = await pod("six", [{ hostPort: 8090, containerPort: 80, hostIP: "fd00::1" }]);
  expect(await ask(outside.netns, "10.99.0.77", 8080)).toBe(`hostip ${outside.ip}`);
  expect(await ask(outside.netns, host.ip, 8080)).toBe(`anyip ${outside.ip}`);
  await silent(outside.netns, host.ip, 8090);
  await del(any);
  await silent(outside.netns, host.ip, 8080);
  await del(one);
  await del(six);
  await nothingLeft();
});

test("pods get no further by 127.0.0.1 of the host than before", async () => {
  const one = await pod("martian", [{ hostPort: 8080, containerPort: 80 }]);
  const script = `Bun.listen({ hostname: "127.0.0.1", port: 7000, socket: { data() {}, open(s) { s.end("secret\\n"); } } }); console.log("ready");`;
  const server = Bun.spawn(host.command(process.execPath, "-e", script), { stdout: "pipe" });
  servers.push(server);
  await server.stdout.getReader().read();
  expect(await ask(host.netns, "127.0.0.1", 7000)).toBe("secret");
  const gateway = /via (\S+)/.exec(await must(podCommand(one, "ip", "route")))?.[1] ?? "";
  await must(podCommand(one, "ip", "link", "set", "lo", "down"));
  await must(podCommand(one, "ip", "route", "add", "127.0.0.0/8", "via", gateway, "table", "100"));
  await must(podCommand(one, "ip", "rule", "add", "pref", "0", "table", "100"));
  await must(podCommand(one, "ip", "rule", "del", "table", "local"));
  await must(podCommand(one, "ip", "rule", "add", "pref", "1", "table", "local"));
  await must(podCommand(one, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"));
  await silent(one.netns, "127.0.0.1", 7000);
  await del(one);
});

test("a UDP flow from before goes to the pod at once, and to the next pod after it", async () => {
  // A sender that never pauses: its connection is in conntrack, and does not end.
  const script = `
    const socket = await Bun.udpSocket({ socket: { data(_, data) { console.log(data.toString().trim()); }, error() {} } });
    setInterval(() => socket.send("x", 8053, "${host.ip}"), 20);`;
  const sender = Bun.spawn(outside.command(process.execPath, "-e", script), { stdout: "pipe" });
  servers.push(sender);
  const answers = sender.stdout.getReader();
  const next = async (name: string) => {
    let text = "";
    while (!text.includes(`${name} `)) {
      const { value, done } = await answers.read();
      if (done) throw new Error("the sender has ended");
      text += new TextDecoder().decode(value);
    }
  };
  const mapping = [{ hostPort: 8053, containerPort: 53, protocol: "udp" }];
  const first = await pod("first", mapping);
  await next("first");
  await del(first);
  const second = await pod("second", mapping);
  await next("second");
  await del(second);
  await nothingLeft();
});

test("a port belongs to one pod: another is refused, unless the first is gone", async () => {
  const mapping = [{ hostPort: 8080, containerPort: 80 }];
  const one = await pod("owner", mapping);
  const path = await hosts.pod("late");
  const late = await host.cni("ADD", configOf(mapping), { id: "late", netns: path });
  expect(JSON.parse(late.stdout)).toMatchObject({
    code: 100,
    msg: `cannot forward host ports: host port 8080/tcp belongs to container owner (${one.address}:80)`,
  });
  expect(await host.weave("ps")).not.toContain("late");
  await eventually(
    "its link is gone",
    () => exec(["ip", "-n", path.split("/").at(-1) ?? "", "link", "show", "eth0"]),
    ({ code }) => code !== 0,
  );
  // Its namespace goes without a DEL: the port is free once the link is gone; a DEL that comes later takes nothing.
  for (const server of servers.splice(0)) {
    server.kill("SIGKILL");
    await server.exited;
  }
  await must(["ip", "netns", "del", one.netns]);
  await eventually(
    "the link is gone",
    () => host.must(["ip", "link"]),
    (links) => !links.includes(`link/ether ${one.mac}`) && !links.includes("weave/owner/eth0"),
  );
  const next = await pod("next", mapping);
  await del(one);
  expect(await ask(outside.netns, host.ip, 8080)).toBe(`next ${outside.ip}`);
  await del(next);
  await nothingLeft();
});

describe("CHECK and GC", () => {
  const check = async (one: CniPod, mapping: Mapping[], config: object = {}) => {
    const { stdout } = await host.cni("CHECK", configOf(mapping, config), {
      id: one.id,
      netns: `/run/netns/${one.netns}`,
    });
    return stdout === "" ? "" : `${JSON.parse(stdout).code} ${JSON.parse(stdout).msg}`;
  };

  test("CHECK finds a port that is not forwarded", async () => {
    const mapping = [{ hostPort: 8080, containerPort: 80 }];
    const one = await pod("checked", mapping);
    expect(await check(one, mapping)).toBe("");
    expect(await check(one, [...mapping, { hostPort: 8081, containerPort: 80 }])).toBe(
      `101 host port 8081/tcp is not forwarded to ${one.address}:80`,
    );
    expect(await check(one, [{ hostPort: 8080, containerPort: 81 }])).toStartWith("101 host port 8080/tcp");
    await del(one);
  });

  test("GC ends those that the runtime does not list", async () => {
    const [one, two] = [
      await pod("gone", [{ hostPort: 8080, containerPort: 80 }]),
      await pod("kept", [{ hostPort: 8081, containerPort: 80 }]),
    ];
    const valid = [{ containerID: "kept", ifname: "eth0" }];
    const config = { ...CONFIG, cniVersion: "1.1.0", "cni.dev/valid-attachments": valid };
    expect((await host.cni("GC", config)).code).toBe(0);
    expect(await table()).not.toContain("weave/gone/eth0");
    expect(await ask(outside.netns, host.ip, 8081)).toBe(`kept ${outside.ip}`);
    for (const each of [one, two]) await del(each);
    await nothingLeft();
  });
});

test("others flush the rules, the router is killed and the host port stays; a DEL without a router ends it", async () => {
  const mapping = [{ hostPort: 8080, containerPort: 80 }];
  const [one, two] = [
    await pod("stays", mapping),
    await pod("ends", [{ hostPort: 8081, containerPort: 80 }]),
  ];
  await host.must(["nft", "delete", "table", "ip", "weave-hostports"]);
  await eventually(
    "the port is back",
    () => ask(outside.netns, host.ip, 8080, "tcp", 1),
    (text) => text.startsWith("stays"),
  );
  await host.logged("table ip weave-hostports");
  await host.killRouter();
  expect(await ask(outside.netns, host.ip, 8080)).toMatch(/^stays/);
  expect((await del(two)).code).toBe(0);
  expect(await table()).not.toContain("weave/ends/eth0");
  await host.weave("launch", "--ipalloc-init=consensus=1", "--no-masq-local");
  expect(await ask(outside.netns, host.ip, 8080)).toMatch(/^stays/);
  expect(await table()).not.toContain("weave/ends/eth0");
  await del(one);
  await nothingLeft();
  const last = await pod("last", mapping);
  await host.killRouter();
  expect((await del(last)).code).toBe(0);
  await host.weave("launch", "--ipalloc-init=consensus=1", "--no-masq-local");
  await nothingLeft();
});

test.each([
  [
    { hostPort: 0, containerPort: 80 },
    "7 network configuration: runtimeConfig.portMappings.0.hostPort: should be 1 to 65535",
  ],
  [
    { hostPort: 80, containerPort: 70_000 },
    "7 network configuration: runtimeConfig.portMappings.0.containerPort: should be",
  ],
  [
    { hostPort: 80, containerPort: 80, protocol: "icmp" },
    "7 network configuration: runtimeConfig.portMappings.0.protocol: should be tcp, udp or sctp",
  ],
  [{ hostPort: 80, containerPort: 80, hostIP: "eth0" }, "7 runtimeConfig: portMappings: hostIP: "],
])("%o is refused, with nothing left behind", async (mapping, message) => {
  const { stdout } = await host.cni("ADD", configOf([mapping]), { id: "bad", netns: await hosts.pod("bad") });
  expect(`${JSON.parse(stdout).code} ${JSON.parse(stdout).msg}`).toStartWith(message);
  await exec(["ip", "netns", "del", `hp${process.pid}-bad`]);
  expect(await host.weave("ps")).not.toContain("bad");
});

test("a portmap that is chained behind agrees: by itself, and where both have the capability", async () => {
  const mapping = [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }];
  for (const [name, ours] of [
    ["alone", []],
    ["both", mapping],
  ] as const) {
    const one = await pod(name, [...ours]);
    const call = {
      CNI_CONTAINERID: name,
      CNI_NETNS: `/run/netns/${one.netns}`,
      CNI_IFNAME: "eth0",
      CNI_PATH: "/usr/lib/cni",
    };
    const prevResult = {
      cniVersion: "1.0.0",
      interfaces: [{ name: "eth0", mac: one.mac, sandbox: call.CNI_NETNS }],
      ips: [{ address: `${one.address}/12`, interface: 0 }],
    };
    const config = {
      cniVersion: "1.0.0",
      name: "weave",
      type: "portmap",
      snat: true,
      runtimeConfig: { portMappings: mapping },
      prevResult,
    };
    const portmap = (command: string) =>
      host.exec(["/usr/lib/cni/portmap"], {
        env: { ...call, CNI_COMMAND: command },
        stdin: JSON.stringify(config),
      });
    expect(await portmap("ADD")).toMatchObject({ code: 0 });
    expect(await ask(outside.netns, host.ip, 8080)).toBe(`${name} ${outside.ip}`);
    expect(await ask(host.netns, "127.0.0.1", 8080)).toMatch(new RegExp(`^${name} `));
    expect(await ask(one.netns, host.ip, 8080)).toMatch(new RegExp(`^${name} `));
    expect((await portmap("DEL")).code).toBe(0);
    await del(one);
  }
  expect(await table()).toBe("");
});
