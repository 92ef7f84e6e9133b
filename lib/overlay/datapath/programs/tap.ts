// The program for frames that the sleeve engine hands over: always for us. The engine has told their source's peer.
import { Assembler, R0, R1, R6, R7 } from "../../../bpf/assembler.ts";
import { copyMac, loadFrame, lookup, verdict } from "../../../bpf/emit.ts";
import { TC_ACT } from "../../../bpf/skbuff.ts";
import { MAC_VALUE } from "../maps.ts";
import { deliver, passDelivered } from "./deliver.ts";
import { hopCallback } from "./emit.ts";
import { type ProgramConfig, type ProgramMaps, STACK } from "./layout.ts";

export function tapProgram(maps: ProgramMaps, config: ProgramConfig): Uint8Array {
  const asm = new Assembler();
  asm.mov(R6, R1);
  passDelivered(asm, config);
  loadFrame(asm, "drop");
  copyMac(asm, 6, STACK.source);
  copyMac(asm, 0, STACK.destination);
  lookup(asm, maps.macs.fd, STACK.source);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, "drop")
    .load("u32", R7, R0, MAC_VALUE.peer)
    .jumpIf(R7, "eq", { imm: config.self }, "drop");
  deliver(asm, maps, config, config.tap);
  asm.label("drop");
  verdict(asm, TC_ACT.SHOT);
  hopCallback(asm, maps, config);
  return asm.assemble();
}
