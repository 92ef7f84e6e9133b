// The path from a neighbour: a VXLAN packet of no cached flow goes from the underlay link straight to the bridge, if the slow path has
// accepted another unencrypted packet of that neighbour, by the same link to the same address, within LIFETIME_NS. The ingress program
// of the VXLAN link, where the path ends, confirms it.
import { type Assembler, FP, R0, R1, R2, R6, R7, R8, R9 } from "../../bpf/assembler.ts";
import { copyMac, lookup, update } from "../../bpf/emit.ts";
import { BPF_F_INGRESS, SKB } from "../../bpf/skbuff.ts";
import { SHORT_IDS } from "../../mesh/bounds.ts";
import { MAC_VALUE, NEIGHBOUR_VALUE } from "../datapath/maps.ts";
import { DELIVERED } from "../datapath/programs/layout.ts";
import { removeOuter, requireClear } from "./decapsulate.ts";
import {
  addMark,
  clearMarks,
  ETHERTYPE_IPV4,
  type FlowProgramMaps,
  LIFETIME_NS,
  loadControl,
  loadPacket,
  loadTime,
  PATH_MARK,
  requireFresh,
  requireOn,
  STACK,
} from "./flow.ts";
import { FROM, HEADERS } from "./maps.ts";
import { OUTER } from "./outer.ts";

const VALUE = STACK.value;

/**
 * STACK.since = when the slow path last confirmed the path of the packet, which came from the neighbour at STACK.remote (ns); 0 if the
 * packet must take the slow path. Records and marks such a packet if its path can be confirmed. Clobbers r0 to r5, r9.
 */
export function findPathFrom(asm: Assembler, maps: FlowProgramMaps): void {
  const [note, other, stale, done] = ["note", "other", "stale", "done"].map((name) =>
    asm.unique(`from-${name}`),
  ) as [string, string, string, string];
  asm
    .store("u64", FP, STACK.since, { imm: 0 })
    .load("u32", R1, R6, SKB.mark)
    .jumpIf(R1, "ne", { imm: 0 }, done);
  lookup(asm, maps.from.fd, STACK.remote);
  asm.jumpIf(R0, "eq", { imm: 0 }, note).mov(R9, R0);
  asm.load("u32", R1, R6, SKB.ifindex).load("u32", R2, R9, FROM.link).jumpIf(R1, "ne", R2, other);
  loadPacket(asm, HEADERS.all, done);
  asm
    .load("u32", R1, R2, OUTER.destination)
    .load("u32", R2, R9, FROM.destination)
    .jumpIf(R1, "ne", R2, other);
  requireFresh(asm, maps, R9, FROM, stale);
  asm.load("u64", R1, R9, FROM.at).store("u64", FP, STACK.since, R1).jump(done);

  // A path that is live, or about to be confirmed, is not overwritten.
  asm.label(other);
  loadTime(asm);
  for (const field of [FROM.at, FROM.noted]) {
    asm
      .mov(R1, R0)
      .load("u64", R2, R9, field)
      .alu("sub", R1, R2)
      .jumpIf(R1, "le", { imm: LIFETIME_NS }, done);
  }
  asm.label(note);
  requireOn(asm, maps, done);
  for (let i = 0; i < FROM.size; i += 8) asm.store("u64", FP, VALUE + i, { imm: 0 });
  loadTime(asm);
  asm.store("u64", FP, VALUE + FROM.noted, R0);
  loadPacket(asm, HEADERS.all, done);
  asm
    .load("u32", R1, R2, OUTER.destination)
    .store("u32", FP, VALUE + FROM.destination, R1)
    .load("u32", R1, R6, SKB.ifindex)
    .store("u32", FP, VALUE + FROM.link, R1);
  update(asm, maps.from.fd, STACK.remote, VALUE);
  asm.label(stale);
  requireClear(asm, done);
  addMark(asm, PATH_MARK);
  asm.label(done);
}

/** Hand the frame to the bridge if findPathFrom() found a path, or jump to `slow`. r8: the neighbour's entry. Clobbers all but r6, r8. */
export function deliverOnPath(
  asm: Assembler,
  maps: FlowProgramMaps,
  macs: { readonly fd: number },
  self: number,
  { slow, drop }: { readonly slow: string; readonly drop: string },
): void {
  asm
    .load("u64", R1, FP, STACK.since)
    .jumpIf(R1, "eq", { imm: 0 }, slow)
    .load("u32", R1, R6, SKB.gso_size)
    .jumpIf(R1, "ne", { imm: 0 }, slow);
  loadPacket(asm, HEADERS.all, slow);
  asm.load("u16", R1, R2, HEADERS.outer + 12).jumpIf(R1, "ne", ETHERTYPE_IPV4, slow);
  copyMac(asm, HEADERS.outer, STACK.flow);
  lookup(asm, macs.fd, STACK.flow);
  // Unknown destinations are flooded, and those of other peers relayed.
  asm
    .jumpIf(R0, "eq", { imm: 0 }, slow)
    .load("u32", R1, R0, MAC_VALUE.peer)
    .jumpIf(R1, "ne", { imm: self }, slow);
  loadPacket(asm, HEADERS.all, slow);
  asm
    .load("u32", R9, R2, OUTER.identifier)
    .bigEndian(R9, 32)
    .alu("rsh", R9, { imm: 8 })
    .alu("and", R9, { imm: SHORT_IDS - 1 });
  copyMac(asm, HEADERS.outer + 6, STACK.flow);
  lookup(asm, macs.fd, STACK.flow);
  // The slow path learns the source address.
  asm
    .jumpIf(R0, "eq", { imm: 0 }, slow)
    .mov(R7, R0)
    .load("u32", R1, R7, MAC_VALUE.peer)
    .jumpIf(R1, "ne", R9, slow);
  loadControl(asm, maps, "overlay", slow);
  asm.jumpIf(R1, "eq", { imm: 0 }, slow).mov(R9, R1);
  loadTime(asm);
  asm.store("u64", R7, MAC_VALUE.seen, R0).store("u64", R8, NEIGHBOUR_VALUE.seen, R0);
  loadPacket(asm, HEADERS.all, slow);
  asm
    .load("u64", R1, R2, HEADERS.outer)
    .store("u64", FP, VALUE, R1)
    .load("u64", R1, R2, HEADERS.outer + 6)
    .store("u64", FP, VALUE + 8, R1);
  removeOuter(asm, slow, drop);
  asm
    .load("u64", R1, FP, VALUE)
    .store("u64", R2, 0, R1)
    .load("u64", R1, FP, VALUE + 8)
    .store("u64", R2, 6, R1)
    .load("u32", R1, R6, SKB.len)
    .atomicAdd(R8, NEIGHBOUR_VALUE.received, R1);
  addMark(asm, { imm: DELIVERED.imm | PATH_MARK.imm });
  asm.mov(R1, R9).mov(R2, BPF_F_INGRESS).call("redirect").exit();
}

/** Confirm the path of a frame that the slow path accepted; `remote` = stack offset of the neighbour's address. Clobbers r0 to r5, r9. */
export function confirmPath(asm: Assembler, maps: FlowProgramMaps, remote: number): void {
  asm
    .load("u32", R1, R6, SKB.mark)
    .alu("and", R1, PATH_MARK)
    .jumpIf(R1, "eq", { imm: 0 }, "path-unconfirmed");
  clearMarks(asm, PATH_MARK);
  lookup(asm, maps.from.fd, remote);
  asm.jumpIf(R0, "eq", { imm: 0 }, "path-unconfirmed").mov(R9, R0);
  requireOn(asm, maps, "path-unconfirmed");
  loadControl(asm, maps, "generation", "path-unconfirmed");
  asm.store("u32", R9, FROM.generation, R1);
  loadTime(asm);
  asm.store("u64", R9, FROM.at, R0).label("path-unconfirmed");
}
