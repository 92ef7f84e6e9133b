// The end of the egress program of the VXLAN link, for a frame to another host: caches its flow with the path that it is about to take.
import { type Assembler, FP, R1, R2, R6, R7, R8, R9 } from "../../bpf/assembler.ts";
import { SKB } from "../../bpf/skbuff.ts";
import {
  addMark,
  beginOut,
  clearMarks,
  type FlowProgramMaps,
  loadControl,
  loadFlow,
  loadPacket,
  loadPort,
  MAY_CACHE,
  STACK,
  writeOut,
} from "./flow.ts";
import { HEADERS, MODE, OUT, PATH } from "./maps.ts";

const VALUE = STACK.value;

/**
 * r7: the network identifier; r8: the neighbour's address; STACK.since as findPathTo() leaves it. `link` is the VXLAN link's ifindex.
 * Clobbers r0 to r5, r9.
 */
export function recordFlow(asm: Assembler, maps: FlowProgramMaps, link: number): void {
  loadControl(asm, maps, "mode", "unrecorded");
  asm
    .mov(R2, R1)
    .alu("and", R2, { imm: MODE.on })
    .jumpIf(R2, "eq", { imm: 0 }, "unrecorded")
    .alu("and", R1, { imm: MODE.filtered })
    .jumpIf(R1, "eq", { imm: 0 }, "record")
    .load("u32", R1, R6, SKB.mark)
    .alu("and", R1, MAY_CACHE)
    .jumpIf(R1, "eq", { imm: 0 }, "recorded")
    .label("record")
    .load("u32", R1, R6, SKB.vlan_present)
    .jumpIf(R1, "ne", { imm: 0 }, "unrecorded")
    // The port that it came from; frames of the host, and those that it routes, have none.
    .load("u32", R1, R6, SKB.ingress_ifindex);
  loadPort(asm, maps, "unrecorded");
  loadPacket(asm, HEADERS.ethernet, "unrecorded");
  loadFlow(asm, 0, "unrecorded");
  beginOut(asm);
  asm
    .load("u32", R1, R6, SKB.ingress_ifindex)
    .store("u32", FP, VALUE + OUT.port, R1)
    .store("u32", FP, VALUE + OUT.path, { imm: PATH.vxlan })
    .store("u32", FP, VALUE + OUT.link, { imm: link })
    .store("u32", FP, VALUE + OUT.limit, R9)
    .store("u32", FP, VALUE + OUT.identifier, R7)
    .store("u32", FP, VALUE + OUT.remote, R8);
  writeOut(asm, maps, "unrecorded", STACK.since);
  // The program of the underlay link may replace it with a shorter path.
  addMark(asm, MAY_CACHE);
  asm.jump("recorded").label("unrecorded");
  clearMarks(asm);
  asm.label("recorded");
}
