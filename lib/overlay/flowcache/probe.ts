// Whether the kernel has what the flow cache needs: a program that does it once, on a frame of its own.
import { Assembler, R0, R1, R2, R3, R4, R5, R6 } from "../../bpf/assembler.ts";
import { verdict } from "../../bpf/emit.ts";
import { loadProgram, testRun } from "../../bpf/program.ts";
import { BPF_ADJ_ROOM_MAC, TC_ACT } from "../../bpf/skbuff.ts";
import { reasonOf } from "../../sys/reason.ts";
import { requireClear } from "./decapsulate.ts";
import { encapsulation } from "./encapsulate.ts";
import { HEADERS } from "./maps.ts";

/** Return why the kernel cannot do it; undefined where it can. */
export function whyNoFlowCache(): string | undefined {
  const asm = new Assembler();
  asm.mov(R6, R1).mov(R2, { imm: HEADERS.outer }).mov(R3, BPF_ADJ_ROOM_MAC);
  encapsulation(asm, R4);
  asm
    .mov(R5, { imm: 0 })
    .call("skb_adjust_room")
    .jumpIf(R0, "ne", { imm: 0 }, "refused")
    .call("ktime_get_coarse_ns")
    .jumpIf(R0, "eq", { imm: 0 }, "refused");
  requireClear(asm, "refused");
  verdict(asm, TC_ACT.OK);
  asm.label("refused").mov(R1, { imm: 0 }).mov(R2, { imm: 0 }).call("redirect_peer");
  verdict(asm, TC_ACT.SHOT);
  try {
    const program = loadProgram("weave_flow_try", asm.assemble());
    try {
      const frame = new Uint8Array(64);
      frame.set([8, 0, 0x45], 12);
      const { verdict: found } = testRun(program, frame);
      return found === TC_ACT.OK.imm
        ? undefined
        : "eBPF programs cannot write outer headers (Linux 5.14 can)";
    } finally {
      program.close();
    }
  } catch (error) {
    return `eBPF programs lack a helper (Linux 5.14 has all): ${reasonOf(error)}`;
  }
}
