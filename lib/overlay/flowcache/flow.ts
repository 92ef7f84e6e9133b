// What the programs of the flow cache share. Registers by convention: r6 the context, r7 the entry, r8 the port or neighbour, r9
// bytes of an IP packet. Each program sets a label for packets that take the slow path.
import { type Assembler, FP, R0, R1, R2, R3, R4, R5, R6, R9, type Register } from "../../bpf/assembler.ts";
import { lookup, update } from "../../bpf/emit.ts";
import { SKB } from "../../bpf/skbuff.ts";
import { ESTABLISHED_MARK } from "../../host/firewall.ts";
import { CONTROL, FLOW, type FlowMaps, HEADERS, MODE, OUT, TRAFFIC } from "./maps.ts";

/**
 * Maximum age of an entry: a flow takes the slow path at least once in this time. A change that the cache is not notified of (policies,
 * iptables, routes, MTU, ESP, addresses) is in force after this time plus a tick of the kernel (10 ms at most).
 */
export const LIFETIME_NS = 80_000_000;

/** Marks packets that may be cached; the packet filter sets it (host/firewall.ts). */
export const MAY_CACHE = { imm: ESTABLISHED_MARK } as const;
/** Marks VXLAN packets that arrived unencrypted and may be cached, from the underlay link to the container's port. */
export const CLEAR = { imm: 0x100_0000 } as const;
/** Both. */
const CACHE_MARKS = { imm: MAY_CACHE.imm | CLEAR.imm } as const;
/** Marks VXLAN packets to learn the path to or from a neighbour by; on a container's port, frames that came by a learnt path. */
export const PATH_MARK = { imm: 0x200_0000 } as const;

export type FlowProgramMaps = { readonly [name in keyof FlowMaps]: { readonly fd: number } };

/** Places on the stack, as offsets from the frame pointer. */
export const STACK = { flow: -16, key: -24, value: -128, remote: -136, since: -144, flags: -152 } as const;

// As a little-endian host reads them from the packet.
export const ETHERTYPE_IPV4 = { imm: 0x0008 };
const DONT_FRAGMENT = 0x0040;
const IPV4_WITHOUT_OPTIONS = { imm: 0x45 };
const TCP = { imm: 6 };
export const UDP = { imm: 17 };

const ETHERNET = 14;
/** Bytes of an IPv4 header without options. */
export const IPV4 = 20;
const UDP_HEADER = 8;
const TCP_LEAST = 20;
/** FIN, SYN, RST: conntrack must see these. */
const TCP_EDGES = { imm: 0x07 };

/** r2, r3 = start and end of the linear part of the packet; jumps to `no` where `length` bytes are not in it. */
export function loadPacket(asm: Assembler, length: number, no: string): void {
  asm.load("u32", R2, R6, SKB.data).load("u32", R3, R6, SKB.data_end);
  requireBytes(asm, length, no);
}

/** Jump to `no` if there are fewer bytes between r2 and r3. */
function requireBytes(asm: Assembler, length: number, no: string): void {
  asm.mov(R4, R2).add(R4, { imm: length }).jumpIf(R4, "gt", R3, no);
}

/** Jump to `no` unless the frame at r2 + at holds an IPv4 packet that is no fragment and has no options. */
export function requireIPv4(asm: Assembler, at: number, no: string): void {
  asm
    .load("u16", R1, R2, at + 12)
    .jumpIf(R1, "ne", ETHERTYPE_IPV4, no)
    .load("u8", R1, R2, at + ETHERNET)
    .jumpIf(R1, "ne", IPV4_WITHOUT_OPTIONS, no)
    .load("u16", R1, R2, at + ETHERNET + 6)
    .alu("and", R1, { imm: 0xffff & ~DONT_FRAGMENT })
    .jumpIf(R1, "ne", { imm: 0 }, no);
}

/**
 * Read the flow of the frame at r2 + at to STACK.flow; r9 = bytes of its IP packet, or of one segment of a super-frame. Jumps to `no`
 * for packets that are not cached: all but TCP and UDP in IPv4, fragments, options, TTL 1, and SYN, FIN and RST. Clobbers r1 to r5.
 */
export function loadFlow(asm: Assembler, at: number, no: string): void {
  const [udp, known, whole] = ["flow-udp", "flow-known", "flow-whole"].map((name) => asm.unique(name)) as [
    string,
    string,
    string,
  ];
  const ip = at + ETHERNET;
  const transport = ip + IPV4;
  requireBytes(asm, transport + UDP_HEADER, no);
  requireIPv4(asm, at, no);
  asm
    .load("u8", R1, R2, ip + 8)
    .jumpIf(R1, "le", { imm: 1 }, no)
    .load("u8", R1, R2, ip + 9)
    .mov(R5, { imm: IPV4 + UDP_HEADER })
    .jumpIf(R1, "eq", UDP, known)
    .jumpIf(R1, "ne", TCP, no)
    .mov(R4, R2)
    .add(R4, { imm: transport + TCP_LEAST })
    .jumpIf(R4, "gt", R3, no)
    .load("u8", R4, R2, transport + 13)
    .alu("and", R4, TCP_EDGES)
    .jumpIf(R4, "ne", { imm: 0 }, no)
    .load("u8", R5, R2, transport + 12)
    .alu("rsh", R5, { imm: 4 })
    .alu("lsh", R5, { imm: 2 })
    .add(R5, { imm: IPV4 })
    .label(known)
    .store("u32", FP, STACK.flow + FLOW.protocol, R1)
    .load("u32", R1, R2, ip + 12)
    .store("u32", FP, STACK.flow + FLOW.source, R1)
    .load("u32", R1, R2, ip + 16)
    .store("u32", FP, STACK.flow + FLOW.destination, R1)
    .load("u32", R1, R2, transport)
    .store("u32", FP, STACK.flow + FLOW.ports, R1)
    .load("u32", R9, R6, SKB.gso_size)
    .jumpIf(R9, "eq", { imm: 0 }, whole)
    .add(R9, R5)
    .jump(udp)
    .label(whole)
    .load("u32", R9, R6, SKB.len)
    .alu("sub", R9, { imm: ip })
    .label(udp);
}

/** r0 = the time as in entries: coarse CLOCK_MONOTONIC, ns. */
export function loadTime(asm: Assembler): void {
  asm.call("ktime_get_coarse_ns");
}

/** r1 = the generation, the mode, or the ifindex of the VXLAN link. Jumps to `no` where the map lacks it, which cannot happen. */
export function loadControl(
  asm: Assembler,
  maps: Pick<FlowProgramMaps, "control">,
  which: keyof typeof CONTROL,
  no: string,
): void {
  asm.store("u32", FP, STACK.key, { imm: CONTROL[which] });
  lookup(asm, maps.control.fd, STACK.key);
  asm.jumpIf(R0, "eq", { imm: 0 }, no).load("u32", R1, R0, 0);
}

/**
 * Jump to `no` unless the entry was confirmed within LIFETIME_NS in this generation. `at` and `generation` are the fields' offsets.
 */
export function requireFresh(
  asm: Assembler,
  maps: FlowProgramMaps,
  entry: Register,
  { at, generation }: { readonly at: number; readonly generation: number },
  no: string,
): void {
  loadTime(asm);
  asm.load("u64", R1, entry, at).alu("sub", R0, R1).jumpIf(R0, "gt", { imm: LIFETIME_NS }, no);
  loadControl(asm, maps, "generation", no);
  asm.load("u32", R2, entry, generation).jumpIf(R1, "ne", R2, no);
}

/** Jump to `no` unless the Ethernet header at r2 + at is the one at entry + offset. */
export function requireEthernet(
  asm: Assembler,
  at: number,
  entry: Register,
  offset: number,
  no: string,
): void {
  for (const i of [0, 4, 8]) {
    asm
      .load("u32", R1, R2, at + i)
      .load("u32", R4, entry, offset + i)
      .jumpIf(R1, "ne", R4, no);
  }
}

/** Count a packet of the container at the port in `port`; its bytes in r1. Clobbers r2. */
export function countPacket(asm: Assembler, port: Register, what: "sent" | "received"): void {
  asm
    .mov(R2, { imm: 1 })
    .atomicAdd(port, TRAFFIC[`${what}Bytes`], R1)
    .atomicAdd(port, TRAFFIC[`${what}Packets`], R2);
}

/** r0 = the entry of the port with the ifindex in r1. Jumps to `no` if its flows are not cached. */
export function loadPort(asm: Assembler, maps: FlowProgramMaps, no: string): void {
  asm.store("u32", FP, STACK.key, R1);
  lookup(asm, maps.ports.fd, STACK.key);
  asm.jumpIf(R0, "eq", { imm: 0 }, no);
}

/** Set a bit of the packet's mark. Clobbers r1. */
export function addMark(asm: Assembler, { imm }: { readonly imm: number }): void {
  asm.load("u32", R1, R6, SKB.mark).alu("or", R1, { imm }).store("u32", R6, SKB.mark, R1);
}

/** Clear bits of the packet's mark, by default those of flows. Clobbers r1. */
export function clearMarks(asm: Assembler, { imm }: { readonly imm: number } = CACHE_MARKS): void {
  asm.load("u32", R1, R6, SKB.mark).alu("and", R1, { imm: ~imm }).store("u32", R6, SKB.mark, R1);
}

/** Jump to `no` unless flows are cached. */
export function requireOn(asm: Assembler, maps: Pick<FlowProgramMaps, "control">, no: string): void {
  loadControl(asm, maps, "mode", no);
  asm.alu("and", R1, { imm: MODE.on }).jumpIf(R1, "eq", { imm: 0 }, no);
}

/** Begin an entry of map `out` at STACK.value: zeros, and the Ethernet header of the packet at r2. Clobbers r1. */
export function beginOut(asm: Assembler): void {
  for (let i = 0; i < OUT.size; i += 8) asm.store("u64", FP, STACK.value + i, { imm: 0 });
  for (let i = 0; i < HEADERS.ethernet; i += 2)
    asm.load("u16", R1, R2, i).store("u16", FP, STACK.value + OUT.ethernet + i, R1);
}

/**
 * Write the entry at STACK.value for the flow at STACK.flow, with the present generation and the time at stack offset `since`; without
 * it, or where it is 0, the present time. Written in place: another processor may be using the entry. Jumps to `otherwise` if the map
 * lacks a generation.
 */
export function writeOut(
  asm: Assembler,
  maps: Pick<FlowProgramMaps, "control" | "out">,
  otherwise: string,
  since?: number,
): void {
  const timed = asm.unique("flow-timed");
  loadControl(asm, maps, "generation", otherwise);
  asm.store("u32", FP, STACK.value + OUT.generation, R1);
  if (since !== undefined) asm.load("u64", R0, FP, since).jumpIf(R0, "ne", { imm: 0 }, timed);
  loadTime(asm);
  asm.label(timed).store("u64", FP, STACK.value + OUT.at, R0);
  const [known, written] = [asm.unique("flow-known"), asm.unique("flow-written")];
  lookup(asm, maps.out.fd, STACK.flow);
  asm.jumpIf(R0, "ne", { imm: 0 }, known);
  update(asm, maps.out.fd, STACK.flow, STACK.value);
  asm.jump(written).label(known);
  for (let i = 0; i < OUT.size; i += 8) asm.load("u64", R1, FP, STACK.value + i).store("u64", R0, i, R1);
  asm.label(written);
}
