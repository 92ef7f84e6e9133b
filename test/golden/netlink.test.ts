// Our netlink messages against what ip(8), bridge(8), tc(8) and nft(8) send for the same.
import { describe, expect, test } from "bun:test";
import { parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { encodeAddress } from "../../lib/netlink/address.ts";
import { decodeAttributes } from "../../lib/netlink/attributes.ts";
import { encodeBridgePort } from "../../lib/netlink/link/bridgeport.ts";
import { encodeNewLink } from "../../lib/netlink/link.ts";
import { encodeArpTiming } from "../../lib/netlink/linkipv4.ts";
import { decodeMessages } from "../../lib/netlink/message.ts";
import { encodeNeighbour } from "../../lib/netlink/neighbour.ts";
import { matchEstablished } from "../../lib/netlink/nftables/conntrack.ts";
import { verdict } from "../../lib/netlink/nftables/expr/immediate.ts";
import { masquerade } from "../../lib/netlink/nftables/expr/masq.ts";
import { matchAddress, matchLink } from "../../lib/netlink/nftables/match.ts";
import { addRule } from "../../lib/netlink/nftables/rule.ts";
import { encodeRoute, encodeRule } from "../../lib/netlink/route.ts";
import { encodeClsact } from "../../lib/netlink/trafficcontrol.ts";
import { encodePolicy, encodePolicyId } from "../../lib/netlink/xfrm/policy.ts";
import { encodeState, encodeStateId } from "../../lib/netlink/xfrm/state.ts";
import { hex, kernelTools, unhex } from "../support/vectors.ts";

const tools = await kernelTools();

/** Lengths of the family headers in front of the attributes. */
const HEADER = {
  link: 16,
  address: 8,
  route: 12,
  neighbour: 12,
  neighbourTable: 4,
  traffic: 20,
  nft: 4,
  state: 224,
  stateId: 24,
  policy: 168,
  policyId: 64,
} as const;

function recorded(command: string): Uint8Array {
  const bytes = tools.get(command);
  if (!bytes) throw new Error(`nothing recorded for ${command}`);
  const [message] = decodeMessages(bytes);
  if (!message) throw new Error(`no message in ${command}`);
  return message.body;
}

/** Family header as it is, attributes in order of type: tools differ in the order, which means nothing. */
function canonical(body: Uint8Array, header: number): string[] {
  const attributes = decodeAttributes(body.subarray(header)).list.map(
    ({ type, payload }) => `${type}=${hex(payload)}`,
  );
  return [hex(body.subarray(0, header)), ...attributes.sort()];
}

const ASSOCIATION = {
  source: parseIPv4("10.99.0.1"),
  destination: parseIPv4("10.99.0.2"),
  spi: 0xee0a283a,
  reqid: 6784,
  key: unhex("f9beaa5312e9525f24f880b78d5c85d4612acf3a99c0135bd41c1bddb36d70606744439a"),
};
const FLOW = { ...ASSOCIATION, direction: "out", port: 6784, priority: 6784 } as const;
const ESP = "src 10.99.0.1 dst 10.99.0.2 proto esp spi 0xee0a283a";
const UDP = "src 10.99.0.1/32 dst 10.99.0.2/32 proto udp dport 6784";

const CASES: readonly [string, number, Uint8Array][] = [
  [
    "ip link add weave address 5e:00:00:00:00:01 mtu 1376 type bridge",
    HEADER.link,
    encodeNewLink({ kind: "bridge", name: "weave", address: "5e:00:00:00:00:01", mtu: 1376 }),
  ],
  [
    "ip link add vethwepl1234567 mtu 1376 type veth peer name eth0 mtu 1376",
    HEADER.link,
    encodeNewLink({ kind: "veth", name: "vethwepl1234567", mtu: 1376, peer: { name: "eth0", mtu: 1376 } }),
  ],
  [
    `ip xfrm state add ${ESP} reqid 6784 mode transport replay-window 256 flag esn aead rfc4106(gcm(aes)) 0x${hex(ASSOCIATION.key)} 128`,
    HEADER.state,
    encodeState(ASSOCIATION),
  ],
  [`ip xfrm state delete ${ESP}`, HEADER.stateId, encodeStateId(ASSOCIATION)],
  [
    `ip xfrm policy update ${UDP} dir out priority 6784 tmpl ${ESP} reqid 6784 mode transport`,
    HEADER.policy,
    encodePolicy({ ...FLOW, action: { spi: ASSOCIATION.spi, reqid: 6784 } }),
  ],
  [
    `ip xfrm policy update ${UDP} dir out action block priority 6784`,
    HEADER.policy,
    encodePolicy({ ...FLOW, action: "block" }),
  ],
  [`ip xfrm policy delete ${UDP} dir out`, HEADER.policyId, encodePolicyId(FLOW)],
  ["bridge link set dev vethwepl1234567 hairpin on", HEADER.link, encodeBridgePort(5, { hairpin: true })],
  ["bridge link set dev vethwepl1234567 isolated on", HEADER.link, encodeBridgePort(5, { isolated: true })],
  [
    "ip addr add 10.32.0.1/12 brd + dev weave",
    HEADER.address,
    encodeAddress(2, parseCidr("10.32.0.1/12"), true),
  ],
  ["ip addr del 10.32.0.1/12 dev weave", HEADER.address, encodeAddress(2, parseCidr("10.32.0.1/12"), false)],
  [
    "ip route add 224.0.0.0/4 dev weave",
    HEADER.route,
    encodeRoute({ destination: parseCidr("224.0.0.0/4"), link: 2 }),
  ],
  [
    "ip route add default via 10.32.0.2 dev weave",
    HEADER.route,
    encodeRoute({ destination: parseCidr("0.0.0.0/0"), gateway: parseIPv4("10.32.0.2"), link: 2 }),
  ],
  [
    "ip neigh replace 10.32.0.9 lladdr 5e:00:00:00:00:09 dev weave nud permanent",
    HEADER.neighbour,
    encodeNeighbour(2, parseIPv4("10.32.0.9"), "5e:00:00:00:00:09"),
  ],
  [
    "ip ntable change name arp_cache dev weave base_reachable 5000 delay_probe 2000 ucast_probes 1",
    HEADER.neighbourTable,
    encodeArpTiming(2, { base_reachable_time: 5, delay_first_probe_time: 2, ucast_solicit: 1 }),
  ],
  [
    "ip rule add pref 100 fwmark 7 table 200",
    HEADER.route,
    encodeRule({ priority: 100, mark: 7, table: 200 }),
  ],
  ["tc qdisc add dev vxlan-6784 clsact", HEADER.traffic, encodeClsact(3)],
];

describe("rtnetlink bodies", () => {
  test.each(CASES)("%s", (command, header, ours) => {
    expect(canonical(ours, header)).toEqual(canonical(recorded(command), header));
  });

  test("ip link add … type vxlan external", () => {
    const ours = encodeNewLink({ kind: "vxlan", name: "vxlan-6784", port: 6784 });
    const theirs = recorded("ip link add vxlan-6784 type vxlan external dstport 6784 nolearning");
    const data = (body: Uint8Array) => {
      const info = decodeAttributes(body.subarray(HEADER.link)).need(18).nested;
      return info.need(2).nested.list.map(({ type, payload }) => `${type}=${hex(payload)}`);
    };
    // Port, learning and external are as ip sends them; it adds an "udp checksum" default that we leave to each packet.
    expect(data(theirs)).toEqual(expect.arrayContaining(data(ours)));
  });
});

describe("nftables rules", () => {
  const table = { family: "ip", name: "weave" } as const;
  const net = parseCidr("10.32.0.0/12");
  const rules = decodeMessages(tools.get("nft -f -") ?? new Uint8Array()).filter(
    ({ type }) => (type & 255) === 6,
  );

  const ours = [
    [
      "postrouting",
      [...matchAddress("saddr", net), ...matchAddress("daddr", parseCidr("224.0.0.0/4")), verdict("return")],
    ],
    ["postrouting", [...matchAddress("saddr", net), ...matchAddress("daddr", net, false), masquerade()]],
    ["forward", [...matchLink("iifname", "weave"), verdict("accept")]],
    ["forward", [...matchLink("oifname", "weave"), ...matchEstablished(), verdict("accept")]],
  ] as const;

  /** Names and sorted attributes of a rule's expressions. Counters of our own making would show here. */
  function expressions(body: Uint8Array): string[] {
    const list = decodeAttributes(body.subarray(HEADER.nft)).need(4).nested.list;
    return list.map(({ nested }) => {
      const name = nested.need(1).string;
      // A mask of whole bytes nft turns into a shorter load; ours stays a mask. Both are compared by what they match.
      const data = nested.get(2)?.nested.list.map(({ type, payload }) => `${type}=${hex(payload)}`) ?? [];
      return `${name} ${data.sort().join(" ")}`;
    });
  }

  test.each(ours.map(([name, rule], i) => [i, name, rule] as const))("rule %d in %s", (i, name, rule) => {
    const theirs = rules[i];
    if (!theirs) throw new Error("not recorded");
    expect(expressions(addRule(table, name, rule).body)).toEqual(expressions(theirs.body));
  });
});
