// The ways that packets take to a pod: from the world behind the host, by a port of the host, by the address of a service;
// and what goes to many.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { atOnce } from "../../lib/clock/slices.ts";
import { enableBridgeNetfilter } from "../../lib/host/bridgenetfilter.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { Compiler } from "../../lib/npc/compiler.ts";
import { Model } from "../../lib/npc/model.ts";
import type { Protocol } from "../../lib/npc/objects.ts";
import { readObject } from "../../lib/npc/read.ts";
import { admitConnections, write } from "../../lib/npc/writer.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { baseCluster, ENDS, NODE } from "../support/conformance.ts";
import { exec, must } from "../support/hosts.ts";
import { LATE_S } from "../support/pods.ts";
import { GATEWAY, PolicyNet, type Sending, WORLD } from "../support/policynet.ts";

/** The address of a service, whatever kube-proxy does for it. */
const SERVICE = "10.96.0.10";

let net: PolicyNet;
let nf: NetlinkSocket;
let bridge: string;

const inHost = (...command: string[]) => ["ip", "netns", "exec", `${net.prefix}-host`, ...command];

/** Puts policies in force: the ingress rules of x/a, or none. */
function enforce(ingress: object[] | undefined, allowMulticast = true): void {
  enforceRules(ingress && { ingress }, allowMulticast);
}

/** The same with rules of any kind. */
function enforceRules(rules: object | undefined, allowMulticast = true): void {
  const model = new Model();
  model.apply(baseCluster());
  if (rules) {
    const spec = { podSelector: { matchLabels: { pod: "a" } }, ...rules };
    const object = readObject("NetworkPolicy", { metadata: { namespace: "x", name: "p" }, spec });
    model.apply([{ type: "set", object }]);
  }
  write(nf, undefined, new Compiler(model, { node: NODE }).all(), { allowMulticast, denyUnknown: false });
  atOnce(admitConnections(nf));
}

beforeAll(async () => {
  net = await PolicyNet.create("pth");
  await net.addWorld();
  bridge = await net.bridgeMac();
  nf = inNetns(net.host, () => new NetlinkSocket(NETLINK_NETFILTER));
  expect(inNetns(net.host, enableBridgeNetfilter)).toBeUndefined();
}, 300_000);

afterAll(() => {
  nf?.close();
  net?.dispose();
});

const X_A = ENDS.get("x/a") ?? "";
const fromWorld = (destination: string, port: number): Sending => ({
  from: "world",
  to: "x/a",
  source: WORLD,
  destination,
  protocol: "TCP",
  port,
});
const toService = (from: string): Sending => ({
  from,
  to: "x/a",
  source: ENDS.get(from) ?? "",
  destination: SERVICE,
  protocol: "TCP",
  port: 80,
  via: bridge,
});
const fromBlock = [{ from: [{ ipBlock: { cidr: "192.0.2.0/24" } }], ports: [{ port: 80 }] }];
const fromY = [{ from: [{ namespaceSelector: { matchLabels: { ns: "y" } } }], ports: [{ port: 80 }] }];

test("routed by the host", async () => {
  enforce(undefined);
  expect(await net.probe([fromWorld(X_A, 80)])).toEqual([true]);
  enforce([]);
  expect(await net.probe([fromWorld(X_A, 80)])).toEqual([false]);
  enforce(fromBlock);
  expect(await net.probe([fromWorld(X_A, 80), fromWorld(X_A, 81)])).toEqual([true, false]);
});

test("by a port of the host, with a masquerade behind it: the pod's port counts, and who it was", async () => {
  await must(inHost("nft", "-f", "-"), {
    stdin: `table ip hostport {
      chain prerouting { type nat hook prerouting priority -100; ip daddr ${GATEWAY} tcp dport 8080 dnat to ${X_A}:80; }
      chain postrouting { type nat hook postrouting priority 100; ip daddr ${X_A} masquerade; }
    }\n`,
  });
  enforce(undefined);
  expect(await net.probe([fromWorld(GATEWAY, 8080)])).toEqual([true]);
  enforce(fromY);
  expect(await net.probe([fromWorld(GATEWAY, 8080)])).toEqual([false]);
  enforce(fromBlock);
  expect(await net.probe([fromWorld(GATEWAY, 8080)])).toEqual([true]);
  await must(inHost("nft", "delete", "table", "ip", "hostport"));
});

test.each([
  [
    "nftables",
    `table ip kube-proxy { chain prerouting { type nat hook prerouting priority -100; ip daddr ${SERVICE} tcp dport 80 dnat to ${X_A}:80; }; }\n`,
    ["nft", "delete", "table", "ip", "kube-proxy"],
  ],
  [
    "iptables",
    `*nat\n-A PREROUTING -d ${SERVICE} -p tcp --dport 80 -j DNAT --to-destination ${X_A}:80\nCOMMIT\n`,
    ["iptables-nft", "-t", "nat", "-F"],
  ],
])(
  "by the address of a service, with kube-proxy's %s: the pod behind it counts",
  async (mode, rules, undo) => {
    await must(mode === "nftables" ? inHost("nft", "-f", "-") : inHost("iptables-nft-restore"), {
      stdin: rules,
    });
    enforce(undefined);
    expect(await net.probe([toService("y/a"), toService("z/a")])).toEqual([true, true]);
    enforce(fromY);
    expect(await net.probe([toService("y/a"), toService("z/a")])).toEqual([true, false]);
    await must(inHost(...undo));
  },
);

describe("a connection that was allowed when it began", () => {
  const SYN = 2;
  const ACK = 16;
  const X_B = ENDS.get("x/b") ?? "";
  /** A packet from one end of the bridge to the other. */
  const between = (from: string, to: string, more: Partial<Sending>): Sending => ({
    ...{ from, to, source: ENDS.get(from) ?? "", destination: ENDS.get(to) ?? "" },
    ...{ protocol: "TCP", port: 80 },
    ...more,
  });
  const tcp = (flags: number, sequence: number, acknowledgement: number) => ({
    tcp: { flags, sequence, acknowledgement },
  });
  async function arrives(sending: Sending, port: number): Promise<boolean> {
    net.send(sending, port);
    return (await net.outcomes([sending], [port]))[0] ?? false;
  }

  /** A connection by the address of a service: what its ends send at first, and later. */
  function connection(from: string, protocol: Protocol) {
    const port = net.nextPort();
    const there = { ...toService(from), protocol };
    const back = between("x/a", from, { protocol, port });
    const open: [Sending, number][] = [
      [there, port],
      [{ ...back, ...tcp(SYN | ACK, 5000, 1001), chunk: 2 }, 80],
      [{ ...there, ...tcp(ACK, 1001, 5001), chunk: 10 }, port],
    ];
    const later: [Sending, number][] = [
      [{ ...back, ...tcp(ACK, 5001, 1001), chunk: 4 }, 80],
      [{ ...there, ...tcp(ACK, 1001, 5001), chunk: 4 }, port],
    ];
    return { open, later };
  }
  const outcomes = async (packets: readonly [Sending, number][]) => {
    const arrived: boolean[] = [];
    for (const [sending, port] of packets) arrived.push(await arrives(sending, port));
    return arrived;
  };

  const STACKS = ["x/a", "y/a", "z/a"];
  const inStack = (end: string, ...command: string[]) => ["ip", "netns", "exec", net.netns(end), ...command];

  beforeAll(async () => {
    // The pods' own stacks know nothing of these connections, and would reset them.
    const silent =
      "table inet silent { chain output { type filter hook output priority 0; policy drop; }; }\n";
    for (const end of STACKS) await must(inStack(end, "nft", "-f", "-"), { stdin: silent });
    const dnat = (["tcp", "udp", "sctp"] as const)
      .map((protocol) => `ip daddr ${SERVICE} ${protocol} dport 80 dnat to ${X_A}:80;`)
      .join(" ");
    await must(inHost("nft", "-f", "-"), {
      stdin: `table ip kube-proxy { chain prerouting { type nat hook prerouting priority -100; ${dnat} }; }\n`,
    });
  });
  afterAll(async () => {
    for (const end of STACKS) await must(inStack(end, "nft", "delete", "table", "inet", "silent"));
    await must(inHost("nft", "delete", "table", "ip", "kube-proxy"));
  });

  test.each(["TCP", "UDP", "SCTP"] as const)(
    "%s, by the address of a service: a stricter policy cuts it, whichever end speaks, and no other",
    async (protocol) => {
      expect(await must(inHost("sysctl", "-n", "net.netfilter.nf_conntrack_tcp_loose"))).toBe("1\n");
      enforce(undefined);
      const [cut, kept] = [connection("z/a", protocol), connection("y/a", protocol)];
      for (const { open, later } of [cut, kept])
        expect(await outcomes([...open, ...later])).toEqual([true, true, true, true, true]);
      enforce([{ from: fromY[0]?.from }]);
      // The target first: its packets must not begin a connection of their own that the other end replies to.
      for (let i = 0; i < 2; i++) {
        expect(await outcomes(cut.later)).toEqual([false, false]);
        expect(await outcomes(kept.later)).toEqual([true, true]);
      }
      // Rules are judged as they are now: a milder policy lets it go on.
      enforce(undefined);
      expect(await outcomes(cut.later)).toEqual([true, true]);
    },
  );

  test("is not taken up in the middle by an isolated pod, whoever speaks, and may be by others", async () => {
    enforce(fromY);
    const middle = (from: string, to: string, protocol: Protocol) =>
      between(from, to, { protocol, ...tcp(ACK, 1001, 5001), chunk: 4 });
    for (const protocol of ["TCP", "SCTP"] as const) {
      const from = (a: string, b: string) => middle(a, b, protocol);
      const isolated = [from("x/a", "z/a"), from("z/a", "x/a"), from("y/a", "x/a"), from("x/a", "y/a")];
      expect(await net.probe(isolated)).toEqual([false, false, false, false]);
      expect(await net.probe([from("y/b", "z/b")])).toEqual([true]);
    }
    // One that others have taken up is over when one of them is isolated: nobody knows who opened it.
    enforce(undefined);
    const port = net.nextPort();
    const spoken = middle("x/a", "z/a", "TCP");
    expect(await arrives(spoken, port)).toBe(true);
    expect(await arrives({ ...middle("z/a", "x/a", "TCP"), port, ...tcp(ACK, 5001, 1001) }, 80)).toBe(true);
    enforce(fromY);
    expect(await arrives(spoken, port)).toBe(false);
  });

  test("a pod that is isolated both ways reaches itself by the address of a service", async () => {
    // Its port is the third of the bridge; the CNI plugin turns hairpin on.
    await must(inHost("bridge", "link", "set", "dev", "vethwepl3", "hairpin", "on"));
    enforce([]);
    expect(await net.probe([toService("y/a"), toService("x/a")])).toEqual([false, true]);
  });

  test("to another port or pod is judged by itself", async () => {
    enforce(fromY);
    const [first, second] = [between("y/a", "x/a", {}), between("z/a", "x/b", {})];
    expect(second.destination).toBe(X_B);
    expect(await net.probe([first, { ...first, port: 81 }, second])).toEqual([true, false, true]);
  });
});

test("what conntrack is told not to track passes no isolated pod, in whatever direction it is isolated", async () => {
  const udp = (from: string, to: string): Sending => ({
    ...{ from, to, source: ENDS.get(from) ?? "", destination: ENDS.get(to) ?? "", protocol: "UDP", port: 80 },
  });
  const probes = [udp("y/a", "x/a"), udp("x/a", "y/a"), udp("y/b", "z/b")];
  const notrack =
    "table ip raw { chain prerouting { type filter hook prerouting priority raw; udp dport 80 notrack; }; }\n";
  enforceRules({ policyTypes: ["Egress"], egress: [{}] });
  expect(await net.probe(probes)).toEqual([true, true, true]);
  await must(inHost("nft", "-f", "-"), { stdin: notrack });
  try {
    expect(await net.probe(probes)).toEqual([false, false, true]);
    enforce([{}]);
    expect(await net.probe(probes)).toEqual([false, false, true]);
    enforce(undefined);
    expect(await net.probe(probes)).toEqual([true, true, true]);
  } finally {
    await must(inHost("nft", "delete", "table", "ip", "raw"));
  }
});

test("what goes to many goes everywhere, or nowhere", async () => {
  const multicast: Sending = {
    from: "y/a",
    to: "x/a",
    source: ENDS.get("y/a") ?? "",
    destination: "239.1.2.3",
    protocol: "UDP",
    port: 5000,
    via: "01:00:5e:01:02:03",
  };
  enforce([]);
  expect(await net.probe([multicast])).toEqual([true]);
  enforce([], false);
  expect(await net.probe([multicast])).toEqual([false]);
  enforce(undefined, false);
  expect(await net.probe([multicast])).toEqual([false]);
});

test("by addresses of the link alone nobody gets past policies", async () => {
  enforce([]);
  const { mac } = net.end("y/a");
  const octets = mac.split(":").map((octet) => Number.parseInt(octet, 16));
  const hex = (i: number) => (octets[i] ?? 0).toString(16).padStart(2, "0");
  // RFC 4291, appendix A: the address that the kernel has made from the MAC address.
  const source = `fe80::${((octets[0] ?? 0) ^ 2).toString(16)}${hex(1)}:${hex(2)}ff:fe${hex(3)}:${hex(4)}${hex(5)}`;
  const past: Sending = { from: "y/a", to: "x/a", source, destination: "fe80::1", protocol: "TCP", port: 80 };
  expect(await net.probe([past])).toEqual([false]);
});

test("as another pod nobody gets what that one may", async () => {
  const as = (source: string): Sending => ({ ...fromPod, source: ENDS.get(source) ?? source });
  const fromPod = {
    from: "z/a",
    to: "x/a",
    source: "",
    destination: X_A,
    protocol: "UDP",
    port: 80,
  } as const;
  enforce([{ from: [{ namespaceSelector: { matchLabels: { ns: "y" } } }] }]);
  expect(await net.probe([{ ...as("y/a"), from: "y/a" }])).toEqual([true]);
  for (const source of ["y/a", "node", "10.32.0.200"]) expect(await net.probe([as(source)])).toEqual([false]);
  const six = { destination: ENDS.get("x/a6") ?? "", source: ENDS.get("y/a6") ?? "" };
  expect(await net.probe([{ ...fromPod, ...six, from: "y/a" }])).toEqual([true]);
  expect(await net.probe([{ ...fromPod, ...six }])).toEqual([false]);
});

test("neighbours of IPv6 are found whatever policies say", async () => {
  enforce([]);
  const { stdout } = await exec([
    ...["ip", "netns", "exec", net.netns("y/a")],
    ...["ping", "-n", "-c", "1", "-W", String(LATE_S), ENDS.get("node6") ?? ""],
  ]);
  expect(stdout).toContain("1 received");
  await must(["ip", "-n", net.netns("y/a"), "-6", "neigh", "flush", "all"]);
  await exec([
    "ip",
    "netns",
    "exec",
    net.netns("y/a"),
    "ping",
    "-n",
    "-c",
    "1",
    "-W",
    "1",
    ENDS.get("x/a6") ?? "",
  ]);
  expect(await must(["ip", "-n", net.netns("y/a"), "-6", "neigh", "show", ENDS.get("x/a6") ?? ""])).toContain(
    "lladdr",
  );
});
