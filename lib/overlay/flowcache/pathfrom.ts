// The path from a neighbour: a VXLAN packet of no cached flow goes from the underlay link straight to the bridge, if the slow path has
// accepted another unencrypted packet of that neighbour, by the same link to the same address, within LIFETIME_NS. The ingress program
// of the VXLAN link, where the path ends, confirms it.
import { type Assembler, FP, R0, R1, R2, R6, R7, R8, R9 } from "../../bpf/assembler.ts";
import { BPF_NOEXIST, copyMac, lookup, update } from "../../bpf/emit.ts";
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
/** Offset of the Ethernet address of the sender. */
const SENDER = 6;
/** What makes a path, in words: rules of the packet filter may ask for any of it. */
const PATH_FIELDS = [FROM.link, FROM.destination, FROM.sender, FROM.sender + 4] as const;
/**
 * For so long after a packet that may show the path no other one is let show it, in ns: longer than a program that takes over a path runs,
 * with ticks of the kernel (10 ms).
 */
const CLAIM_NS = 20_000_000;

/**
 * STACK.since = when the slow path last confirmed the path of the packet, which came from the neighbour at STACK.remote (ns); 0 if the
 * packet must take the slow path. Claims the path of such a packet and marks it, if it can be confirmed. Clobbers r0 to r5, r9.
 */
export function findPathFrom(asm: Assembler, maps: FlowProgramMaps): void {
  const [unknown, other, stale, show, done] = ["unknown", "other", "stale", "show", "done"].map((name) =>
    asm.unique(`from-${name}`),
  ) as [string, string, string, string, string];
  asm
    .store("u64", FP, STACK.since, { imm: 0 })
    .load("u32", R1, R6, SKB.mark)
    .jumpIf(R1, "ne", { imm: 0 }, done);
  loadPacket(asm, HEADERS.all, done);
  notePath(asm);
  lookup(asm, maps.from.fd, STACK.remote);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, unknown)
    .mov(R9, R0)
    // Before the rest: who claims the path has found it as it is then.
    .load("u64", R1, R9, FROM.noted)
    .store("u64", FP, VALUE + FROM.noted, R1);
  for (const i of PATH_FIELDS)
    asm
      .load("u32", R1, FP, VALUE + i)
      .load("u32", R2, R9, i)
      .jumpIf(R1, "ne", R2, other);
  requireFresh(asm, maps, R9, FROM, stale);
  asm.load("u64", R1, R9, FROM.at).store("u64", FP, STACK.since, R1).jump(done);

  asm.label(stale);
  claim(asm, CLAIM_NS, done);
  asm.jump(show);

  // Nobody takes over a path that is alive, or about to be confirmed.
  asm.label(other);
  requireOn(asm, maps, done);
  loadTime(asm);
  asm.load("u64", R2, R9, FROM.at).alu("sub", R0, R2).jumpIf(R0, "le", { imm: LIFETIME_NS }, done);
  claim(asm, LIFETIME_NS, done);
  asm.store("u64", R9, FROM.at, { imm: 0 });
  for (const i of PATH_FIELDS) asm.load("u32", R1, FP, VALUE + i).store("u32", R9, i, R1);
  asm.jump(show);

  asm.label(unknown);
  requireOn(asm, maps, done);
  loadTime(asm);
  asm.store("u64", FP, VALUE + FROM.noted, R0);
  update(asm, maps.from.fd, STACK.remote, VALUE, BPF_NOEXIST);
  asm.jumpIf(R0, "ne", { imm: 0 }, done).label(show);
  requireClear(asm, done);
  addMark(asm, PATH_MARK);
  asm.label(done);
}

/** The path of the packet at r2, at VALUE. Clobbers r1. */
function notePath(asm: Assembler): void {
  for (let i = 0; i < FROM.size; i += 8) asm.store("u64", FP, VALUE + i, { imm: 0 });
  asm
    .load("u32", R1, R6, SKB.ifindex)
    .store("u32", FP, VALUE + FROM.link, R1)
    .load("u32", R1, R2, OUTER.destination)
    .store("u32", FP, VALUE + FROM.destination, R1)
    .load("u32", R1, R2, SENDER)
    .store("u32", FP, VALUE + FROM.sender, R1)
    .load("u16", R1, R2, SENDER + 4)
    .store("u16", FP, VALUE + FROM.sender + 4, R1)
    .load("u8", R1, R2, OUTER.ttl)
    .store("u8", FP, VALUE + FROM.ttl, R1);
}

/**
 * Go on for one packet where nobody has claimed the path in r9 for `age` ns, nor has since VALUE + FROM.noted was read. It may take
 * the slow path for LIFETIME_NS until it confirms the path; nobody changes that meanwhile.
 */
function claim(asm: Assembler, age: number, otherwise: string): void {
  loadTime(asm);
  asm
    .mov(R1, R0)
    .load("u64", R2, FP, VALUE + FROM.noted)
    .alu("sub", R0, R2)
    .jumpIf(R0, "le", { imm: age }, otherwise)
    .mov(R0, R2)
    .compareExchange(R9, FROM.noted, R1)
    .jumpIf(R0, "ne", R2, otherwise);
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
