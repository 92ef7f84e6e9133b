// The program for frames that leave the host: what the bridge sends to its port.
//
//   learn the source as local; known destination: to its peer; else along our own broadcast tree
import { Assembler, R0, R1, R3, R6, R7, R8 } from "../../../bpf/assembler.ts";
import { copyMac, loadFrame, lookup, setMark, verdict } from "../../../bpf/emit.ts";
import { SKB, TC_ACT } from "../../../bpf/skbuff.ts";
import { findPathTo, sendOnPath } from "../../flowcache/pathto.ts";
import { recordFlow } from "../../flowcache/record.ts";
import { BROADCAST } from "../../peerid.ts";
import { MAC_VALUE } from "../maps.ts";
import {
  hopCallback,
  learnSource,
  loadNetworkIdentifier,
  loadNextHop,
  redirectToSleeve,
  sendToHops,
  setTunnelKey,
} from "./emit.ts";
import { type ProgramConfig, type ProgramMaps, SENT, SLEEVE_HOP, STACK, UNMARKED } from "./layout.ts";

export function egressProgram(maps: ProgramMaps, config: ProgramConfig): Uint8Array {
  const asm = new Assembler();
  asm.mov(R6, R1).load("u32", R1, R6, SKB.mark).jumpIf(R1, "eq", SENT, "sent").mov(R7, { imm: config.self });
  loadFrame(asm, "drop");
  copyMac(asm, 6, STACK.source);
  copyMac(asm, 0, STACK.key);
  learnSource(asm, maps);
  lookup(asm, maps.macs.fd, STACK.key);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, "broadcast")
    .load("u32", R8, R0, MAC_VALUE.peer)
    // Local, though the bridge does not know it: it has had the frame from the bridge.
    .jumpIf(R8, "eq", R7, "drop");
  loadNextHop(asm, maps);
  asm.jumpIf32(R3, "eq", SLEEVE_HOP, "sleeve").mov(R1, R8);
  loadNetworkIdentifier(asm);
  if (config.flow) {
    asm.mov(R7, R1).mov(R8, R3);
    findPathTo(asm, config.flow);
    recordFlow(asm, config.flow, config.port);
    sendOnPath(asm, config.flow, maps.neighbours, config.sourcePorts);
    asm.mov(R1, R7).mov(R3, R8);
  }
  setTunnelKey(asm, maps, R3);
  verdict(asm, TC_ACT.OK);

  asm.label("sleeve");
  redirectToSleeve(asm, config, R8);

  asm.label("broadcast");
  sendToHops(asm, maps, config, "broadcast-sleeve");
  asm.label("drop");
  verdict(asm, TC_ACT.SHOT);

  asm.label("broadcast-sleeve");
  redirectToSleeve(asm, config, { imm: BROADCAST });

  asm.label("sent");
  setMark(asm, UNMARKED);
  verdict(asm, TC_ACT.OK);
  hopCallback(asm, maps, config);
  return asm.assemble();
}
