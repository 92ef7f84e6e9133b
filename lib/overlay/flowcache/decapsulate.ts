// Decapsulation on the fast path: the check before it, and the removal of the outer headers.
import { type Assembler, FP, R0, R1, R2, R3, R4, R5, R6 } from "../../bpf/assembler.ts";
import { BPF_ADJ_ROOM_MAC, BPF_CSUM_LEVEL_DEC, BPF_F_ADJ_ROOM, XFRM_STATE_SIZE } from "../../bpf/skbuff.ts";
import { loadPacket, STACK } from "./flow.ts";
import { HEADERS } from "./maps.ts";

const DECAPSULATE = BPF_F_ADJ_ROOM.FIXED_GSO | BPF_F_ADJ_ROOM.NO_CSUM_RESET;

/**
 * Jump to `no` for a packet that IPsec has decrypted. With GRO of ESP (esp4_offload), such packets arrive here decrypted. A flow
 * cached from one would let unencrypted packets bypass the IPsec policies.
 */
export function requireClear(asm: Assembler, no: string): void {
  asm
    .mov(R1, R6)
    .mov(R2, { imm: 0 })
    .mov(R3, FP)
    .add(R3, { imm: STACK.value })
    .mov(R4, { imm: XFRM_STATE_SIZE })
    .mov(R5, { imm: 0 })
    .call("skb_get_xfrm_state")
    .jumpIf(R0, "eq", { imm: 0 }, no);
}

/**
 * Remove the outer headers and decrement csum_level, as the kernel does. r2 = start of the frame; the caller writes its Ethernet
 * header. Jumps to `slow` with the packet unchanged if the kernel refuses.
 */
export function removeOuter(asm: Assembler, slow: string, drop: string): void {
  asm
    .mov(R1, R6)
    .mov(R2, { imm: -HEADERS.outer })
    .mov(R3, BPF_ADJ_ROOM_MAC)
    .mov(R4, { imm: DECAPSULATE })
    .mov(R5, { imm: 0 })
    .call("skb_adjust_room")
    .jumpIf(R0, "ne", { imm: 0 }, slow)
    .mov(R1, R6)
    .mov(R2, BPF_CSUM_LEVEL_DEC)
    .call("csum_level");
  loadPacket(asm, HEADERS.ethernet, drop);
}
