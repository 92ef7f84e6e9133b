// The outer headers of VXLAN packets of the fast datapath, as they are on the wire.
import { type Assembler, R1, R2, R3, R4, R6 } from "../../bpf/assembler.ts";
import { SKB } from "../../bpf/skbuff.ts";
import { IPV4, UDP } from "./flow.ts";
import { HEADERS } from "./maps.ts";

const IP = HEADERS.ethernet;
/** The first word of a VXLAN header (RFC 7348): the I flag, all else zero. */
const VXLAN_FLAGS = { imm: 0x08 };

/** Offsets from the start of the frame. */
export const OUTER = {
  tos: IP + 1,
  ttl: IP + 8,
  source: IP + 12,
  destination: IP + 16,
  identifier: IP + 32,
} as const;

/** Jump to `no` unless the IPv4 packet at r2 is a VXLAN packet to this UDP port. */
export function requireVxlan(asm: Assembler, port: number, no: string): void {
  asm
    .load("u8", R1, R2, IP + 9)
    .jumpIf(R1, "ne", UDP, no)
    .load("u16", R1, R2, IP + 22)
    .bigEndian(R1, 16)
    .jumpIf(R1, "ne", { imm: port }, no)
    .load("u32", R1, R2, IP + 28)
    .jumpIf(R1, "ne", VXLAN_FLAGS, no);
}

/**
 * Go on where the kernel would take the VXLAN packet at r2 for a whole one: lengths and the sum of the IP header are right, the reserved
 * byte is zero, and there is no checksum of UDP to verify. Clobbers r1, r3, r4.
 */
export function requireWhole(asm: Assembler, no: string): void {
  asm.load("u32", R1, R6, SKB.len);
  for (const [header, at] of [
    [IP, IP + 2],
    [IPV4, IP + 24],
  ] as const)
    asm.alu("sub", R1, { imm: header }).load("u16", R4, R2, at).bigEndian(R4, 16).jumpIf(R1, "ne", R4, no);
  asm
    .load("u16", R1, R2, IP + 26)
    .jumpIf(R1, "ne", { imm: 0 }, no)
    .load("u8", R1, R2, OUTER.identifier + 3)
    .jumpIf(R1, "ne", { imm: 0 }, no)
    .load("u16", R1, R2, IP);
  for (let i = 2; i < IPV4; i += 2) asm.load("u16", R4, R2, IP + i).add(R1, R4);
  for (let i = 0; i < 2; i++)
    asm.mov(R3, R1).alu("rsh", R3, { imm: 16 }).alu("and", R1, { imm: 0xffff }).add(R1, R3);
  asm.jumpIf(R1, "ne", { imm: 0xffff }, no);
}
