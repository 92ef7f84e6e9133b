// The ingress program of an underlay link. It redirects VXLAN packets of cached flows straight into their container. It records and
// marks the others, so that the program of the container's port can cache the flow if the slow path accepts the packet.
import { Assembler, FP, R0, R1, R2, R4, R6, R7, R8, R9 } from "../../bpf/assembler.ts";
import { BPF_EXIST, BPF_NOEXIST, lookup, update, verdict } from "../../bpf/emit.ts";
import { SKB, TC_ACT } from "../../bpf/skbuff.ts";
import { SHORT_ID_BITS, SHORT_IDS } from "../../mesh/bounds.ts";
import { NEIGHBOUR_VALUE } from "../datapath/maps.ts";
import { removeOuter, requireClear } from "./decapsulate.ts";
import {
  addMark,
  CLEAR,
  countPacket,
  ETHERTYPE_IPV4,
  type FlowProgramMaps,
  loadFlow,
  loadPacket,
  loadPort,
  requireEthernet,
  requireFresh,
  requireIPv4,
  requireOn,
  STACK,
  UDP,
} from "./flow.ts";
import { FLOW, HEADERS, IN } from "./maps.ts";
import { OUTER, requireVxlan, requireWhole } from "./outer.ts";
import { deliverOnPath, findPathFrom } from "./pathfrom.ts";

const PACKET_HOST = 0;
const CE = { imm: 3 };
const VALUE = STACK.value;
/** Fields of an entry that must match the packet, and their offsets in the packet. */
const SAME = [
  [IN.identifier, OUTER.identifier],
  [IN.source, OUTER.source],
  [IN.destination, OUTER.destination],
] as const;

/**
 * Return the program. `port` is the UDP port of the fast datapath, `self` our short id. It accepts frames from `neighbours` and counts
 * their bytes there; `macs` maps Ethernet addresses to peers.
 */
export function arrivalProgram(
  maps: FlowProgramMaps,
  { neighbours, macs }: { readonly [name in "neighbours" | "macs"]: { readonly fd: number } },
  { port, self }: { readonly port: number; readonly self: number },
): Uint8Array {
  const asm = new Assembler();
  asm
    .mov(R6, R1)
    .load("u32", R1, R6, SKB.protocol)
    .jumpIf(R1, "ne", ETHERTYPE_IPV4, "pass")
    .load("u32", R1, R6, SKB.pkt_type)
    .jumpIf(R1, "ne", { imm: PACKET_HOST }, "pass")
    .load("u32", R1, R6, SKB.vlan_present)
    .jumpIf(R1, "ne", { imm: 0 }, "pass");
  loadPacket(asm, HEADERS.all, "pass");
  requireIPv4(asm, 0, "pass");
  requireVxlan(asm, port, "pass");
  // The slow path copies congestion experienced to the inner header (RFC 6040).
  asm.load("u8", R1, R2, OUTER.tos).alu("and", R1, CE).jumpIf(R1, "eq", CE, "pass");
  requireWhole(asm, "pass");
  requirePeers(asm, self);
  asm.load("u32", R1, R2, OUTER.source).bigEndian(R1, 32).store("u32", FP, STACK.remote, R1);
  lookup(asm, neighbours.fd, STACK.remote);
  asm.jumpIf(R0, "eq", { imm: 0 }, "pass").mov(R8, R0);
  loadPacket(asm, HEADERS.all, "pass");
  loadFlow(asm, HEADERS.outer, "not-cached");
  requireSegmented(asm, "pass");
  lookup(asm, maps.in.fd, STACK.flow);
  asm.jumpIf(R0, "eq", { imm: 0 }, "note").mov(R7, R0);
  requireFresh(asm, maps, R7, IN, "renew");
  asm.load("u32", R1, R7, IN.limit).jumpIf(R9, "gt", R1, "mark");
  loadPacket(asm, HEADERS.all, "pass");
  requireSame(asm, "pass");
  asm.load("u32", R1, R7, IN.port);
  loadPort(asm, maps, "pass");
  asm.mov(R9, R0);
  removeOuter(asm, "pass", "drop");
  for (let i = 0; i < HEADERS.ethernet; i += 2)
    asm.load("u16", R1, R7, IN.ethernet + i).store("u16", R2, i, R1);
  noteNeighbour(asm);
  asm.load("u32", R1, R6, SKB.len).atomicAdd(R8, NEIGHBOUR_VALUE.received, R1);
  countPacket(asm, R9, "received");
  asm.load("u32", R1, R7, IN.port).mov(R2, { imm: 0 }).call("redirect_peer").exit();

  asm.label("renew");
  loadPacket(asm, HEADERS.all, "pass");
  requireSame(asm, "replace");
  asm.label("mark");
  findPathFrom(asm, maps);
  asm.load("u64", R1, FP, STACK.since).store("u64", R7, IN.since, R1).jump("clear");

  // A stale entry with another path is replaced only by a path that the slow path has confirmed: a packet of the first one may be on
  // its way to confirm the entry.
  asm.label("replace").store("u64", FP, STACK.flags, BPF_EXIST).jump("record");
  asm.label("note").store("u64", FP, STACK.flags, BPF_NOEXIST).label("record");
  requireOn(asm, maps, "pass");
  findPathFrom(asm, maps);
  asm
    .load("u64", R1, FP, STACK.since)
    .jumpIf(R1, "ne", { imm: 0 }, "confirmed")
    .load("u64", R1, FP, STACK.flags)
    .jumpIf(R1, "eq", BPF_EXIST, "pass")
    .label("confirmed");
  loadPacket(asm, HEADERS.all, "pass");
  noteFlow(asm);
  asm.load("u64", R4, FP, STACK.flags);
  update(asm, maps.in.fd, STACK.flow, VALUE, R4);
  asm.jumpIf(R0, "ne", { imm: 0 }, "arrive").label("clear");
  requireClear(asm, "pass");
  addMark(asm, CLEAR);
  asm.jump("arrive");

  asm.label("not-cached");
  findPathFrom(asm, maps);
  asm.label("arrive");
  deliverOnPath(asm, maps, macs, self, { slow: "pass", drop: "drop" });
  asm.label("pass");
  verdict(asm, TC_ACT.UNSPEC);
  verdict(asm.label("drop"), TC_ACT.SHOT);
  return asm.assemble();
}

/**
 * Jump to `no` for a UDP super-frame (UDP_SEGMENT, as QUIC sends). removeOuter() leaves it marked as tunnelled: the kernel then takes
 * the datagrams for VXLAN packets where it cuts them apart for the receiver's socket, and drops them.
 */
function requireSegmented(asm: Assembler, no: string): void {
  const whole = asm.unique("segmented");
  asm
    .load("u32", R1, R6, SKB.gso_size)
    .jumpIf(R1, "eq", { imm: 0 }, whole)
    .load("u32", R1, FP, STACK.flow + FLOW.protocol)
    .jumpIf(R1, "eq", UDP, no)
    .label(whole);
}

/** Jump to "pass" unless the network identifier names another peer as source and us as destination. */
function requirePeers(asm: Assembler, self: number): void {
  asm
    .load("u32", R1, R2, OUTER.identifier)
    .bigEndian(R1, 32)
    .alu("rsh", R1, { imm: 8 })
    .mov(R4, R1)
    .alu("rsh", R4, { imm: SHORT_ID_BITS })
    .jumpIf(R4, "ne", { imm: self }, "pass")
    .alu("and", R1, { imm: SHORT_IDS - 1 })
    .jumpIf(R1, "eq", { imm: self }, "pass");
}

/** Jump to `no` unless the packet at r2 came by the path of the entry in r7. */
function requireSame(asm: Assembler, no: string): void {
  for (const [field, at] of SAME)
    asm.load("u32", R1, R2, at).load("u32", R4, R7, field).jumpIf(R1, "ne", R4, no);
  asm.load("u32", R1, R6, SKB.ifindex).load("u32", R4, R7, IN.link).jumpIf(R1, "ne", R4, no);
  requireEthernet(asm, HEADERS.outer, R7, IN.ethernet, no);
}

/** Build the value of an unconfirmed flow at STACK.value. */
function noteFlow(asm: Assembler): void {
  for (let i = 0; i < IN.size; i += 8) asm.store("u64", FP, VALUE + i, { imm: 0 });
  for (const [field, at] of SAME) asm.load("u32", R1, R2, at).store("u32", FP, VALUE + field, R1);
  for (let i = 0; i < HEADERS.ethernet; i += 2)
    asm.load("u16", R1, R2, HEADERS.outer + i).store("u16", FP, VALUE + IN.ethernet + i, R1);
  asm
    .load("u32", R1, R6, SKB.ifindex)
    .store("u32", FP, VALUE + IN.link, R1)
    .load("u64", R1, FP, STACK.since)
    .store("u64", FP, VALUE + IN.since, R1);
}

/** Record a sign of life of the neighbour in r8. */
function noteNeighbour(asm: Assembler): void {
  asm.call("ktime_get_coarse_ns").store("u64", R8, NEIGHBOUR_VALUE.seen, R0);
}
