// The program for frames that come in by a port of the bridge. It has two forms: the plain one controls storms, the strict one
// also drops frames from source addresses that are not the port's (strict.ts). Both learn where Ethernet addresses are.
//
// The bridge floods unknown unicast, as it does broadcast; two links of one container that are bridged inside would loop such a
// frame for ever, with a copy of each round to all hosts. So flooded frames are rate limited for each port, by GCRA: one
// number, the time until which the rate is used up (ITU-T I.371). So are frames from addresses that nobody has seen, of which the
// bridges of all hosts learn each, and keep it for 300 s.
import { Assembler, FP, R0, R1, R2, R3, R6, R7, R8, R9, type Register } from "../../bpf/assembler.ts";
import { copyMac, loadFrame, lookup, update, verdict } from "../../bpf/emit.ts";
import { SKB, TC_ACT } from "../../bpf/skbuff.ts";
import { PORT, type PortMaps, SEEN } from "./maps.ts";
import { STACK } from "./stack.ts";
import { checkSender } from "./strict.ts";

/** Broadcast and unknown unicast frames, and those from new source addresses, a second, by one port. */
export const FLOOD_RATE = 1_000;
/** IPv4 multicast frames a second, by one port; applications send these. */
export const MULTICAST_RATE = 10_000;
const NS_PER_S = 1_000_000_000;
/** Moves of others' Ethernet addresses to a port, a second, and at once: each makes an address unreachable for a moment. */
const MOVE_RATE = 1 / 30;
const MOVE_BURST = 1;
/** An address is elsewhere while it was seen there within this; more than twice REFRESH_NS. */
const ELSEWHERE_NS = 2 * NS_PER_S + 100_000_000;
/** A silent address stays known for this: a little less than in a bridge (300 s). */
const KNOWN_NS = 290 * NS_PER_S;
/** Interval of refreshing the entry of an active address. */
const REFRESH_NS = NS_PER_S;

export interface PortProgram {
  readonly name: string;
  readonly instructions: Uint8Array;
}

/** Names by which programs of ours are found again. */
export const PROGRAM_NAMES = { plain: "weave_port", strict: "weave_port_own" } as const;

/** The overlay's map of Ethernet addresses, with keys as in `seen`, and byte offsets in its values. */
export interface RemoteMacs {
  readonly fd: number;
  /** The short id of a peer (u32). */
  readonly peerAt: number;
  /** CLOCK_MONOTONIC, in ns (u64). */
  readonly timeAt: number;
  /** Our own short id. */
  readonly self: number;
}

/** Make the program; `fastPath` emits what may send a frame on before anything is asked. r6: the context, r7: the port's entry or null, r8: the time. */
export function portProgram(
  maps: PortMaps,
  remote: RemoteMacs,
  strict: boolean,
  fastPath: (asm: Assembler) => void = () => {},
): PortProgram {
  const asm = new Assembler();
  asm.mov(R6, R1);
  fastPath(asm);
  asm.load("u32", R1, R6, SKB.ifindex).store("u32", FP, STACK.key, R1);
  loadFrame(asm, "drop");
  copyMac(asm, 6, STACK.source);
  copyMac(asm, 0, STACK.destination);
  lookup(asm, maps.ports.fd, STACK.key);
  asm.mov(R7, R0);
  // The next router finds all maps by the program, whichever form it has.
  asm.loadMap(R1, maps.bindings.fd);
  if (strict) {
    asm.jumpIf(R7, "eq", { imm: 0 }, "learn");
    checkSender(asm, maps);
  }
  asm.label("learn");
  asm.call("ktime_get_ns").mov(R8, R0);
  asm.load("u8", R1, FP, STACK.source).alu("and", R1, { imm: 1 }).jumpIf(R1, "ne", { imm: 0 }, "learned");
  asm.jumpIf(R7, "eq", { imm: 0 }, "note");
  limitMoves(asm, maps, remote);
  note(asm, maps);
  asm.label("learned").jumpIf(R7, "eq", { imm: 0 }, "pass");
  limit(asm, maps, remote);
  verdict(asm.label("pass"), TC_ACT.UNSPEC);
  if (strict) {
    count(asm, "spoofed", PORT.spoofed);
    count(asm, "protocol", PORT.protocol);
  }
  count(asm, "flooding", PORT.flood);
  count(asm, "multicasting", PORT.multicast);
  verdict(asm.label("drop"), TC_ACT.SHOT);
  return { name: strict ? PROGRAM_NAMES.strict : PROGRAM_NAMES.plain, instructions: asm.assemble() };
}

/** Count the frame and drop it. */
function count(asm: Assembler, label: string, counter: number): void {
  asm
    .label(label)
    .load("u64", R1, R7, counter)
    .add(R1, { imm: 1 })
    .store("u64", R7, counter, R1)
    .jump("drop");
}

/**
 * Limit the rates of moves and of new addresses. A source address that is not the port's own, and was just seen elsewhere, belongs
 * to a virtual machine that moves, or to a looping frame. A bridge learns from each such frame: a loop makes others' addresses
 * unreachable. Jumps to "note", or to "flooding". r9: the address was seen on this host, or null.
 */
function limitMoves(asm: Assembler, { ports, seen }: PortMaps, remote: RemoteMacs): void {
  for (const i of [0, 2, 4]) {
    asm
      .load("u16", R1, FP, STACK.source + i)
      .load("u16", R2, R7, PORT.mac + i)
      .jumpIf(R1, "ne", R2, "foreign");
  }
  asm.jump("note").label("foreign");
  lookup(asm, seen.fd, STACK.source);
  asm
    .mov(R9, R0)
    .jumpIf(R0, "eq", { imm: 0 }, "remote")
    .load("u32", R1, R0, SEEN.port)
    .load("u32", R2, FP, STACK.key)
    .jumpIf(R1, "eq", R2, "remote")
    .store("u32", FP, STACK.value, R1)
    .load("u64", R1, R0, SEEN.at);
  jumpIfWithin(asm, R1, ELSEWHERE_NS, "from-port");
  asm.label("remote");
  lookup(asm, remote.fd, STACK.source);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, "nowhere-else")
    .load("u32", R1, R0, remote.peerAt)
    .jumpIf(R1, "eq", { imm: remote.self }, "note")
    .load("u64", R1, R0, remote.timeAt);
  jumpIfWithin(asm, R1, ELSEWHERE_NS, "moved");
  asm.jump("note").label("from-port");
  // The own address of a port that has just spoken has not moved.
  lookup(asm, ports.fd, STACK.value);
  asm.jumpIf(R0, "eq", { imm: 0 }, "moved");
  for (const i of [0, 2, 4]) {
    asm
      .load("u16", R1, FP, STACK.source + i)
      .load("u16", R2, R0, PORT.mac + i)
      .jumpIf(R1, "ne", R2, "moved");
  }
  asm.jump("flooding").label("moved");
  take(asm, { bucket: PORT.moveBucket, rate: MOVE_RATE, burst: MOVE_BURST }, "note", "flooding");
  asm.label("nowhere-else").jumpIf(R9, "ne", { imm: 0 }, "note");
  takeFlooded(asm, "note");
}

/** Take a frame from the rate of those that go to many, and jump to `within` or to "flooding". */
function takeFlooded(asm: Assembler, within: string): void {
  take(asm, { bucket: PORT.floodBucket, rate: FLOOD_RATE, burst: FLOOD_RATE }, within, "flooding");
}

/** Jump where the time in the register is at most `ns` ago. */
function jumpIfWithin(asm: Assembler, time: Register, ns: number, label: string): void {
  loadNs(asm, R2, ns);
  asm.add(time, R2).jumpIf(time, "gt", R8, label);
}

/** Note where the source address is. */
function note(asm: Assembler, { seen }: PortMaps): void {
  asm.label("note");
  lookup(asm, seen.fd, STACK.source);
  asm
    .load("u32", R1, FP, STACK.key)
    .jumpIf(R0, "eq", { imm: 0 }, "write")
    .load("u32", R2, R0, SEEN.port)
    .jumpIf(R1, "ne", R2, "write")
    .load("u64", R2, R0, SEEN.at)
    .add(R2, { imm: REFRESH_NS })
    .jumpIf(R8, "le", R2, "learned")
    .store("u64", R0, SEEN.at, R8)
    .jump("learned")
    .label("write")
    .store("u64", FP, STACK.value + SEEN.port, R1)
    .store("u64", FP, STACK.value + SEEN.at, R8);
  update(asm, seen.fd, STACK.source, STACK.value);
}

/** Holds down what goes to many. */
function limit(asm: Assembler, maps: PortMaps, remote: RemoteMacs): void {
  asm
    .load("u8", R1, FP, STACK.destination)
    .alu("and", R1, { imm: 1 })
    .jumpIf(R1, "eq", { imm: 0 }, "unicast")
    // 01:00:5e and 23 bits of the group (RFC 1112), but for 224.0.0.0/24, which applications do not send to.
    .load("u16", R1, FP, STACK.destination)
    .jumpIf(R1, "ne", { imm: 0x0001 }, "flood")
    .load("u8", R1, FP, STACK.destination + 2)
    .jumpIf(R1, "ne", { imm: 0x5e }, "flood")
    .load("u8", R1, FP, STACK.destination + 3)
    .load("u8", R2, FP, STACK.destination + 4)
    .alu("or", R1, R2)
    .jumpIf(R1, "eq", { imm: 0 }, "flood");
  take(
    asm,
    { bucket: PORT.multicastBucket, rate: MULTICAST_RATE, burst: MULTICAST_RATE },
    "pass",
    "multicasting",
  );
  asm.label("unicast");
  known(asm, maps.seen.fd, SEEN.at);
  known(asm, remote.fd, remote.timeAt);
  asm.label("flood");
  takeFlooded(asm, "pass");
}

/** Jump to "pass" where the destination was seen lately. */
function known(asm: Assembler, map: number, timeAt: number): void {
  const unknown = asm.unique("unknown");
  lookup(asm, map, STACK.destination);
  asm.jumpIf(R0, "eq", { imm: 0 }, unknown).load("u64", R1, R0, timeAt);
  jumpIfWithin(asm, R1, KNOWN_NS, "pass");
  asm.label(unknown);
}

/** Take a frame from the rate and jump to `within`, or jump to `beyond`. Rates are per second, bursts in frames. */
function take(
  asm: Assembler,
  { bucket, rate, burst }: { bucket: number; rate: number; burst: number },
  within: string,
  beyond: string,
): void {
  const running = asm.unique("running");
  asm
    .load("u64", R1, R7, bucket)
    .jumpIf(R1, "ge", R8, running)
    .mov(R1, R8)
    .label(running)
    .mov(R2, R1)
    .alu("sub", R2, R8);
  loadNs(asm, R3, ((burst - 1) * NS_PER_S) / rate);
  asm.jumpIf(R2, "gt", R3, beyond);
  loadNs(asm, R3, NS_PER_S / rate);
  asm.add(R1, R3).store("u64", R7, bucket, R1).jump(within);
}

/** `register` = so many ns, to 4 us: more than a constant of 32 bits holds. */
function loadNs(asm: Assembler, register: Register, ns: number): void {
  const shift = 12;
  asm.mov(register, { imm: Math.round(ns / 2 ** shift) }).alu("lsh", register, { imm: shift });
}
