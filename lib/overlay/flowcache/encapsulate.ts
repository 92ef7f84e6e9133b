// Encapsulation on the fast path: outer headers that the kernel wrote for an earlier packet, completed for this one.
import { type Assembler, R0, R1, R2, R3, R4, R5, R6, type Register } from "../../bpf/assembler.ts";
import { BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM, SKB } from "../../bpf/skbuff.ts";
import { loadPacket } from "./flow.ts";
import { HEADERS, OUT } from "./maps.ts";

const ENCAPSULATE =
  BPF_F_ADJ_ROOM.FIXED_GSO |
  BPF_F_ADJ_ROOM.ENCAP_L3_IPV4 |
  BPF_F_ADJ_ROOM.ENCAP_L4_UDP |
  BPF_F_ADJ_ROOM.ENCAP_L2_ETH;

const IP = HEADERS.ethernet;
const UDP = IP + 20;
/** ECN: congestion experienced (CE); the outer header of such packets gets ECT(0) (RFC 6040; INET_ECN_encapsulate of the kernel). */
const CE = { imm: 3 };
const ECT_0 = { imm: 2 };

/** `register` = flags of skb_adjust_room() for the outer headers. */
export function encapsulation(asm: Assembler, register: Register): void {
  asm
    .mov(register, { imm: HEADERS.ethernet })
    .alu("lsh", register, { imm: BPF_F_ADJ_ROOM.ENCAP_L2_SHIFT })
    .alu("or", register, { imm: ENCAPSULATE });
}

/**
 * Make room for outer headers behind the Ethernet header of an IPv4 packet; r2 = its start. Jumps to `slow` with the packet unchanged
 * if the kernel refuses.
 */
export function makeRoom(asm: Assembler, slow: string, drop: string): void {
  asm.mov(R1, R6).mov(R2, { imm: HEADERS.outer }).mov(R3, BPF_ADJ_ROOM_MAC);
  encapsulation(asm, R4);
  asm.mov(R5, { imm: 0 }).call("skb_adjust_room").jumpIf(R0, "ne", { imm: 0 }, slow);
  loadPacket(asm, HEADERS.all + 20, drop);
}

/** Write the fields that differ between packets to the headers at r2, which were copied from `entry`. Clobbers r1, r3, r4. */
export function completeHeaders(asm: Assembler, entry: Register): void {
  const marked = asm.unique("leave-ecn");
  asm
    // Lengths of the IP packet and of the UDP datagram.
    .load("u32", R1, R6, SKB.len)
    .alu("sub", R1, { imm: IP })
    .mov(R3, R1)
    .bigEndian(R3, 16)
    .store("u16", R2, IP + 2, R3)
    .alu("sub", R1, { imm: 20 })
    .bigEndian(R1, 16)
    .store("u16", R2, UDP + 4, R1)
    // Copy ECN only, not DSCP, as the slow path does.
    .load("u8", R4, R2, HEADERS.all + 1)
    .alu("and", R4, CE)
    .jumpIf(R4, "ne", CE, marked)
    .mov(R4, ECT_0)
    .label(marked)
    .store("u8", R2, IP + 1, R4)
    .alu("lsh", R4, { imm: 8 })
    // The checksum (RFC 1071), over words in host byte order.
    .load("u32", R1, entry, OUT.sum)
    .add(R1, R3)
    .add(R1, R4);
  for (let i = 0; i < 2; i++)
    asm.mov(R3, R1).alu("rsh", R3, { imm: 16 }).alu("and", R1, { imm: 0xffff }).add(R1, R3);
  asm
    .mov(R3, { imm: 0xffff })
    .alu("sub", R3, R1)
    .store("u16", R2, IP + 10, R3);
}
