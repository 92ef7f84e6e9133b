// The way to a neighbour, in the egress program of the VXLAN link: frames that are not of a cached flow, such as the first and the last
// of a connection, leave with outer headers that the kernel wrote for another frame to that neighbour. Its decision is as old as
// that frame's, so a flow that is cached from such a frame is, too.
import { type Assembler, FP, R0, R1, R2, R6, R7, R8, R9 } from "../../bpf/assembler.ts";
import { lookup } from "../../bpf/emit.ts";
import { SKB } from "../../bpf/skbuff.ts";
import { NEIGHBOUR_VALUE } from "../datapath/maps.ts";
import { completeHeaders, makeRoom } from "./encapsulate.ts";
import {
  addMark,
  ETHERTYPE_IPV4,
  type FlowProgramMaps,
  loadPacket,
  MAY_CACHE,
  requireFresh,
  requireOn,
  STACK,
  WAY_MARK,
} from "./flow.ts";
import { HEADERS, OUT } from "./maps.ts";
import { OUTER } from "./outer.ts";

const SOURCE_PORT = HEADERS.ethernet + 20;
/** Linux's default for the source ports of VXLAN, chosen by the hash of the flow (ip_local_port_range, udp_flow_src_port). */
const SOURCE_PORTS = { first: 32_768, count: 60_999 - 32_768 } as const;

/**
 * STACK.since = since when the way of the frame to the neighbour in r8 is known; 0 where the kernel has to find it, and the frame is to
 * show it. Clobbers r0 to r5, r9.
 */
export function findWayTo(asm: Assembler, maps: FlowProgramMaps): void {
  asm.store("u64", FP, STACK.since, { imm: 0 }).load("u32", R1, R6, SKB.vlan_present);
  asm.jumpIf(R1, "ne", { imm: 0 }, "way-none").load("u32", R1, R6, SKB.gso_size);
  asm.jumpIf(R1, "ne", { imm: 0 }, "way-none").load("u32", R1, R6, SKB.mark);
  // Routes may depend on the mark.
  asm.alu("and", R1, { imm: ~MAY_CACHE.imm }).jumpIf(R1, "ne", { imm: 0 }, "way-none");
  loadPacket(asm, HEADERS.ethernet, "way-none");
  asm.load("u16", R1, R2, 12).jumpIf(R1, "ne", ETHERTYPE_IPV4, "way-none").store("u32", FP, STACK.remote, R8);
  lookup(asm, maps.to.fd, STACK.remote);
  asm.jumpIf(R0, "eq", { imm: 0 }, "way-unknown").mov(R9, R0);
  requireFresh(asm, maps, R9, OUT, "way-unknown");
  asm
    .load("u32", R1, R6, SKB.len)
    .load("u32", R2, R9, OUT.limit)
    .jumpIf(R1, "gt", R2, "way-unknown")
    .load("u64", R1, R9, OUT.at)
    .store("u64", FP, STACK.since, R1)
    .jump("way-none")
    .label("way-unknown");
  requireOn(asm, maps, "way-none");
  addMark(asm, WAY_MARK);
  asm.label("way-none");
}

/** Send the frame by the way that findWayTo() has found, or go on. r7: the network identifier, r8: the neighbour. */
export function leaveByWay(asm: Assembler, maps: FlowProgramMaps, neighbours: { readonly fd: number }): void {
  asm
    .load("u64", R1, FP, STACK.since)
    .jumpIf(R1, "eq", { imm: 0 }, "way-slow")
    .store("u32", FP, STACK.remote, R8);
  lookup(asm, maps.to.fd, STACK.remote);
  asm.jumpIf(R0, "eq", { imm: 0 }, "way-slow").mov(R9, R0);
  loadSourcePort(asm);
  makeRoom(asm, "way-slow", "way-drop");
  asm
    .load("u64", R1, R2, 0)
    .store("u64", R2, HEADERS.outer, R1)
    .load("u32", R1, R2, 8)
    .store("u32", R2, HEADERS.outer + 8, R1)
    .load("u16", R1, R2, 12)
    .store("u16", R2, HEADERS.outer + 12, R1);
  for (let i = 0; i < 48; i += 8) asm.load("u64", R1, R9, OUT.headers + i).store("u64", R2, i, R1);
  asm
    .load("u16", R1, FP, STACK.value)
    .store("u16", R2, SOURCE_PORT, R1)
    .mov(R1, R7)
    .alu("lsh", R1, { imm: 8 })
    .bigEndian(R1, 32)
    .store("u32", R2, OUTER.identifier, R1);
  completeHeaders(asm, R9);
  lookup(asm, neighbours.fd, STACK.remote);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, "way-drop")
    .load("u32", R1, R6, SKB.len)
    .alu("sub", R1, { imm: HEADERS.outer })
    .atomicAdd(R0, NEIGHBOUR_VALUE.sent, R1)
    .load("u32", R1, R9, OUT.link)
    .mov(R2, { imm: 0 })
    .call("redirect")
    .exit()
    .label("way-drop")
    .mov(R0, { imm: 2 })
    .exit()
    .label("way-slow");
}

/** STACK.value = the source port that the kernel gives the flow, as on the wire. */
function loadSourcePort(asm: Assembler): void {
  asm
    .load("u32", R0, R6, SKB.hash)
    .jumpIf(R0, "ne", { imm: 0 }, "way-hashed")
    .mov(R1, R6)
    .call("get_hash_recalc")
    .label("way-hashed")
    .mov(R1, R0)
    .alu("lsh", R1, { imm: 16 })
    .alu("xor", R0, R1)
    .alu("lsh", R0, { imm: 32 })
    .alu("rsh", R0, { imm: 32 })
    .alu("mul", R0, { imm: SOURCE_PORTS.count })
    .alu("rsh", R0, { imm: 32 })
    .add(R0, { imm: SOURCE_PORTS.first })
    .bigEndian(R0, 16)
    .store("u16", FP, STACK.value, R0);
}
