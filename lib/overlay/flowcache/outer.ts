// The outer headers of VXLAN packets of the fast datapath, as they are on the wire.
import { type Assembler, R1, R2 } from "../../bpf/assembler.ts";
import { HEADERS } from "./maps.ts";

const IP = HEADERS.ethernet;
const UDP = { imm: 17 };
/** The first word of a VXLAN header (RFC 7348): the I flag, all else zero. */
const VXLAN_FLAGS = { imm: 0x08 };

/** Offsets from the start of the frame. */
export const OUTER = { tos: IP + 1, source: IP + 12, destination: IP + 16, identifier: IP + 32 } as const;

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
