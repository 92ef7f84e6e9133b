// What the kernel says over netlink, and tables of iptables-legacy. The kernel is believed, but its versions differ.
import { parseCidr, parseIPv4 } from "../../../lib/address/ipv4.ts";
import { firewallTable } from "../../../lib/host/firewall.ts";
import { address6List, addressList, encodeAddress } from "../../../lib/netlink/address.ts";
import { forgetUdpConnections } from "../../../lib/netlink/conntrack.ts";
import {
  decodeTable,
  dropsAll,
  dropsByPolicy,
  encodeTable,
  INFO,
  legacyRule,
  legacyRuleText,
  linksOf,
} from "../../../lib/netlink/iptables/table.ts";
import { decodeLink, encodeNewLink, linkList, linkState } from "../../../lib/netlink/link.ts";
import { linkCounters } from "../../../lib/netlink/linkstats.ts";
import { decodeError, decodeMessages, encodeMessage } from "../../../lib/netlink/message.ts";
import { decodeEvent } from "../../../lib/netlink/monitor.ts";
import { encodeNeighbour, neighbourList } from "../../../lib/netlink/neighbour.ts";
import { netnsId } from "../../../lib/netlink/netnsid.ts";
import { decodePacket } from "../../../lib/netlink/nflog.ts";
import { decodeChain } from "../../../lib/netlink/nftables/chain.ts";
import { nftAttributes } from "../../../lib/netlink/nftables/message.ts";
import { fillTable } from "../../../lib/netlink/nftables/replace.ts";
import { decodeRule, ruleContent, ruleText } from "../../../lib/netlink/nftables/rule.ts";
import { stateOf } from "../../../lib/netlink/nftables/state.ts";
import { TraceReader } from "../../../lib/netlink/nftables/trace.ts";
import { readTransactions } from "../../../lib/netlink/nftables/watch.ts";
import { encodeRoute, encodeRule, routeList, ruleList } from "../../../lib/netlink/route.ts";
import { routesSetMtu } from "../../../lib/netlink/routemtu.ts";
import { NetlinkSocket } from "../../../lib/netlink/socket.ts";
import { bpfFilterList, clsactReplace, encodeClsact } from "../../../lib/netlink/trafficcontrol.ts";
import { encodePolicy, policyList } from "../../../lib/netlink/xfrm/policy.ts";
import { encodeState, stateList } from "../../../lib/netlink/xfrm/state.ts";
import { readPacket } from "../../../lib/npc/packet.ts";
import { ipv4Frame } from "../../support/frames.ts";
import { kernelTools } from "../../support/vectors.ts";
import { type Decoder, inWays, type Target, wayOf } from "../target.ts";

// AddressError: an address of another length.
const REFUSES = ["AttributeError", "NetlinkError", "AddressError"];
const CUT = /^netlink message of/;
const DONE = 3;

/** A socket whose every request is answered with these messages, as many as follow each other, and the end of a dump. */
function answering(): { readonly socket: NetlinkSocket; answer(datagram: Uint8Array): void } {
  let answer = new Uint8Array();
  let waiting: Uint8Array[] = [];
  const wire = {
    send(_what: string, datagram: Uint8Array) {
      const sequence = new DataView(datagram.buffer, datagram.byteOffset).getUint32(8, true);
      const end = encodeMessage({ type: DONE, flags: 0, sequence, body: new Uint8Array(4) });
      waiting = [withSequence(answer, sequence), end];
    },
    receive: () => waiting.shift(),
    netnsCookie: () => undefined,
    close() {},
  };
  return {
    socket: new NetlinkSocket(0, wire),
    answer: (datagram) => {
      answer = datagram.slice();
    },
  };
}

/** The same messages as answers to that request. */
function withSequence(datagram: Uint8Array, sequence: number): Uint8Array {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  for (let at = 0; at + 16 <= datagram.length; ) {
    view.setUint32(at + 8, sequence, true);
    const length = view.getUint32(at, true);
    if (length < 16 || length > datagram.length - at) break;
    at += (length + 3) & ~3;
  }
  return datagram;
}

const message = (type: number, body: Uint8Array) => encodeMessage({ type, flags: 0, sequence: 1, body });
const CIDR = parseCidr("10.32.0.1/12");

const LISTS: readonly ((socket: NetlinkSocket) => unknown)[] = [
  linkList,
  (socket) => addressList(socket),
  (socket) => address6List(socket, 3),
  (socket) => routeList(socket, { table: "all" }),
  ruleList,
  neighbourList,
  linkCounters,
  (socket) => bpfFilterList(socket, 3, "ingress"),
  (socket) => clsactReplace(socket, "eth0", 3),
  (socket) => routesSetMtu(socket, 3, 1_376),
  (socket) => netnsId(socket, 9),
];

/** The body of RTM_NEWTFILTER, as the kernel answers: struct tcmsg, "bpf", and the program's id and name. */
function bpfFilter(): Uint8Array {
  const header = encodeClsact(3).slice(0, 20);
  const options = joined(attribute(11, Uint8Array.of(9, 0, 0, 0)), attribute(7, Buffer.from("weave\0")));
  return joined(header, attribute(1, Buffer.from("bpf\0")), attribute(2, options));
}

/** rtnetlink: dumps, and notifications. */
async function rtnetlink(): Promise<Decoder> {
  const tools = await kernelTools();
  const { socket, answer } = answering();
  const link = message(
    16,
    encodeNewLink({ kind: "vxlan", name: "vxlan-6784", port: 6784, address: "5e:00:00:00:00:01" }),
  );
  const route = encodeRoute({ destination: parseCidr("10.0.0.0/8"), link: 3 } as never);
  const seeds = [
    link,
    message(20, encodeAddress(3, CIDR, true)),
    message(24, route),
    message(36, encodeClsact(3)),
    message(44, bpfFilter()),
    message(32, encodeRule({ table: 9, mark: 1, priority: 7 } as never)),
  ];
  seeds.push(
    message(28, encodeNeighbour(3, parseIPv4("10.32.0.1"), "5e:00:00:00:00:01")),
    ...[...tools.values()].filter(({ length }) => length > 0),
  );
  return {
    seeds: inWays(LISTS.length + 1, seeds),
    refuses: REFUSES,
    says: CUT,
    run(input) {
      const [way, bytes] = wayOf(input, LISTS.length + 1);
      answer(bytes);
      const list = LISTS[way];
      if (list) return list(socket);
      return decodeMessages(bytes).map((each) => [
        decodeError(each, "test"),
        decodeEvent(each),
        linkState(each),
        decodeLink(each),
      ]);
    },
  };
}

function xfrm(): Decoder {
  const { socket, answer } = answering();
  const [source, destination] = [parseIPv4("10.0.0.1"), parseIPv4("10.0.0.2")];
  const policy = {
    source,
    destination,
    port: 6784,
    direction: "out",
    action: "protect",
    reqid: 6784,
    priority: 6784,
    spi: 300,
  };
  const seeds = [
    message(19, encodePolicy(policy as never)),
    message(
      16,
      encodeState({ source, destination, spi: 300, reqid: 6784, key: new Uint8Array(36) } as never),
    ),
  ];
  return {
    seeds: inWays(2, seeds),
    refuses: REFUSES,
    says: CUT,
    run(input) {
      const [way, bytes] = wayOf(input, 2);
      answer(bytes);
      return way === 0 ? policyList(socket) : stateList(socket);
    },
  };
}

const FILTER = fillTable(
  firewallTable({
    exposed: [{ cidr: CIDR, masquerade: true }],
    controlPort: 6784,
    local: [{ start: parseIPv4("10.32.0.0"), end: parseIPv4("10.32.1.0") }],
  }),
);

function nftables(): Decoder {
  const trace = new TraceReader({ source: parseIPv4("10.32.0.1") } as never);
  const tables = [{ family: "inet", name: "weave", chains: ["forward"] }] as const;
  return {
    seeds: inWays(
      3,
      FILTER.map(({ type, body }) => message(0xa00 | (type & 255), body)),
    ),
    refuses: REFUSES,
    says: CUT,
    run(input) {
      const [way, bytes] = wayOf(input, 3);
      const messages = decodeMessages(bytes);
      if (way === 0) return stateOf(messages.map((each) => ({ ...each, operation: "test" })));
      if (way === 1) {
        const changed: unknown[] = [];
        const listener = { changed: (...what: unknown[]) => changed.push(what), lost() {}, failed() {} };
        const reader = readTransactions(tables as never, () => new Set(), listener);
        for (const each of messages) reader.message(each);
        return [changed, messages.map((each) => trace.read(each))];
      }
      return messages.map((each) => [
        decodeChain(each),
        decodeRule(each),
        ruleText(ruleContent(nftAttributes(each.body))),
      ]);
    },
  };
}

/** struct nlattr */
function attribute(type: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array((4 + payload.length + 3) & ~3);
  new DataView(bytes.buffer).setUint16(0, 4 + payload.length, true);
  new DataView(bytes.buffer).setUint16(2, type, true);
  bytes.set(payload, 4);
  return bytes;
}
const joined = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat(parts));
const nfgen = (family: number) => Uint8Array.of(family, 0, 0, 0);

/** Logged packets: the message, and the packet in it. */
function nflog(): Decoder {
  const packet = ipv4Frame(new Uint8Array(40), { id: 1 }).subarray(14);
  const attributes = [
    attribute(10, Buffer.from("weave-npc\0")),
    attribute(1, Uint8Array.of(8, 0, 1, 0)),
    attribute(16, new Uint8Array(14)),
    attribute(9, packet),
  ];
  return {
    seeds: [2, 7].map((family) => message(0x400, joined(nfgen(family), ...attributes))),
    refuses: REFUSES,
    says: CUT,
    run: (input) =>
      decodeMessages(input).map((each) => {
        const logged = decodePacket(each);
        return logged && [logged.prefix, logged.frame, readPacket(logged.payload)];
      }),
  };
}

function conntrack(): Decoder {
  const { socket, answer } = answering();
  const ip = (source: number) =>
    attribute(
      0x8001,
      joined(attribute(1, Uint8Array.of(10, 0, 0, source)), attribute(2, Uint8Array.of(10, 0, 0, 9))),
    );
  const ports = attribute(
    0x8002,
    joined(
      attribute(1, Uint8Array.of(17)),
      attribute(2, Uint8Array.of(1, 2)),
      attribute(3, Uint8Array.of(0, 53)),
    ),
  );
  const connection = joined(
    nfgen(2),
    attribute(0x8001, joined(ip(1), ports)),
    attribute(0x8002, joined(ip(2), ports)),
    attribute(18, Uint8Array.of(0, 1)),
  );
  return {
    seeds: [message(0x100, connection), joined(message(0x100, connection), message(0x100, connection))],
    refuses: REFUSES,
    says: CUT,
    run(input) {
      answer(input);
      const targets: Uint8Array[] = [];
      forgetUdpConnections(socket, 53, (target) => targets.push(target) < 0);
      return targets;
    },
  };
}

/** A table of iptables-legacy: struct ipt_getinfo in front. */
function iptables(): Decoder {
  const policy = legacyRule({}).bytes;
  const hooks = [1, 2, 3].map((hook) => ({
    name: "",
    hook,
    policy,
    rules: [legacyRule({ inLink: "weave" }, "WEAVE"), legacyRule({ outLink: "eth0", destination: CIDR })],
  }));
  const chains = [
    { name: "WEAVE", rules: [legacyRule({ inLink: "x" })] },
    { name: "B", rules: [] },
  ];
  const { header, entries } = encodeTable({ name: "filter", hooks, chains, entries: 0 });
  const info = new Uint8Array(INFO);
  info.set(Buffer.from("filter"));
  info.set(header.subarray(32, 36), 32);
  info.set(header.subarray(44, 84), 36);
  return {
    seeds: [joined(info, entries)],
    refuses: ["IptablesError"],
    run(input) {
      const table = decodeTable(input.slice(0, INFO), input.slice(INFO));
      const rules = [...table.hooks, ...table.chains].flatMap((each) => each.rules);
      return [
        table,
        table.hooks.map(dropsByPolicy),
        rules.map(linksOf),
        rules.map(dropsAll),
        rules.map(legacyRuleText).length,
        encodeTable(table).entries.length,
      ];
    },
  };
}

export const NETLINK_TARGETS: readonly Target[] = [
  { name: "rtnetlink", open: rtnetlink },
  { name: "xfrm", open: xfrm },
  { name: "nftables", open: nftables },
  { name: "nflog", open: nflog },
  { name: "conntrack", open: conntrack },
  { name: "iptables", open: iptables },
];
