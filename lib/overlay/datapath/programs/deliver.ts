// The end of the programs for frames from other hosts: to the bridge, as if they came in by its port to other hosts.
import { type Assembler, R0, R1, R2, R6 } from "../../../bpf/assembler.ts";
import { cloneRedirect, lookup, redirect, setMark, verdict } from "../../../bpf/emit.ts";
import { BPF_F_INGRESS, SKB, TC_ACT } from "../../../bpf/skbuff.ts";
import { CLEAR, clearMarks, MAY_CACHE, PATH_MARK } from "../../flowcache/flow.ts";
import { BROADCAST } from "../../peerid.ts";
import { MAC_VALUE } from "../maps.ts";
import { redirectToSleeve, sendToHops } from "./emit.ts";
import { DELIVERED, type ProgramConfig, type ProgramMaps, STACK, UNMARKED } from "./layout.ts";

/** Pass frames that a program has handed to the bridge, with the flow cache's marks; fall through for others. */
export function passDelivered(asm: Assembler, { flow }: ProgramConfig): void {
  if (flow) {
    const marks = CLEAR.imm | PATH_MARK.imm;
    asm
      .load("u32", R1, R6, SKB.mark)
      .mov(R2, R1)
      .alu("and", R2, { imm: ~marks })
      .jumpIf(R2, "ne", DELIVERED, "arrived")
      .alu("and", R1, { imm: marks })
      .store("u32", R6, SKB.mark, R1);
  } else {
    asm.load("u32", R1, R6, SKB.mark).jumpIf(R1, "ne", DELIVERED, "arrived");
    setMark(asm, UNMARKED);
  }
  verdict(asm, TC_ACT.OK);
  asm.label("arrived");
}

/**
 * End the program with the frame, which came in by the link of that ifindex from the peer in r7, at the bridge. Where its
 * destination (at STACK.destination) is not known to be local, pass it on along the source's broadcast tree, too.
 */
export function deliver(asm: Assembler, maps: ProgramMaps, config: ProgramConfig, link: number): void {
  const isPort = link === config.port;
  lookup(asm, maps.macs.fd, STACK.destination);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, "broadcast")
    .load("u32", R1, R0, MAC_VALUE.peer)
    .jumpIf(R1, "eq", { imm: config.self }, "accept")
    .label("broadcast");
  sendToHops(asm, maps, config, "broadcast-sleeve", isPort);
  asm.label("accept");
  if (isPort) {
    // The packet filter has not judged it as a packet of a container.
    if (config.flow) clearMarks(asm, MAY_CACHE);
    verdict(asm, TC_ACT.OK);
  } else {
    setMark(asm, DELIVERED);
    redirect(asm, config.port, BPF_F_INGRESS);
  }
  asm.label("broadcast-sleeve");
  setMark(asm, DELIVERED);
  cloneRedirect(asm, config.port, BPF_F_INGRESS);
  redirectToSleeve(asm, config, { imm: BROADCAST });
}
