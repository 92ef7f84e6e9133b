// The path to a neighbour, in the egress program of the VXLAN link: frames of no cached flow, such as the first and last of a
// connection, leave with outer headers that the kernel wrote for an earlier frame to that neighbour. A flow that is cached from such a
// frame gets the time of the earlier frame, when the kernel chose the path.
import { type Assembler, FP, R0, R1, R2, R6, R7, R8, R9 } from "../../bpf/assembler.ts";
import { lookup, verdict } from "../../bpf/emit.ts";
import { SKB, TC_ACT } from "../../bpf/skbuff.ts";
import { sysctlGet } from "../../host/sysctl.ts";
import { NEIGHBOUR_VALUE } from "../datapath/maps.ts";
import { completeHeaders, makeRoom } from "./encapsulate.ts";
import {
  addMark,
  ETHERTYPE_IPV4,
  type FlowProgramMaps,
  IPV4,
  loadPacket,
  MAY_CACHE,
  PATH_MARK,
  requireFresh,
  requireOn,
  STACK,
} from "./flow.ts";
import { HEADERS, OUT } from "./maps.ts";
import { OUTER } from "./outer.ts";

const SOURCE_PORT = HEADERS.ethernet + IPV4;

/** Range of VXLAN source ports; the hash of the flow selects one (udp_flow_src_port). */
export interface SourcePorts {
  readonly first: number;
  readonly count: number;
}

/** Linux's default. */
const USUAL: SourcePorts = { first: 32_768, count: 60_999 - 32_768 };

/** Return the range of this network namespace. */
export function sourcePorts(): SourcePorts {
  const [first = 0, last = 0] = sysctlGet("net/ipv4/ip_local_port_range")?.split(/\s+/).map(Number) ?? [];
  return first > 0 && last > first ? { first, count: last - first } : USUAL;
}

/**
 * STACK.since = when the kernel last chose the path to the neighbour in r8 (ns); 0 if the frame must take the slow path. Marks a frame
 * that departure.ts is to learn the path from. Clobbers r0 to r5, r9.
 */
export function findPathTo(asm: Assembler, maps: FlowProgramMaps): void {
  asm.store("u64", FP, STACK.since, { imm: 0 }).load("u32", R1, R6, SKB.vlan_present);
  asm.jumpIf(R1, "ne", { imm: 0 }, "path-none").load("u32", R1, R6, SKB.gso_size);
  asm.jumpIf(R1, "ne", { imm: 0 }, "path-none").load("u32", R1, R6, SKB.mark);
  // Routes may depend on the mark.
  asm.alu("and", R1, { imm: ~MAY_CACHE.imm }).jumpIf(R1, "ne", { imm: 0 }, "path-none");
  // As much as makeRoom() needs.
  loadPacket(asm, HEADERS.ethernet + IPV4, "path-none");
  asm
    .load("u16", R1, R2, 12)
    .jumpIf(R1, "ne", ETHERTYPE_IPV4, "path-none")
    .store("u32", FP, STACK.remote, R8);
  lookup(asm, maps.to.fd, STACK.remote);
  asm.jumpIf(R0, "eq", { imm: 0 }, "path-unknown").mov(R9, R0);
  requireFresh(asm, maps, R9, OUT, "path-unknown");
  asm
    .load("u32", R1, R6, SKB.len)
    .load("u32", R2, R9, OUT.limit)
    .jumpIf(R1, "gt", R2, "path-unknown")
    .load("u64", R1, R9, OUT.at)
    .store("u64", FP, STACK.since, R1)
    .jump("path-none")
    .label("path-unknown");
  requireOn(asm, maps, "path-none");
  addMark(asm, PATH_MARK);
  asm.label("path-none");
}

/** Send the frame if findPathTo() found a path, or fall through. r7: the network identifier, r8: the neighbour's address. */
export function sendOnPath(
  asm: Assembler,
  maps: FlowProgramMaps,
  neighbours: { readonly fd: number },
  ports: SourcePorts = USUAL,
): void {
  asm
    .load("u64", R1, FP, STACK.since)
    .jumpIf(R1, "eq", { imm: 0 }, "path-slow")
    .store("u32", FP, STACK.remote, R8);
  lookup(asm, maps.to.fd, STACK.remote);
  asm.jumpIf(R0, "eq", { imm: 0 }, "path-slow").mov(R9, R0);
  loadSourcePort(asm, ports);
  makeRoom(asm, "path-slow", "path-drop");
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
    .jumpIf(R0, "eq", { imm: 0 }, "path-drop")
    .load("u32", R1, R6, SKB.len)
    .alu("sub", R1, { imm: HEADERS.outer })
    .atomicAdd(R0, NEIGHBOUR_VALUE.sent, R1)
    .load("u32", R1, R9, OUT.link)
    .mov(R2, { imm: 0 })
    .call("redirect")
    .exit();
  verdict(asm.label("path-drop"), TC_ACT.SHOT);
  asm.label("path-slow");
}

/** STACK.value = the source port that the kernel would choose for the flow, in network byte order. */
function loadSourcePort(asm: Assembler, { first, count }: SourcePorts): void {
  asm
    .load("u32", R0, R6, SKB.hash)
    .jumpIf(R0, "ne", { imm: 0 }, "path-hashed")
    .mov(R1, R6)
    .call("get_hash_recalc")
    .label("path-hashed")
    .mov(R1, R0)
    .alu("lsh", R1, { imm: 16 })
    .alu("xor", R0, R1)
    .alu("lsh", R0, { imm: 32 })
    .alu("rsh", R0, { imm: 32 })
    .alu("mul", R0, { imm: count })
    .alu("rsh", R0, { imm: 32 })
    .add(R0, { imm: first })
    .bigEndian(R0, 16)
    .store("u16", FP, STACK.value, R0);
}
