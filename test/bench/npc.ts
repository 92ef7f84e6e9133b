// Network policy beside a router: what a packet and a connection between two pods of a host cost with few and with many policies, against
// no policy at all, against a table that does no more than track connections, and against iptables and ipset in the shape that the
// original gives them. The packet filter sees bridged packets in all of these, as Kubernetes wants it.
import { atOnce } from "../../lib/clock/slices.ts";
import { enableBridgeNetfilter } from "../../lib/host/bridgenetfilter.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { Compiler } from "../../lib/npc/compiler.ts";
import { Model } from "../../lib/npc/model.ts";
import { readObject } from "../../lib/npc/read.ts";
import { admitConnections, write } from "../../lib/npc/writer.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { type Host, Hosts } from "../support/hosts.ts";
import { addPod } from "../support/pods.ts";
import { connections, packetRate, throughput } from "./measures.ts";
import type { Path } from "./paths.ts";
import { type Row, row } from "./row.ts";

const RUNS = 7;
/** Figures of connections; through thousands of rules of iptables a connection takes 6 ms. */
const QUICK = { turns: 150 };
const SLOW = { turns: 3, warmUp: 20 };
const NODE = "n1";
const IPERF_PORT = 5201;
const CONNECT_PORT = 5300;
/** What makes the kernel track connections, as NAT and every stateful filter do. */
const TRACKING =
  "table inet tracking { chain postrouting { type filter hook postrouting priority 95; ct state established accept; }; }\n";
/** Ports of the policies that are in the way begin here. */
const FIRST_PORT = 10_000;

/** An address that is nobody's. */
const nobody = (i: number) => `10.40.${i >> 8}.${i & 255}`;

interface Ends extends Path {
  readonly clientAddress: string;
}

const podOf = (namespace: string, name: string, podIP: string, nodeName: string, labels = {}) =>
  readObject("Pod", {
    metadata: { namespace, name, labels },
    spec: { nodeName },
    status: { podIP },
  });

/** Policies that all are about the server, each for another peer and port; the last lets the client in. */
function policies(count: number, { address, clientAddress }: Ends): Model {
  const objects = [
    ...["x", "y", "z"].map((name) => readObject("Namespace", { metadata: { name, labels: { ns: name } } })),
    podOf("x", "server", address, NODE),
    podOf("y", "client", clientAddress, NODE),
  ];
  const policy = (name: string, ingress: object) =>
    readObject("NetworkPolicy", {
      metadata: { namespace: "x", name },
      spec: { podSelector: {}, ingress: [ingress] },
    });
  for (let i = 1; i < count; i++) {
    const from = [
      { namespaceSelector: { matchLabels: { ns: "z" } }, podSelector: { matchLabels: { app: `a${i}` } } },
    ];
    objects.push(policy(`p${i}`, { from, ports: [{ port: FIRST_PORT + i }] }));
    objects.push(podOf("z", `app${i}`, nobody(i), "n2", { app: `a${i}` }));
  }
  const ports = [{ port: IPERF_PORT }, { port: IPERF_PORT, protocol: "UDP" }, { port: CONNECT_PORT }];
  objects.push(policy("last", { from: [{ namespaceSelector: { matchLabels: { ns: "y" } } }], ports }));
  const model = new Model();
  model.apply(objects.map((object) => ({ type: "set", object }) as const));
  return model;
}

/** Puts policies in force as weave-npc does. */
function nftables(host: Host, count: number, ends: Ends): void {
  using nf = inNetns(`/run/netns/${host.netns}`, () => new NetlinkSocket(NETLINK_NETFILTER));
  const rules = new Compiler(policies(count, ends), { node: NODE }).all();
  write(nf, undefined, rules, { allowMulticast: true, denyUnknown: false });
  atOnce(admitConnections(nf));
}

/** The same as the original has it: a rule for each policy, with a set of its peers. */
async function iptables(host: Host, count: number, { address, clientAddress }: Ends): Promise<void> {
  const sets = ["create weave-dst hash:ip", `add weave-dst ${address}`];
  const rules = [];
  for (let i = 1; i < count; i++) {
    sets.push(`create weave-src${i} hash:ip`, `add weave-src${i} ${nobody(i)}`);
    rules.push(
      `-A WEAVE-NPC-INGRESS -p tcp -m set --match-set weave-src${i} src -m set --match-set weave-dst dst -m tcp --dport ${FIRST_PORT + i} -j ACCEPT`,
    );
  }
  sets.push("create weave-last hash:ip", `add weave-last ${clientAddress}`);
  for (const [protocol, port] of [
    ["tcp", IPERF_PORT],
    ["udp", IPERF_PORT],
    ["tcp", CONNECT_PORT],
  ])
    rules.push(
      `-A WEAVE-NPC-INGRESS -p ${protocol} -m set --match-set weave-last src -m set --match-set weave-dst dst -m ${protocol} --dport ${port} -j ACCEPT`,
    );
  await host.must(["ipset", "restore"], { stdin: `${sets.join("\n")}\n` });
  const table = [
    "*filter",
    ":WEAVE-NPC - [0:0]",
    ":WEAVE-NPC-DEFAULT - [0:0]",
    ":WEAVE-NPC-INGRESS - [0:0]",
    "-A FORWARD -o weave -j WEAVE-NPC",
    "-A FORWARD -o weave -m state --state NEW -j NFLOG --nflog-group 86",
    "-A FORWARD -o weave -j DROP",
    "-A WEAVE-NPC -m state --state RELATED,ESTABLISHED -j ACCEPT",
    "-A WEAVE-NPC -d 224.0.0.0/4 -j ACCEPT",
    "-A WEAVE-NPC -m state --state NEW -j WEAVE-NPC-DEFAULT",
    "-A WEAVE-NPC -m state --state NEW -j WEAVE-NPC-INGRESS",
    `-A WEAVE-NPC-DEFAULT -m set ! --match-set weave-dst dst -j ACCEPT`,
    ...rules,
    "COMMIT",
    "",
  ];
  await host.must(["iptables-legacy-restore"], { stdin: table.join("\n") });
}

/** What is compared; each on a host of its own, so that all are measured within a moment. */
const VARIANTS: Record<string, (host: Host, ends: Ends) => unknown> = {
  none() {},
  tracking: (host) => host.must(["nft", "-f", "-"], { stdin: TRACKING }),
  iptables: (host, ends) => iptables(host, 5_000, ends),
  few: (host, ends) => nftables(host, 10, ends),
  many: (host, ends) => nftables(host, 5_000, ends),
};

/** Launches a host on its own, with a client and a server. */
async function endsOn(hosts: Hosts, host: Host): Promise<Ends> {
  await host.weave("launch", "--ipalloc-init=consensus=1", "--log-level=error");
  const client = await addPod(hosts, host, `${host.name}-client`);
  const server = await addPod(hosts, host, `${host.name}-server`);
  const warning = inNetns(`/run/netns/${host.netns}`, enableBridgeNetfilter);
  if (warning) throw new Error(warning);
  return {
    client: client.netns,
    server: server.netns,
    address: server.address,
    clientAddress: client.address,
  };
}

interface Figures {
  readonly flow: number[];
  readonly packets: number[];
  readonly connects: number[];
}

/** Measurements of everything that is compared, in turn. */
async function measure(ends: ReadonlyMap<string, Ends>): Promise<Map<string, Figures>> {
  const found = new Map(
    Array.from(ends.keys(), (name): [string, Figures] => [name, { flow: [], packets: [], connects: [] }]),
  );
  for (let run = 0; run < RUNS; run++) {
    for (const [name, path] of ends) {
      found.get(name)?.flow.push(await throughput(path));
      found.get(name)?.packets.push(await packetRate(path));
    }
  }
  const named = [...ends];
  for (const [some, how] of [
    [named.filter(([name]) => name !== "iptables"), QUICK],
    [named.filter(([name]) => name === "iptables"), SLOW],
  ] as const) {
    const paths = some.map(([, path]) => path);
    const rates = await connections(paths, CONNECT_PORT, how);
    for (const [i, [name]] of some.entries()) found.get(name)?.connects.push(...(rates[i] ?? []));
  }
  return found;
}

export async function npcBench(): Promise<Row[]> {
  const variants = Object.entries(VARIANTS);
  await using hosts = await Hosts.create("bnpc", variants.length);
  const ends = new Map<string, Ends>();
  for (const [i, [name, setUp]] of variants.entries()) {
    const host = hosts.host(i + 1);
    const path = await endsOn(hosts, host);
    await setUp(host, path);
    ends.set(name, path);
  }
  const measured = await measure(ends);
  const compare = (name: string, what: string, other: string, against: string): Row[] => {
    const [ours, theirs] = [measured.get(what), measured.get(other)];
    return [
      row(`tcp, ${name}`, "Gbit/s", ours?.flow ?? [], theirs?.flow ?? [], against),
      row(`packets, ${name}`, "1/s", ours?.packets ?? [], theirs?.packets ?? [], against),
      row(`connections, ${name}`, "1/s", ours?.connects ?? [], theirs?.connects ?? [], against),
    ];
  };
  return [
    ...compare("10 policies", "few", "none", "no policies"),
    ...compare("5,000 policies", "many", "none", "no policies"),
    ...compare("5,000 policies vs tracking", "many", "tracking", "connections tracked, no policies"),
    ...compare("5,000 policies vs iptables", "many", "iptables", "as many rules of iptables and ipset"),
  ];
}
