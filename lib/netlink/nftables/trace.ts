// Rules that a packet meets, as the kernel tells of packets that have nftrace set (`nft monitor trace`; NFT_MSG_TRACE in
// linux/netfilter/nf_tables.h). A table of ours sets it, for one flow; the table belongs to our socket, so the kernel
// removes it with the process, whatever becomes of that.
import { closeSync } from "node:fs";
import { type IPv4, ipv4FromOctets, ipv4Octets } from "../../address/ipv4.ts";
import { EAGAIN, ENOBUFS, isErrno } from "../../sys/errno.ts";
import { receiveDatagram } from "../../sys/socket.ts";
import { type Attributes, decodeAttributes } from "../attributes.ts";
import { decodeMessages, type Message } from "../message.ts";
import { NETLINK_NETFILTER, NetlinkSocket, openNetlink, type Request } from "../socket.ts";
import { etherType, ofFamily } from "./expression.ts";
import {
  compare,
  type Expression,
  expression,
  limit,
  meta,
  NFTA_DATA_VALUE,
  PAYLOAD_NETWORK,
  PAYLOAD_TRANSPORT,
  payload,
  REGISTER,
} from "./step.ts";
import { addChain, addRule, commit, nftMessage, type Rule, type TableName } from "./table.ts";

const GROUP_NFTRACE = 9;
const TRACE = (10 << 8) | 17;
const ATTRIBUTE = {
  table: 1,
  chain: 2,
  handle: 3,
  type: 4,
  verdict: 5,
  id: 6,
  network: 8,
  policy: 16,
} as const;
const TYPE = { policy: 1, rule: 3 } as const;
const VERDICT_CODE = 1;
const DROP = 0;
const META_NFTRACE = 12;
/** NFT_TABLE_F_OWNER (Linux 5.12). */
const OWNED = 2;
/** Before all others. */
const FIRST = -10_000;
/** Bytes of a datagram of the kernel. */
const DATAGRAM = 1 << 16;
const MAX_DATAGRAMS = 1024;
/** Packets of a direction and hook that are traced: the kernel tells of each rule that each of them meets. */
const TRACED_PER_S = 5;
const TRACED_BURST = 20;
/** Packets that are remembered. */
const MAX_IDS = 4096;

const FAMILIES: Readonly<Record<number, string>> = {
  1: "inet",
  2: "ip",
  3: "arp",
  5: "netdev",
  7: "bridge",
  10: "ip6",
};

/** Packets of a flow: of both directions. */
export interface Flow {
  readonly source: IPv4;
  readonly destination: IPv4;
  /** IP protocol number. */
  readonly protocol: number;
  /** Octets that tell the flow's packets from others in the transport header, and where they begin; by direction. */
  readonly at: number;
  readonly forth: Uint8Array;
  readonly back: Uint8Array;
}

/** A rule, or the policy of a chain, that dropped a packet of the flow. */
export interface TracedDrop {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  /** The rule's; undefined for the policy of the chain. */
  readonly handle: bigint | undefined;
  /** Towards the destination; else an answer. */
  readonly forth: boolean;
}

export interface PacketTrace {
  /** What was dropped since the last time. Throws SysError. */
  read(): TracedDrop[];
  close(): void;
}

/** Traces of this process so far: each has tables of its own. */
let traces = 0;

/** Traces a flow in the network namespace that this thread is in now; throws NetlinkError where the kernel cannot. */
export function tracePackets(flow: Flow): PacketTrace {
  const fd = openNetlink("nftables trace", NETLINK_NETFILTER, [GROUP_NFTRACE]);
  let owner: NetlinkSocket | undefined;
  try {
    owner = new NetlinkSocket(NETLINK_NETFILTER);
    const name = `weave-trace-${process.pid}-${++traces}`;
    install(owner, "inet", name, flow);
    try {
      install(owner, "bridge", name, flow);
    } catch {
      // A kernel without nftables for bridges has no rules there, either.
    }
  } catch (error) {
    owner?.close();
    closeSync(fd);
    throw error;
  }
  const reader = new TraceReader(flow);
  return {
    read: () => drain(fd).flatMap((message) => reader.read(message) ?? []),
    close() {
      owner.close();
      closeSync(fd);
    },
  };
}

function install(nf: NetlinkSocket, family: "inet" | "bridge", name: string, flow: Flow): void {
  const table: TableName = { family, name };
  const hooks = family === "bridge" ? (["prerouting"] as const) : (["prerouting", "output"] as const);
  commit(nf, [
    addOwnedTable(table),
    ...hooks.flatMap((hook) => {
      const base = { type: "filter", hook, priority: FIRST, policy: "accept" } as const;
      const rules = [traceRule(family, flow, true), traceRule(family, flow, false)];
      return [addChain(table, { name: hook, base }), ...rules.map((rule) => addRule(table, hook, rule))];
    }),
  ]);
}

function addOwnedTable(table: TableName): Request {
  return nftMessage(table, "newTable", `add table ${table.family} ${table.name}`, (body) =>
    body.string(1, table.name).u32be(2, OWNED),
  );
}

function traceRule(family: "inet" | "bridge", flow: Flow, forth: boolean): Rule {
  const [source, destination] = forth ? [flow.source, flow.destination] : [flow.destination, flow.source];
  const octets = forth ? flow.forth : flow.back;
  return [
    ...(family === "bridge" ? etherType(0x0800) : ofFamily(4)),
    payload(PAYLOAD_NETWORK, 12, 4),
    compare(ipv4Octets(source), true),
    payload(PAYLOAD_NETWORK, 16, 4),
    compare(ipv4Octets(destination), true),
    meta("l4proto"),
    compare(Uint8Array.of(flow.protocol), true),
    payload(PAYLOAD_TRANSPORT, flow.at, octets.length),
    compare(octets, true),
    limit(TRACED_PER_S, TRACED_BURST),
    ...setTrace(),
  ];
}

function setTrace(): Expression[] {
  return [
    expression("immediate", (data) =>
      data.u32be(1, REGISTER).nested(2, (value) => value.bytes(NFTA_DATA_VALUE, Uint8Array.of(1))),
    ),
    expression("meta", (data) => data.u32be(2, META_NFTRACE).u32be(3, REGISTER)),
  ];
}

function drain(fd: number): Message[] {
  const messages: Message[] = [];
  const buffer = new Uint8Array(DATAGRAM);
  for (let i = 0; i < MAX_DATAGRAMS; i++) {
    try {
      const datagram = receiveDatagram("reading nftables trace", fd, buffer, false);
      if (!datagram) break;
      messages.push(...decodeMessages(datagram.slice()));
    } catch (error) {
      // The kernel has dropped messages: what is left is still true.
      if (!isErrno(error, ENOBUFS, EAGAIN)) throw error;
    }
  }
  return messages;
}

/** Reads messages in turn: only the first of a packet says which way it goes. */
export class TraceReader {
  readonly #forth = new Map<number, boolean>();

  constructor(private readonly flow: Pick<Flow, "source">) {}

  /** The drop that a message tells of. */
  read({ type, body }: Pick<Message, "type" | "body">): TracedDrop | undefined {
    if (type !== TRACE) return undefined;
    const attributes = decodeAttributes(body.subarray(4));
    const id = attributes.get(ATTRIBUTE.id)?.u32be ?? 0;
    const network = attributes.get(ATTRIBUTE.network)?.payload;
    if (network && network.length >= 20 && this.#forth.size < MAX_IDS)
      this.#forth.set(id, ipv4FromOctets(network.subarray(12, 16)) === this.flow.source);
    if (!isDrop(attributes)) return undefined;
    const rule = attributes.get(ATTRIBUTE.type)?.u32be === TYPE.rule;
    return {
      family: FAMILIES[body[0] ?? 0] ?? String(body[0]),
      table: attributes.get(ATTRIBUTE.table)?.string ?? "",
      chain: attributes.get(ATTRIBUTE.chain)?.string ?? "",
      handle: rule ? attributes.get(ATTRIBUTE.handle)?.u64be : undefined,
      forth: this.#forth.get(id) ?? true,
    };
  }
}

function isDrop(attributes: Attributes): boolean {
  switch (attributes.get(ATTRIBUTE.type)?.u32be) {
    case TYPE.rule:
      return attributes.get(ATTRIBUTE.verdict)?.nested.get(VERDICT_CODE)?.u32be === DROP;
    case TYPE.policy:
      return attributes.get(ATTRIBUTE.policy)?.u32be === DROP;
    default:
      return false;
  }
}
