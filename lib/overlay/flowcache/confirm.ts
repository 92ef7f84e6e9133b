// The program for frames that the bridge sends to the port of a container: the slow path has accepted every frame that gets here.
// It caches flows between containers of this host, and confirms flows from other hosts that arrived unencrypted.
import { Assembler, FP, R0, R1, R6, R7, R8, R9 } from "../../bpf/assembler.ts";
import { lookup, verdict } from "../../bpf/emit.ts";
import { SKB, TC_ACT } from "../../bpf/skbuff.ts";
import {
  beginOut,
  CLEAR,
  type FlowProgramMaps,
  loadControl,
  loadFlow,
  loadPacket,
  loadPort,
  loadTime,
  MAY_CACHE,
  PATH_MARK,
  requireEthernet,
  STACK,
  writeOut,
} from "./flow.ts";
import { HEADERS, IN, MODE, OUT, PATH } from "./maps.ts";

const VALUE = STACK.value;

export function confirmProgram(maps: FlowProgramMaps): Uint8Array {
  const asm = new Assembler();
  asm.mov(R6, R1);
  loadControl(asm, maps, "mode", "pass");
  asm
    .mov(R8, R1)
    .alu("and", R1, { imm: MODE.on })
    .jumpIf(R1, "eq", { imm: 0 }, "pass")
    .alu("and", R8, { imm: MODE.filtered })
    .load("u32", R7, R6, SKB.mark)
    .jumpIf(R8, "eq", { imm: 0 }, "allowed")
    .mov(R1, R7)
    .alu("and", R1, MAY_CACHE)
    .jumpIf(R1, "eq", { imm: 0 }, "pass")
    .label("allowed")
    .load("u32", R1, R6, SKB.vlan_present)
    .jumpIf(R1, "ne", { imm: 0 }, "pass")
    .load("u32", R1, R6, SKB.ifindex);
  loadPort(asm, maps, "pass");
  loadControl(asm, maps, "overlay", "pass");
  asm
    .load("u32", R8, R6, SKB.ingress_ifindex)
    .jumpIf(R8, "ne", R1, "local")
    .mov(R8, R7)
    .alu("and", R7, CLEAR)
    .jumpIf(R7, "eq", { imm: 0 }, "pass")
    .alu("and", R8, PATH_MARK);
  fromOverlay(asm, maps);
  asm.jump("pass").label("local");
  fromPort(asm, maps);
  asm.label("pass");
  verdict(asm, TC_ACT.UNSPEC);
  return asm.assemble();
}

/** r8: not 0 if the VXLAN packet skipped the slow path of the underlay. */
function fromOverlay(asm: Assembler, maps: FlowProgramMaps): void {
  loadPacket(asm, HEADERS.ethernet, "pass");
  loadFlow(asm, 0, "pass");
  lookup(asm, maps.in.fd, STACK.flow);
  asm.jumpIf(R0, "eq", { imm: 0 }, "pass").mov(R7, R0);
  loadPacket(asm, HEADERS.ethernet, "pass");
  requireEthernet(asm, 0, R7, IN.ethernet, "pass");
  loadControl(asm, maps, "generation", "pass");
  asm
    .store("u32", R7, IN.generation, R1)
    .store("u32", R7, IN.limit, R9)
    .load("u32", R1, R6, SKB.ifindex)
    .store("u32", R7, IN.port, R1);
  loadTime(asm);
  asm
    .jumpIf(R8, "eq", { imm: 0 }, "seen")
    .load("u64", R0, R7, IN.since)
    .label("seen")
    .store("u64", R7, IN.at, R0);
}

/** r8: the ifindex of the port that sent the frame. */
function fromPort(asm: Assembler, maps: FlowProgramMaps): void {
  asm.load("u32", R1, R6, SKB.ifindex).jumpIf(R1, "eq", R8, "pass").mov(R1, R8);
  loadPort(asm, maps, "pass");
  loadPacket(asm, HEADERS.ethernet, "pass");
  loadFlow(asm, 0, "pass");
  beginOut(asm);
  asm
    .load("u32", R1, R6, SKB.ifindex)
    .store("u32", FP, VALUE + OUT.link, R1)
    .store("u32", FP, VALUE + OUT.port, R8)
    .store("u32", FP, VALUE + OUT.path, { imm: PATH.local })
    .store("u32", FP, VALUE + OUT.limit, R9);
  writeOut(asm, maps, "pass");
}
