// Network policy: what a packet and a connection cost with few and with many policies, against no policy at all, against a
// table that does no more than track connections, and against iptables and ipset in the shape that the original gives them.
import { atOnce } from "../../lib/clock/slices.ts";
import { enableBridgeNetfilter } from "../../lib/host/bridgenetfilter.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { Compiler } from "../../lib/npc/compiler.ts";
import { Model } from "../../lib/npc/model.ts";
import { readObject } from "../../lib/npc/read.ts";
import { admitConnections, write } from "../../lib/npc/writer.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { baseCluster, ENDS, NODE } from "../support/conformance.ts";
import { must } from "../support/hosts.ts";
import { PolicyNet } from "../support/policynet.ts";
import { type Row, row } from "./row.ts";

const RUNS = 5;
const SETTLE_MS = 500;
const SECONDS = 1;
const IPERF_PORT = 5201;
const CONNECT_PORT = 5300;
const CONNECTS = 1_500;
/** What makes the kernel track connections, as NAT and every stateful filter do. */
const TRACKING =
  "table inet tracking { chain postrouting { type filter hook postrouting priority 95; ct state established accept; }; }\n";
/** Ports of the policies that are in the way begin here. */
const FIRST_PORT = 10_000;

const [SERVER, CLIENT] = ["x/a", "y/a"] as const;

/** An address that is nobody's. */
const nobody = (i: number) => `10.40.${i >> 8}.${i & 255}`;

/** Policies that all are about the server, each for another peer and port; the last lets the client in. */
function policies(count: number): Model {
  const model = new Model();
  const objects = [];
  for (let i = 1; i < count; i++) {
    const spec = {
      podSelector: { matchLabels: { pod: "a" } },
      ingress: [
        {
          from: [
            {
              namespaceSelector: { matchLabels: { ns: "z" } },
              podSelector: { matchLabels: { app: `a${i}` } },
            },
          ],
          ports: [{ port: FIRST_PORT + i }],
        },
      ],
    };
    objects.push(readObject("NetworkPolicy", { metadata: { namespace: "x", name: `p${i}` }, spec }));
    objects.push(
      readObject("Pod", {
        metadata: { namespace: "z", name: `app${i}`, labels: { app: `a${i}` } },
        spec: { nodeName: "n2" },
        status: { podIP: nobody(i) },
      }),
    );
  }
  const spec = {
    podSelector: { matchLabels: { pod: "a" } },
    ingress: [
      {
        from: [{ namespaceSelector: { matchLabels: { ns: "y" } } }],
        ports: [{ port: IPERF_PORT }, { port: IPERF_PORT, protocol: "UDP" }, { port: CONNECT_PORT }],
      },
    ],
  };
  objects.push(readObject("NetworkPolicy", { metadata: { namespace: "x", name: "last" }, spec }));
  model.apply([...baseCluster(), ...objects.map((object) => ({ type: "set", object }) as const)]);
  return model;
}

const inHost = (net: PolicyNet, ...command: string[]) => [
  "ip",
  "netns",
  "exec",
  `${net.prefix}-host`,
  ...command,
];
const inEnd = (net: PolicyNet, end: string, ...command: string[]) => [
  "ip",
  "netns",
  "exec",
  net.netns(end),
  ...command,
];

/** The same as the original has it: a rule for each policy, with a set of its peers. */
async function iptables(net: PolicyNet, count: number): Promise<void> {
  const sets = ["create weave-dst hash:ip", `add weave-dst ${ENDS.get(SERVER)}`];
  const rules = [];
  for (let i = 1; i < count; i++) {
    sets.push(`create weave-src${i} hash:ip`, `add weave-src${i} ${nobody(i)}`);
    rules.push(
      `-A WEAVE-NPC-INGRESS -p tcp -m set --match-set weave-src${i} src -m set --match-set weave-dst dst -m tcp --dport ${FIRST_PORT + i} -j ACCEPT`,
    );
  }
  sets.push("create weave-last hash:ip", `add weave-last ${ENDS.get(CLIENT)}`);
  for (const [protocol, port] of [
    ["tcp", IPERF_PORT],
    ["udp", IPERF_PORT],
    ["tcp", CONNECT_PORT],
  ])
    rules.push(
      `-A WEAVE-NPC-INGRESS -p ${protocol} -m set --match-set weave-last src -m set --match-set weave-dst dst -m ${protocol} --dport ${port} -j ACCEPT`,
    );
  await must(inHost(net, "ipset", "restore"), { stdin: `${sets.join("\n")}\n` });
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
  await must(inHost(net, "iptables-legacy-restore"), { stdin: table.join("\n") });
}

async function withoutIptables(net: PolicyNet): Promise<void> {
  await must(inHost(net, "iptables-legacy-restore"), { stdin: "*filter\nCOMMIT\n" });
  await must(inHost(net, "ipset", "destroy"));
}

async function iperf(net: PolicyNet, ...options: string[]) {
  const command = ["iperf3", "-J", "-t", String(SECONDS), "-c", ENDS.get(SERVER) ?? "", ...options];
  return JSON.parse(await must(inEnd(net, CLIENT, ...command))).end;
}

/** Gbit/s of one TCP flow. */
async function throughput(net: PolicyNet): Promise<number> {
  return (await iperf(net)).sum_received.bits_per_second / 1e9;
}

/** Small UDP packets a second that arrive. */
async function packetRate(net: PolicyNet): Promise<number> {
  const { packets, lost_packets, seconds } = (await iperf(net, "-u", "-b", "0", "-l", "64")).sum;
  return (packets - lost_packets) / seconds;
}

const CONNECTOR = `
  const [host, port, count] = process.argv.slice(-3);
  const started = performance.now();
  for (let i = 0; i < Number(count); i++) {
    const { promise, resolve } = Promise.withResolvers();
    const socket = await Bun.connect({ hostname: host, port: Number(port), socket: { open() {}, data() {}, close: resolve } });
    await promise;
  }
  console.log(Number(count) / (performance.now() - started) * 1000);
  process.exit(0);`;
const ACCEPTOR = `
  Bun.listen({ hostname: "0.0.0.0", port: ${CONNECT_PORT}, socket: { open(socket) { socket.end(); }, data() {} } });
  console.log("ready");`;

/** TCP connections a second, one after the other. */
async function connections(net: PolicyNet): Promise<number> {
  const args = [ENDS.get(SERVER) ?? "", String(CONNECT_PORT), String(CONNECTS)];
  const command = inEnd(net, CLIENT, process.execPath, "-e", CONNECTOR, ...args);
  // Through thousands of rules of iptables a connection takes 6 ms.
  return Number(await must(command, { timeoutMs: 120_000 }));
}

/** Turns of measurements with everything that is compared, one after the other. */
async function packets(net: PolicyNet): Promise<Row[]> {
  using nf = inNetns(net.host, () => new NetlinkSocket(NETLINK_NETFILTER));
  const warning = inNetns(net.host, enableBridgeNetfilter);
  if (warning) throw new Error(warning);
  // Nobody is to be told of each packet here.
  await must(inHost(net, "nft", "delete", "table", "inet", "probe"));
  const servers = [
    Bun.spawn(inEnd(net, SERVER, "iperf3", "-s"), { stdout: "ignore", stderr: "ignore" }),
    Bun.spawn(inEnd(net, SERVER, process.execPath, "-e", ACCEPTOR), { stdout: "ignore", stderr: "ignore" }),
  ];
  try {
    await Bun.sleep(500);
    const counts = [10, 5_000];
    const rules = counts.map((count) => new Compiler(policies(count), { node: NODE }).all());
    const measured = new Map<string, { flow: number[]; packets: number[]; connects: number[] }>();
    const measure = async (what: string) => {
      // Garbage of this process, and of the kernel's last table, would take processors from what is measured.
      Bun.gc(true);
      await Bun.sleep(SETTLE_MS);
      const figures = measured.get(what) ?? { flow: [], packets: [], connects: [] };
      figures.flow.push(await throughput(net));
      figures.packets.push(await packetRate(net));
      figures.connects.push(await connections(net));
      measured.set(what, figures);
    };
    for (let run = 0; run < RUNS; run++) {
      await Bun.spawn(inHost(net, "nft", "delete", "table", "inet", "weave-npc"), { stderr: "ignore" })
        .exited;
      await measure("none");
      await must(inHost(net, "nft", "-f", "-"), { stdin: TRACKING });
      await measure("tracking");
      await must(inHost(net, "nft", "delete", "table", "inet", "tracking"));
      await iptables(net, 5_000);
      await measure("iptables");
      await withoutIptables(net);
      for (const [i, each] of rules.entries()) {
        write(nf, undefined, each, { allowMulticast: true, denyUnknown: false });
        atOnce(admitConnections(nf));
        await measure(String(counts[i]));
      }
    }
    const compare = (name: string, what: string, other: string, against: string): Row[] => {
      const [ours, theirs] = [measured.get(what), measured.get(other)];
      return [
        row(`tcp, ${name}`, "Gbit/s", ours?.flow ?? [], theirs?.flow ?? [], against),
        row(`packets, ${name}`, "1/s", ours?.packets ?? [], theirs?.packets ?? [], against),
        row(`connections, ${name}`, "1/s", ours?.connects ?? [], theirs?.connects ?? [], against),
      ];
    };
    return [
      ...compare("10 policies", "10", "none", "no policies"),
      ...compare("5,000 policies", "5000", "none", "no policies"),
      ...compare("5,000 policies vs tracking", "5000", "tracking", "connections tracked, no policies"),
      ...compare("5,000 policies vs iptables", "5000", "iptables", "as many rules of iptables and ipset"),
    ];
  } finally {
    for (const server of servers) {
      server.kill();
      await server.exited;
    }
  }
}

export async function npcBench(): Promise<Row[]> {
  const net = await PolicyNet.create("bnpc");
  try {
    return await packets(net);
  } finally {
    net.dispose();
  }
}
