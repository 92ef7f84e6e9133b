// The program for packets that leave by a link of the underlay. To the flow of a VXLAN packet that the slow path let through
// it adds the headers that the kernel wrote: by whatever routes, rules and neighbour entries, this packet is on its way.
import { Assembler, FP, R0, R1, R2, R3, R4, R6, R7 } from "../../bpf/assembler.ts";
import { lookup, verdict } from "../../bpf/emit.ts";
import { SKB, TC_ACT } from "../../bpf/skbuff.ts";
import {
  clearMarks,
  type FlowProgramMaps,
  loadFlow,
  loadPacket,
  MAY_CACHE,
  requireEthernet,
  requireIPv4,
  STACK,
} from "./flow.ts";
import { HEADERS, OUT, WAY } from "./maps.ts";
import { OUTER, requireVxlan } from "./outer.ts";

const IP = HEADERS.ethernet;
const VALUE = STACK.value;
const at = (offset: number) => VALUE + offset;

/** `port` is the UDP port of the fast datapath. */
export function departureProgram(maps: FlowProgramMaps, port: number): Uint8Array {
  const asm = new Assembler();
  asm
    .mov(R6, R1)
    .load("u32", R1, R6, SKB.mark)
    .alu("and", R1, MAY_CACHE)
    .jumpIf(R1, "eq", { imm: 0 }, "pass");
  clearMarks(asm);
  asm.load("u32", R1, R6, SKB.vlan_present).jumpIf(R1, "ne", { imm: 0 }, "pass");
  loadPacket(asm, HEADERS.all, "pass");
  requireIPv4(asm, 0, "pass");
  requireVxlan(asm, port, "pass");
  // A checksum in the UDP header would not be that of the next packet.
  asm.load("u16", R1, R2, IP + 26).jumpIf(R1, "ne", { imm: 0 }, "pass");
  loadFlow(asm, HEADERS.outer, "pass");
  lookup(asm, maps.out.fd, STACK.flow);
  asm.jumpIf(R0, "eq", { imm: 0 }, "pass").mov(R7, R0);
  loadPacket(asm, HEADERS.all, "pass");
  // Another peer, or another flow with the same addresses.
  asm
    .load("u32", R1, R2, OUTER.identifier)
    .bigEndian(R1, 32)
    .alu("rsh", R1, { imm: 8 })
    .load("u32", R4, R7, OUT.identifier)
    .jumpIf(R1, "ne", R4, "pass");
  requireEthernet(asm, HEADERS.outer, R7, OUT.ethernet, "pass");
  copyHeaders(asm);
  asm
    .load("u32", R1, R6, SKB.ifindex)
    .store("u32", R7, OUT.link, R1)
    .store("u32", R7, OUT.way, { imm: WAY.direct });
  asm.label("pass");
  verdict(asm, TC_ACT.UNSPEC);
  return asm.assemble();
}

/** Copy the headers of the packet to the entry in r7, the fields that differ between packets as zero, and sum up those of IPv4. */
function copyHeaders(asm: Assembler): void {
  for (let i = 0; i < HEADERS.all; i += 8) asm.load("u64", R1, R2, i).store("u64", FP, at(i), R1);
  asm
    .store("u8", FP, at(IP + 1), { imm: 0 })
    .store("u16", FP, at(IP + 2), { imm: 0 })
    .store("u16", FP, at(IP + 4), { imm: 0 })
    .store("u16", FP, at(IP + 10), { imm: 0 })
    .store("u16", FP, at(IP + 24), { imm: 0 })
    .mov(R3, { imm: 0 });
  for (let i = 0; i < 20; i += 2) asm.load("u16", R4, FP, at(IP + i)).add(R3, R4);
  asm.store("u32", R7, OUT.sum, R3);
  for (let i = 0; i < HEADERS.all; i += 8)
    asm.load("u64", R1, FP, at(i)).store("u64", R7, OUT.headers + i, R1);
}
