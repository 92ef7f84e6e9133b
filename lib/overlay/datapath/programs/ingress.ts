// The program for frames that arrive by VXLAN.
//
//   heartbeat: note it; for another peer: relay it; for us: learn the source's peer and deliver the frame
import { ETHERNET_HEADER } from "../../../address/mac.ts";
import { Assembler, FP, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9 } from "../../../bpf/assembler.ts";
import {
  copyMac,
  loadBytes,
  loadFrame,
  lookup,
  redirect,
  setMark,
  stackAddress,
  verdict,
} from "../../../bpf/emit.ts";
import { SKB, TC_ACT, TUNNEL_KEY } from "../../../bpf/skbuff.ts";
import { SHORT_ID_BITS, SHORT_IDS } from "../../../mesh/bounds.ts";
import { confirmPath } from "../../flowcache/pathfrom.ts";
import { HEARTBEAT_PAYLOAD, HEARTBEAT_VALUE, NEIGHBOUR_VALUE } from "../maps.ts";
import { deliver, passDelivered } from "./deliver.ts";
import { hopCallback, learnSource, loadNextHop, redirectToSleeve, setTunnelKey } from "./emit.ts";
import { type ProgramConfig, type ProgramMaps, SENT, SLEEVE_HOP, STACK } from "./layout.ts";

/** Offset of the type in an Ethernet header. */
const ETHERTYPE = 12;
const PROTOCOL_ICMP = 1;
/** Bytes of the uid in front of the size. */
const HEARTBEAT_UID = 8;
/** Type 3, code 4, as a little-endian number. */
const FRAGMENTATION_NEEDED = 0x0403;

const SHORT_ID_MASK = { imm: SHORT_IDS - 1 };

export function ingressProgram(maps: ProgramMaps, config: ProgramConfig): Uint8Array {
  const asm = new Assembler();
  asm.mov(R6, R1);
  passDelivered(asm, config);
  loadPeers(asm);
  asm.jumpIf(R7, "eq", { imm: config.self }, "own");
  loadFrame(asm, "drop");
  asm
    .load("u32", R3, R2, 0)
    .load("u32", R4, R2, 4)
    .load("u32", R5, R2, 8)
    .alu("or", R3, R4)
    .alu("or", R3, R5)
    .jumpIf(R3, "eq", { imm: 0 }, "heartbeat");
  copyMac(asm, 6, STACK.source);
  copyMac(asm, 0, STACK.destination);
  requireNeighbour(asm, maps);
  if (config.flow) confirmPath(asm, config.flow, STACK.key);
  asm.jumpIf(R8, "ne", { imm: config.self }, "relay");

  learnSource(asm, maps);
  deliver(asm, maps, config, config.port);

  asm.label("relay");
  loadNextHop(asm, maps);
  asm
    .jumpIf32(R3, "eq", SLEEVE_HOP, "relay-sleeve")
    // Never back to where it came from.
    .load("u32", R2, FP, STACK.tunnel + TUNNEL_KEY.remote_ipv4)
    .jumpIf(R2, "eq", R3, "drop")
    .load("u32", R1, FP, STACK.tunnel + TUNNEL_KEY.tunnel_id);
  setTunnelKey(asm, maps, R3);
  setMark(asm, SENT);
  redirect(asm, config.port);

  asm.label("relay-sleeve");
  redirectToSleeve(asm, config, R8);

  asm.label("heartbeat");
  noteHeartbeat(asm, maps);
  asm.label("drop");
  verdict(asm, TC_ACT.SHOT);

  asm.label("own");
  requireTooBig(asm);
  // The kernel answers in the name of the neighbour that the frame was for; strangers may not.
  lookupNeighbour(asm, maps);
  verdict(asm, TC_ACT.OK);
  hopCallback(asm, maps, config);
  return asm.assemble();
}

/**
 * Drop frames of ours that have come back, but for those that this kernel makes of a frame that is larger than the path takes:
 * ICMP's 'fragmentation needed' (RFC 1191), for the container that sent it.
 */
function requireTooBig(asm: Assembler): void {
  loadBytes(asm, { imm: ETHERTYPE }, 24, STACK.heartbeat, "drop");
  asm
    .load("u16", R1, FP, STACK.heartbeat)
    .jumpIf(R1, "ne", { imm: 0x0008 }, "drop")
    .load("u8", R1, FP, STACK.heartbeat + 2)
    .jumpIf(R1, "ne", { imm: 0x45 }, "drop")
    .load("u8", R1, FP, STACK.heartbeat + 11)
    .jumpIf(R1, "ne", { imm: PROTOCOL_ICMP }, "drop")
    .load("u16", R1, FP, STACK.heartbeat + 22)
    .jumpIf(R1, "ne", { imm: FRAGMENTATION_NEEDED }, "drop");
}

/** r7, r8 = the short ids of the frame's source and destination; its tunnel key at STACK.tunnel. */
function loadPeers(asm: Assembler): void {
  asm.mov(R1, R6);
  stackAddress(asm, R2, STACK.tunnel);
  asm
    .mov(R3, { imm: TUNNEL_KEY.size })
    .mov(R4, { imm: 0 })
    .call("skb_get_tunnel_key")
    .jumpIf(R0, "ne", { imm: 0 }, "drop")
    .load("u32", R7, FP, STACK.tunnel + TUNNEL_KEY.tunnel_id)
    .mov(R8, R7)
    .alu("rsh", R8, { imm: SHORT_ID_BITS })
    .alu("and", R8, SHORT_ID_MASK)
    .alu("and", R7, SHORT_ID_MASK);
}

/** Drop frames of hosts that are no neighbours; count those of others, which are signs of life. Clobbers r9. */
function requireNeighbour(asm: Assembler, maps: ProgramMaps): void {
  lookupNeighbour(asm, maps);
  asm
    .mov(R9, R0)
    .call("ktime_get_ns")
    .store("u64", R9, NEIGHBOUR_VALUE.seen, R0)
    .load("u32", R1, R6, SKB.len)
    .atomicAdd(R9, NEIGHBOUR_VALUE.received, R1);
}

/** r0 = the neighbour that the frame came from; drop frames of other hosts. */
function lookupNeighbour(asm: Assembler, maps: ProgramMaps): void {
  asm.load("u32", R1, FP, STACK.tunnel + TUNNEL_KEY.remote_ipv4).store("u32", FP, STACK.key, R1);
  lookup(asm, maps.neighbours.fd, STACK.key);
  asm.jumpIf(R0, "eq", { imm: 0 }, "drop");
}

/** Note a heartbeat of a connection that we have; drop others, whose senders cannot know a uid. */
function noteHeartbeat(asm: Assembler, maps: ProgramMaps): void {
  loadBytes(asm, { imm: ETHERNET_HEADER }, HEARTBEAT_PAYLOAD, STACK.heartbeat, "drop");
  lookup(asm, maps.heartbeats.fd, STACK.heartbeat);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, "drop")
    .mov(R9, R0)
    .call("ktime_get_ns")
    .load("u16", R1, FP, STACK.heartbeat + HEARTBEAT_UID)
    .store("u32", R9, HEARTBEAT_VALUE.size, R1)
    .load("u32", R1, R6, SKB.len)
    .store("u32", R9, HEARTBEAT_VALUE.length, R1)
    .load("u32", R1, FP, STACK.tunnel + TUNNEL_KEY.remote_ipv4)
    .store("u64", R9, HEARTBEAT_VALUE.sender, R1)
    .store("u64", R9, HEARTBEAT_VALUE.at, R0);
}
