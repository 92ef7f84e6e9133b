// Sequences that the datapath's programs are composed of. Registers by convention: r6 the context, r7 the number of the
// frame's source peer. Where a frame cannot be forwarded they jump to "drop", which the program sets.
import {
  type Assembler,
  FP,
  type Operand,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R7,
  R8,
  R9,
  type Register,
} from "../../../bpf/assembler.ts";
import { cloneRedirect, lookup, redirect, setMark, stackAddress, update } from "../../../bpf/emit.ts";
import { BPF_F_DONT_FRAGMENT, BPF_F_ZERO_CSUM_TX, SKB, TUNNEL_KEY } from "../../../bpf/skbuff.ts";
import { SHORT_ID_BITS } from "../../../mesh/bounds.ts";
import { HOPS_VALUE, MAC_VALUE, MAX_HOPS, NEIGHBOUR_VALUE } from "../maps.ts";
import { type ProgramConfig, type ProgramMaps, SENT, STACK, UNMARKED } from "./layout.ts";

const TTL = 64;
const TAG_LENGTH = 4;

/** Learn that the address at STACK.source is at the peer in r7. Clobbers r9. */
export function learnSource(asm: Assembler, maps: ProgramMaps): void {
  const changed = asm.unique("changed");
  const done = asm.unique("learned");
  asm.call("ktime_get_ns").mov(R9, R0);
  lookup(asm, maps.macs.fd, STACK.source);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, changed)
    .load("u32", R1, R0, MAC_VALUE.peer)
    .jumpIf(R1, "ne", R7, changed)
    .store("u64", R0, MAC_VALUE.seen, R9)
    .jump(done)
    .label(changed)
    .store("u64", FP, STACK.value + MAC_VALUE.peer, R7)
    .store("u64", FP, STACK.value + MAC_VALUE.seen, R9);
  update(asm, maps.macs.fd, STACK.source, STACK.value);
  asm.label(done);
}

/** r3 = the next hop to the peer in r8: its address, or SLEEVE. */
export function loadNextHop(asm: Assembler, maps: ProgramMaps): void {
  asm.store("u32", FP, STACK.key, R8);
  lookup(asm, maps.routes.fd, STACK.key);
  asm.jumpIf(R0, "eq", { imm: 0 }, "drop").load("u32", R3, R0, 0).jumpIf(R3, "eq", { imm: 0 }, "drop");
}

/** r1 = the network identifier of a frame to the peer whose short id is in r1. */
export function loadNetworkIdentifier(asm: Assembler): void {
  asm.alu("lsh", R1, { imm: SHORT_ID_BITS }).alu("or", R1, R7);
}

/** Address the frame to the host in `remote`, by the network identifier in r1, and count its bytes for that neighbour. */
export function setTunnelKey(asm: Assembler, maps: Pick<ProgramMaps, "neighbours">, remote: Register): void {
  const uncounted = asm.unique("uncounted");
  asm
    .store("u32", FP, STACK.tunnel + TUNNEL_KEY.tunnel_id, R1)
    .store("u32", FP, STACK.tunnel + TUNNEL_KEY.remote_ipv4, remote)
    .store("u32", FP, STACK.tunnel + 8, { imm: 0 })
    .store("u64", FP, STACK.tunnel + 16, { imm: 0 })
    .store("u32", FP, STACK.tunnel + 12, { imm: 0 })
    .store("u32", FP, STACK.tunnel + TUNNEL_KEY.tunnel_label, { imm: 0 })
    .store("u8", FP, STACK.tunnel + TUNNEL_KEY.tunnel_ttl, { imm: TTL })
    .mov(R1, R6);
  stackAddress(asm, R2, STACK.tunnel);
  asm
    .mov(R3, { imm: TUNNEL_KEY.size })
    .mov(R4, { imm: BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT })
    .call("skb_set_tunnel_key")
    .load("u32", R1, FP, STACK.tunnel + TUNNEL_KEY.remote_ipv4)
    .store("u32", FP, STACK.key, R1);
  lookup(asm, maps.neighbours.fd, STACK.key);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, uncounted)
    .load("u32", R1, R6, SKB.len)
    .atomicAdd(R0, NEIGHBOUR_VALUE.sent, R1)
    .label(uncounted);
}

/**
 * Send a copy of the frame to each VXLAN hop of the source's broadcast tree, and jump to `sleeve` where others get it by
 * sleeve. With `tunnelled` only if it came from the neighbour that the tree says. Clobbers r8 and r9.
 */
export function sendToHops(
  asm: Assembler,
  maps: ProgramMaps,
  config: ProgramConfig,
  sleeve: string,
  tunnelled = false,
): void {
  const done = asm.unique("hops-done");
  asm.store("u32", FP, STACK.key, R7);
  lookup(asm, maps.hops.fd, STACK.key);
  asm.jumpIf(R0, "eq", { imm: 0 }, done).mov(R8, R0);
  if (tunnelled) {
    const expected = asm.unique("hops-expected");
    asm
      .load("u32", R1, R8, HOPS_VALUE.from)
      .jumpIf(R1, "eq", { imm: 0 }, expected)
      .load("u32", R2, FP, STACK.tunnel + TUNNEL_KEY.remote_ipv4)
      .jumpIf(R1, "ne", R2, done)
      .label(expected);
  }
  if (config.callbacks) callForHops(asm);
  else loopOverHops(asm, maps, config);
  asm.load("u32", R1, R8, HOPS_VALUE.sleeve).jumpIf(R1, "ne", { imm: 0 }, sleeve).label(done);
}

/** Send a copy to each of the hops at r8. */
function loopOverHops(asm: Assembler, maps: ProgramMaps, config: ProgramConfig): void {
  const loop = asm.unique("hop");
  const end = asm.unique("hops-end");
  asm
    .mov(R9, { imm: 0 })
    .label(loop)
    .jumpIf(R9, "ge", { imm: MAX_HOPS }, end)
    .load("u32", R1, R8, HOPS_VALUE.count)
    .jumpIf(R9, "ge", R1, end);
  sendToHop(asm, maps, config);
  asm.add(R9, { imm: 1 }).jump(loop).label(end);
}

/** The same by bpf_loop and the callback of hopCallback(). */
function callForHops(asm: Assembler): void {
  asm
    .store("u64", FP, STACK.loop, R6)
    .store("u64", FP, STACK.loop + 8, R7)
    .store("u64", FP, STACK.loop + 16, R8)
    .load("u32", R1, R8, HOPS_VALUE.count)
    .loadCallback(R2, HOP_CALLBACK);
  stackAddress(asm, R3, STACK.loop);
  asm.mov(R4, { imm: 0 }).call("loop");
}

const HOP_CALLBACK = "hop-callback";

/** To be put behind the end of a program with sendToHops(). */
export function hopCallback(asm: Assembler, maps: ProgramMaps, config: ProgramConfig): void {
  if (!config.callbacks) return;
  asm
    .label(HOP_CALLBACK)
    .mov(R9, R1)
    .load("u64", R6, R2, 0)
    .load("u64", R7, R2, 8)
    .load("u64", R8, R2, 16)
    .jumpIf(R9, "ge", { imm: MAX_HOPS }, "hops-over");
  sendToHop(asm, maps, config);
  asm.mov(R0, { imm: 0 }).exit().label("hops-over").mov(R0, { imm: 1 }).exit();
}

/** Send a copy to the hop with the number in r9, of those at r8. */
function sendToHop(asm: Assembler, maps: ProgramMaps, config: ProgramConfig): void {
  asm
    .mov(R2, R9)
    .alu("lsh", R2, { imm: Math.log2(HOPS_VALUE.stride) })
    .add(R2, R8)
    .load("u32", R1, R2, HOPS_VALUE.first)
    .load("u32", R3, R2, HOPS_VALUE.first + 4);
  loadNetworkIdentifier(asm);
  setTunnelKey(asm, maps, R3);
  setMark(asm, SENT);
  cloneRedirect(asm, config.port);
  setMark(asm, UNMARKED);
}

/** End the program with the frame on its way to the sleeve engine, for the peer whose number is in `destination`. */
export function redirectToSleeve(asm: Assembler, config: ProgramConfig, destination: Operand): void {
  asm
    .store("u16", FP, STACK.tag, R7)
    .store("u16", FP, STACK.tag + 2, destination)
    .mov(R1, R6)
    .mov(R2, { imm: TAG_LENGTH })
    .mov(R3, { imm: 0 })
    .call("skb_change_head")
    .jumpIf(R0, "ne", { imm: 0 }, "drop")
    .mov(R1, R6)
    .mov(R2, { imm: 0 });
  stackAddress(asm, R3, STACK.tag);
  asm.mov(R4, { imm: TAG_LENGTH }).mov(R5, { imm: 0 }).call("skb_store_bytes");
  setMark(asm, SENT);
  redirect(asm, config.tap);
}
