// Packet tracing, as `nft monitor trace` (NFT_MSG_TRACE in linux/netfilter/nf_tables.h): the rules that packets with nftrace meet.
// A table of ours sets it, for one flow; the table is owned by our socket, so the kernel removes it with the process.
import { closeSync } from "node:fs";
import { type IPv4, ipv4FromOctets, ipv4Octets } from "../../address/ipv4.ts";
import { EAGAIN, ENOBUFS, isErrno } from "../../sys/errno.ts";
import { receiveDatagram } from "../../sys/socket.ts";
import type { Attributes } from "../attributes.ts";
import { decodeMessages, type Message } from "../message.ts";
import { NFNL_SUBSYS_NFTABLES, NFPROTO, nfnlType } from "../nfnetlink.ts";
import { NETLINK_NETFILTER, NetlinkSocket, openNetlink, type Request } from "../socket.ts";
import { addChain } from "./chain.ts";
import { decodeVerdict, NF_DROP } from "./expr/data.ts";
import { load } from "./expr/immediate.ts";
import { limit } from "./expr/limit.ts";
import { metaSet } from "./expr/meta.ts";
import { matchAddressOctets, matchEtherType, matchFamily } from "./match.ts";
import { commit, NFT_MSG, nftAttributes, type TableName } from "./message.ts";
import { addRule, type Rule } from "./rule.ts";
import { addTable, NFT_TABLE_F_OWNER } from "./table.ts";
import { matchProtocol, matchTransport } from "./transport.ts";

/** enum nfnetlink_groups */
const NFNLGRP_NFTRACE = 9;

/** enum nft_trace_attributes */
const NFTA_TRACE_TABLE = 1;
const NFTA_TRACE_CHAIN = 2;
const NFTA_TRACE_RULE_HANDLE = 3;
const NFTA_TRACE_TYPE = 4;
const NFTA_TRACE_VERDICT = 5;
const NFTA_TRACE_ID = 6;
const NFTA_TRACE_NETWORK_HEADER = 8;
const NFTA_TRACE_POLICY = 16;
/** enum nft_trace_types */
const NFT_TRACETYPE_POLICY = 1;
const NFT_TRACETYPE_RULE = 3;

/** Before all others. */
const FIRST = -10_000;
/** Bytes of a datagram of the kernel. */
const DATAGRAM = 1 << 16;
const MAX_DATAGRAMS = 1024;
/** Packets traced, of a direction and hook: the kernel reports each rule that each of them meets. */
const TRACED_PER_S = 5;
const TRACED_BURST = 20;
/** Bound on remembered packets. */
const MAX_IDS = 4096;

type TracedFamily = keyof typeof NFPROTO;
const FAMILIES: ReadonlyMap<number, TracedFamily> = new Map(
  (Object.keys(NFPROTO) as TracedFamily[]).map((name) => [NFPROTO[name], name]),
);

/** A flow, in both directions. */
export interface Flow {
  readonly source: IPv4;
  readonly destination: IPv4;
  /** IP protocol number. */
  readonly protocol: number;
  /** Offset in the transport header of octets that identify the flow, and these for each direction. */
  readonly at: number;
  readonly forth: Uint8Array;
  readonly back: Uint8Array;
}

/** A rule, or the policy of a chain, that dropped a packet of the flow. */
export interface TracedDrop {
  readonly family: TracedFamily;
  readonly table: string;
  readonly chain: string;
  /** The rule's; undefined for the policy of the chain. */
  readonly handle: bigint | undefined;
  /** Whether the packet was to the destination, not an answer. */
  readonly forth: boolean;
}

export interface PacketTrace {
  /** Return the drops since the last call. Throws SysError. */
  read(): TracedDrop[];
  close(): void;
}

/** Number of traces of this process so far: each has its own tables. */
let traces = 0;

/** Trace a flow in the network namespace that this thread is in now; throws NetlinkError where the kernel cannot. */
export function tracePackets(flow: Flow): PacketTrace {
  const fd = openNetlink("nftables trace", NETLINK_NETFILTER, [NFNLGRP_NFTRACE]);
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
  commit(nf, traceRequests(family, name, flow));
}

/** Return what makes a table that has the packets of a flow traced, and goes with its socket. */
export function traceRequests(family: "inet" | "bridge", name: string, flow: Flow): Request[] {
  const table: TableName = { family, name };
  const hooks = family === "bridge" ? (["prerouting"] as const) : (["prerouting", "output"] as const);
  return [
    addTable(table, NFT_TABLE_F_OWNER),
    ...hooks.flatMap((hook) => {
      const base = { type: "filter", hook, priority: FIRST, policy: "accept" } as const;
      const rules = [traceRule(family, flow, true), traceRule(family, flow, false)];
      return [addChain(table, { name: hook, base }), ...rules.map((rule) => addRule(table, hook, rule))];
    }),
  ];
}

function traceRule(family: "inet" | "bridge", flow: Flow, forth: boolean): Rule {
  const [source, destination] = forth ? [flow.source, flow.destination] : [flow.destination, flow.source];
  const octets = forth ? flow.forth : flow.back;
  return [
    ...(family === "bridge" ? matchEtherType(0x0800) : matchFamily(4)),
    ...matchAddressOctets("saddr", ipv4Octets(source)),
    ...matchAddressOctets("daddr", ipv4Octets(destination)),
    ...matchProtocol(flow.protocol),
    ...matchTransport(flow.at, octets),
    limit(TRACED_PER_S, TRACED_BURST),
    load(Uint8Array.of(1)),
    metaSet("nftrace"),
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
      // The kernel has dropped messages; the rest is still valid.
      if (!isErrno(error, ENOBUFS, EAGAIN)) throw error;
    }
  }
  return messages;
}

/** Reads messages in order: only the first of a packet has its direction. */
export class TraceReader {
  readonly #forth = new Map<number, boolean>();

  constructor(private readonly flow: Pick<Flow, "source">) {}

  /** Return the drop that a message reports, if it does. */
  read({ type, body }: Pick<Message, "type" | "body">): TracedDrop | undefined {
    const family = FAMILIES.get(body[0] ?? 0);
    if (type !== nfnlType(NFNL_SUBSYS_NFTABLES, NFT_MSG.TRACE) || family === undefined) return undefined;
    const attributes = nftAttributes(body);
    const id = attributes.get(NFTA_TRACE_ID)?.u32be ?? 0;
    const network = attributes.get(NFTA_TRACE_NETWORK_HEADER)?.payload;
    if (network && network.length >= 20 && this.#forth.size < MAX_IDS)
      this.#forth.set(id, ipv4FromOctets(network.subarray(12, 16)) === this.flow.source);
    if (!isDrop(attributes)) return undefined;
    const isRule = attributes.get(NFTA_TRACE_TYPE)?.u32be === NFT_TRACETYPE_RULE;
    return {
      family,
      table: attributes.get(NFTA_TRACE_TABLE)?.string ?? "",
      chain: attributes.get(NFTA_TRACE_CHAIN)?.string ?? "",
      handle: isRule ? attributes.get(NFTA_TRACE_RULE_HANDLE)?.u64be : undefined,
      forth: this.#forth.get(id) ?? true,
    };
  }
}

function isDrop(attributes: Attributes): boolean {
  switch (attributes.get(NFTA_TRACE_TYPE)?.u32be) {
    case NFT_TRACETYPE_RULE: {
      const verdict = attributes.get(NFTA_TRACE_VERDICT);
      return verdict !== undefined && decodeVerdict(verdict).code === NF_DROP;
    }
    case NFT_TRACETYPE_POLICY:
      return attributes.get(NFTA_TRACE_POLICY)?.u32be === NF_DROP;
    default:
      return false;
  }
}
