// The egress program of an underlay link. It stores the outer headers that the kernel wrote for a marked VXLAN packet, in the entry of
// its flow and in that of its neighbour. Routes, rules and the ARP table have decided on them: the packet is about to leave.
import { Assembler, FP, R0, R1, R2, R3, R4, R6, R7, R8 } from "../../bpf/assembler.ts";
import { lookup, update, verdict } from "../../bpf/emit.ts";
import { SKB, TC_ACT } from "../../bpf/skbuff.ts";
import {
  clearMarks,
  type FlowProgramMaps,
  loadControl,
  loadFlow,
  loadPacket,
  loadTime,
  MAY_CACHE,
  PATH_MARK,
  requireEthernet,
  requireIPv4,
  STACK,
} from "./flow.ts";
import { HEADERS, OUT, PATH } from "./maps.ts";
import { OUTER, requireVxlan } from "./outer.ts";

const IP = HEADERS.ethernet;
const VALUE = STACK.value;
const MARKS = { imm: MAY_CACHE.imm | PATH_MARK.imm };
const at = (offset: number) => VALUE + offset;

/** `port` is the UDP port of the fast datapath. */
export function departureProgram(maps: FlowProgramMaps, port: number): Uint8Array {
  const asm = new Assembler();
  asm.mov(R6, R1).load("u32", R8, R6, SKB.mark).alu("and", R8, MARKS).jumpIf(R8, "eq", { imm: 0 }, "pass");
  clearMarks(asm, MARKS);
  asm.load("u32", R1, R6, SKB.vlan_present).jumpIf(R1, "ne", { imm: 0 }, "pass");
  loadPacket(asm, HEADERS.all, "pass");
  requireIPv4(asm, 0, "pass");
  requireVxlan(asm, port, "pass");
  // The UDP checksum of this packet would be wrong for the next.
  asm.load("u16", R1, R2, IP + 26).jumpIf(R1, "ne", { imm: 0 }, "pass");
  noteHeaders(asm);
  asm.mov(R1, R8).alu("and", R1, PATH_MARK).jumpIf(R1, "eq", { imm: 0 }, "known");
  notePathTo(asm, maps, "known");
  asm.label("known").alu("and", R8, MAY_CACHE).jumpIf(R8, "eq", { imm: 0 }, "pass");
  loadPacket(asm, HEADERS.all, "pass");
  loadFlow(asm, HEADERS.outer, "pass");
  lookup(asm, maps.out.fd, STACK.flow);
  asm.jumpIf(R0, "eq", { imm: 0 }, "pass").mov(R7, R0);
  loadPacket(asm, HEADERS.all, "pass");
  // Not equal for another peer, or another flow with the same addresses.
  asm
    .load("u32", R1, R2, OUTER.identifier)
    .bigEndian(R1, 32)
    .alu("rsh", R1, { imm: 8 })
    .load("u32", R4, R7, OUT.identifier)
    .jumpIf(R1, "ne", R4, "pass");
  requireEthernet(asm, HEADERS.outer, R7, OUT.ethernet, "pass");
  for (let i = OUT.headers; i < OUT.port; i += 4) asm.load("u32", R1, FP, at(i)).store("u32", R7, i, R1);
  asm
    .load("u32", R1, R6, SKB.ifindex)
    .store("u32", R7, OUT.link, R1)
    .store("u32", R7, OUT.path, { imm: PATH.direct });
  asm.label("pass");
  verdict(asm, TC_ACT.UNSPEC);
  return asm.assemble();
}

/**
 * Begin an entry at STACK.value: the headers of the packet at r2 with the fields that differ between packets zeroed, the sum of the
 * IPv4 header, and the neighbour.
 */
function noteHeaders(asm: Assembler): void {
  const headers = at(OUT.headers);
  for (const i of [0, 8, 16, 24, OUT.sum]) asm.store("u64", FP, at(i), { imm: 0 });
  for (let i = 0; i < HEADERS.all; i += 8) asm.load("u64", R1, R2, i).store("u64", FP, headers + i, R1);
  asm
    .load("u32", R1, R2, OUTER.destination)
    .bigEndian(R1, 32)
    .store("u32", FP, at(OUT.remote), R1)
    .store("u8", FP, headers + IP + 1, { imm: 0 })
    .store("u16", FP, headers + IP + 2, { imm: 0 })
    .store("u16", FP, headers + IP + 4, { imm: 0 })
    .store("u16", FP, headers + IP + 10, { imm: 0 })
    .store("u16", FP, headers + IP + 24, { imm: 0 })
    .mov(R3, { imm: 0 });
  for (let i = 0; i < 20; i += 2) asm.load("u16", R4, FP, headers + IP + i).add(R3, R4);
  asm.store("u32", FP, at(OUT.sum), R3);
}

/** Store the entry at STACK.value as the path to its neighbour. Jumps to `otherwise` if the map lacks a generation. */
function notePathTo(asm: Assembler, maps: FlowProgramMaps, otherwise: string): void {
  asm
    .load("u32", R1, R6, SKB.ifindex)
    .store("u32", FP, at(OUT.link), R1)
    .load("u32", R1, R6, SKB.len)
    .alu("sub", R1, { imm: HEADERS.outer })
    .store("u32", FP, at(OUT.limit), R1);
  loadControl(asm, maps, "generation", otherwise);
  asm.store("u32", FP, at(OUT.generation), R1);
  loadTime(asm);
  asm.store("u64", FP, at(OUT.at), R0);
  update(asm, maps.to.fd, at(OUT.remote), VALUE);
}
