// Our tables of nftables, whole, as text and as a digest of the messages that make them: what they do is proved with packets by
// the namespace tests, and a change of it has to be meant. RECORD=1 writes test/vectors/tables.txt anew.
import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { firewallTable } from "../../lib/host/firewall.ts";
import { FIREWALLD, IPTABLES_NFT } from "../../lib/host/forwarding/nft.ts";
import type { HostPort } from "../../lib/host/hostports/mapping.ts";
import { hostPortTable } from "../../lib/host/hostports/table.ts";
import { NFT_MSG } from "../../lib/netlink/nftables/message.ts";
import { fillTable } from "../../lib/netlink/nftables/replace.ts";
import { addRule } from "../../lib/netlink/nftables/rule.ts";
import { stateOf } from "../../lib/netlink/nftables/state.ts";
import { traceRequests } from "../../lib/netlink/nftables/trace.ts";
import type { Request } from "../../lib/netlink/socket.ts";
import { Compiler } from "../../lib/npc/compiler.ts";
import { wholeTable } from "../../lib/npc/difference.ts";
import { NO_RULES } from "../../lib/npc/ruleset.ts";
import { wholeBridgeTable } from "../../lib/npc/unknown.ts";
import { conformanceCases, modelOf, NODE } from "../support/conformance.ts";

const FILE = join(import.meta.dir, "../vectors/tables.txt");

const exposed = [
  { cidr: parseCidr("10.32.0.1/12"), masquerade: true },
  { cidr: parseCidr("10.50.0.1/24"), masquerade: false },
];
const local = [{ start: parseIPv4("10.32.0.0"), end: parseIPv4("10.32.1.0") }];
const hostPorts: HostPort[] = [
  { protocol: "tcp", hostPort: 8080, address: parseIPv4("10.32.0.1"), port: 80 },
  {
    protocol: "udp",
    hostIp: parseIPv4("10.0.0.1"),
    hostPort: 53,
    address: parseIPv4("10.32.0.2"),
    port: 5353,
  },
];
const [source, destination] = [parseIPv4("10.32.0.1"), parseIPv4("10.32.0.2")];
const flow = {
  source,
  destination,
  protocol: 17,
  at: 0,
  forth: Uint8Array.of(1, 2, 3, 4),
  back: Uint8Array.of(3, 4, 1, 2),
};

const conformance = conformanceCases();

function rulesOf(name: string) {
  const model = modelOf(conformance.find((each) => each.name === name) ?? expect.unreachable());
  return new Compiler(model, { node: NODE }).update(
    model.replace(
      "Pod",
      [...model.pods.values()].map((object) => ({ kind: "Pod", object })),
    ),
  );
}
const ports = rulesOf("a range up to the last port");

const overlays = { sleeve: 6783, vxlan: 6784, name: "02:00:00:00:00:01" };

const CASES: readonly [string, readonly Request[]][] = [
  ["packet filter of the host", fillTable(firewallTable({ exposed, controlPort: 6784, overlays, local }))],
  [
    "packet filter of a host without anything",
    fillTable(firewallTable({ exposed: [], controlPort: undefined, local: [] })),
  ],
  [
    "packet filter of a host that caches flows",
    fillTable(firewallTable({ exposed: [], controlPort: undefined, local: [], flowCache: true })),
  ],
  ["host ports", fillTable(hostPortTable([{ owner: "net/c1/eth0", ports: hostPorts }]))],
  ["policies: none", wholeTable(NO_RULES, { allowMulticast: true })],
  ["policies: none, without multicast", wholeTable(NO_RULES, { allowMulticast: false })],
  ["policies: a range of ports", wholeTable(ports, { allowMulticast: true })],
  ["frames, unknown pods apart", wholeBridgeTable(ports, true)],
  ["frames, unknown pods as all", wholeBridgeTable(NO_RULES, false)],
  ["trace", traceRequests("inet", "weave-trace-1", flow)],
  ["trace of frames", traceRequests("bridge", "weave-trace-1", flow)],
  ...[IPTABLES_NFT, FIREWALLD].map(({ variant, table, rule }): [string, Request[]] => [
    `rules in ${variant}`,
    [
      ...fillTable({ ...table, chains: [{ name: "c", rules: [] }] }),
      ...[
        {},
        { inLink: "weave" },
        { outLink: "weave", destination: parseCidr("10.32.0.0/12") },
        { destination: parseCidr("10.50.0.0/16") },
      ].map((match) => addRule(table, "c", rule(match, "accept"))),
      addRule(table, "c", rule({}, { jump: "WEAVE-FORWARD" })),
    ],
  ]),
];

const MESSAGES = new Map<number, string>(Object.entries(NFT_MSG).map(([name, number]) => [number, name]));

const digestOf = (requests: readonly Request[]) =>
  requests
    .reduce((hash, { body }) => hash.update(body), createHash("sha256"))
    .digest("hex")
    .slice(0, 16);

function textOf(requests: readonly Request[]): string[] {
  const kinds = requests.map(({ type, flags = 0 }) => `${MESSAGES.get(type & 255)}/${flags.toString(16)}`);
  const { chains, sets } = stateOf(requests);
  return [
    `  ${kinds.length} messages ${digestOf(requests)}: ${[...new Set(kinds)].join(" ")}`,
    ...[...sets].flatMap(([name, { definition, elements }]) => [
      `  set ${name}: ${definition}`,
      ...elements.map((element) => `    ${element}`),
    ]),
    ...[...chains].flatMap(([name, { hook, rules }]) => [
      `  chain ${name}: ${hook}`,
      ...rules.map(
        (rule) =>
          `    ${rule
            .split("\n")
            .join("; ")
            .replaceAll(/NFTA_[A-Z]+_/g, "")}`,
      ),
    ]),
  ];
}

test("all tables are what they were", async () => {
  const text = [
    ...CASES.flatMap(([name, requests]) => [name, ...textOf(requests), ""]),
    "policies of the conformance suite",
    ...conformance.map(
      ({ name }) => `  ${name}: ${digestOf(wholeTable(rulesOf(name), { allowMulticast: true }))}`,
    ),
    "",
  ].join("\n");
  if (process.env["RECORD"]) await Bun.write(FILE, text);
  expect(text).toBe(await Bun.file(FILE).text());
});
