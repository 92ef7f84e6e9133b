// The eBPF programs of the overlay. Other hosts are behind one port of the bridge: a VXLAN link, or where there is none
// the TAP link of sleeve. `egress` takes what the bridge sends to that port; `ingress` what comes in by VXLAN; `tap` what
// the sleeve engine hands over. In VXLAN the network identifier holds the short ids of the peer that sent the frame
// (bits 0–11) and of the one it is for (bits 12–23), as in the original's fast datapath.
//
//   egress   learn the source as local; known destination: to its peer; else: to each hop of our own broadcast tree
//   ingress  heartbeat: note it; for another peer: pass it on; for us: learn the source's peer and hand the frame to
//            the bridge; not known to be local: also to each hop of its sender's broadcast tree
//   tap      always for us, its source's peer told of by the engine: hand it to the bridge, or broadcast it likewise
//
// What goes by sleeve leaves by the TAP link, with a tag in front: numbers of source and destination (see peerid.ts).
import {
  Assembler,
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
} from "../../bpf/assembler.ts";

import {
  copyMac,
  ETHERNET_HEADER,
  KTIME_GET_NS,
  loadBytes,
  loadFrame,
  lookup,
  SKB,
  stackAddress,
  update,
} from "../../bpf/skb.ts";
import { SHORT_ID_BITS, SHORT_IDS } from "../../mesh/bounds.ts";

import { EVERYBODY } from "../peerid.ts";
import {
  type DatapathMaps,
  HEARTBEAT_PAYLOAD,
  HEARTBEAT_VALUE,
  HOPS_VALUE,
  MAC_VALUE,
  MAX_HOPS,
  NEIGHBOUR_VALUE,
} from "./maps.ts";

// Helpers of the kernel (linux/bpf.h, enum bpf_func_id).
const SKB_STORE_BYTES = 9;
const CLONE_REDIRECT = 13;
const SKB_GET_TUNNEL_KEY = 20;
const SKB_SET_TUNNEL_KEY = 21;
const REDIRECT = 23;
const SKB_CHANGE_HEAD = 43;

// struct bpf_tunnel_key, without the fields that newer kernels have added behind.
const TUNNEL_KEY = { id: 0, remote: 4, tos: 20, ttl: 21, size: 28 } as const;
const BPF_F_ZERO_CSUM_TX = 2;
const BPF_F_DONT_FRAGMENT = 4;

/** Redirected to where frames come in. */
const BPF_F_INGRESS = { imm: 1 };

const TC_ACT_OK = { imm: 0 };
const TC_ACT_SHOT = { imm: 2 };

const TTL = 64;
const SHORT_ID_MASK = { imm: SHORT_IDS - 1 };

// A mark is set from a register: kernels before 6.4 take no constant there.

/** Tells frames that the programs send out themselves from those of the bridge. */
const MARK = { imm: 0x57e4e };
/** Tells frames that the programs hand to the bridge from those that come in. */
const ACCEPT = { imm: 0x57e4f };

/** As in maps.ts, in a 32-bit comparison. */
const SLEEVE = { imm: -1 };
const TAG_LENGTH = 4;

/** Where things lie on the stack, as offsets from the frame pointer. */
const STACK = { key: -8, mac: -16, value: -32, tunnel: -64, heartbeat: -96, tag: -104 } as const;

export interface ProgramConfig {
  /** Our own short id. */
  readonly self: number;
  /** ifindex of the bridge's port: the VXLAN link's, else the TAP link's. */
  readonly port: number;
  /** ifindex of the TAP link of sleeve. */
  readonly tap: number;
}

/** Remembers that the MAC address at STACK.mac is at the peer in `peer`. */
function learn(asm: Assembler, maps: DatapathMaps, peer: Register): void {
  const changed = asm.unique("changed");
  const done = asm.unique("learned");
  asm.call(KTIME_GET_NS).mov(R9, R0);
  lookup(asm, maps.macs.fd, STACK.mac);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, changed)
    .load("u32", R1, R0, MAC_VALUE.peer)
    .jumpIf(R1, "ne", peer, changed)
    .store("u64", R0, MAC_VALUE.seen, R9)
    .jump(done)
    .label(changed)
    .store("u64", FP, STACK.value + MAC_VALUE.peer, peer)
    .store("u64", FP, STACK.value + MAC_VALUE.seen, R9);
  update(asm, maps.macs.fd, STACK.mac, STACK.value);
  asm.label(done);
}

/** r3 = the next hop to the peer in r8; jumps to "drop" where there is none. */
function loadNextHop(asm: Assembler, maps: DatapathMaps): void {
  asm.store("u32", FP, STACK.key, R8);
  lookup(asm, maps.routes.fd, STACK.key);
  asm.jumpIf(R0, "eq", { imm: 0 }, "drop").load("u32", R3, R0, 0).jumpIf(R3, "eq", { imm: 0 }, "drop");
}

/** Addresses the frame to the host in `remote`, and counts it; the network identifier is in r1. */
function setTunnel(asm: Assembler, maps: DatapathMaps, remote: Register): void {
  const uncounted = asm.unique("uncounted");
  asm
    .store("u32", FP, STACK.tunnel + TUNNEL_KEY.id, R1)
    .store("u32", FP, STACK.tunnel + TUNNEL_KEY.remote, remote)
    .store("u32", FP, STACK.tunnel + 8, { imm: 0 })
    .store("u64", FP, STACK.tunnel + 16, { imm: 0 })
    .store("u32", FP, STACK.tunnel + 12, { imm: 0 })
    .store("u32", FP, STACK.tunnel + 24, { imm: 0 })
    .store("u8", FP, STACK.tunnel + TUNNEL_KEY.ttl, { imm: TTL })
    .mov(R1, R6);
  stackAddress(asm, R2, STACK.tunnel);
  asm
    .mov(R3, { imm: TUNNEL_KEY.size })
    .mov(R4, { imm: BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT })
    .call(SKB_SET_TUNNEL_KEY)
    .load("u32", R1, FP, STACK.tunnel + TUNNEL_KEY.remote)
    .store("u32", FP, STACK.key, R1);
  lookup(asm, maps.neighbours.fd, STACK.key);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, uncounted)
    .load("u32", R1, R6, SKB.len)
    .atomicAdd(R0, NEIGHBOUR_VALUE.sent, R1)
    .label(uncounted);
}

/**
 * Sends a copy of the frame to each VXLAN hop of the broadcast tree of the peer in r7, and jumps to `sleeve` where others
 * get it by sleeve. With `tunnelled`, only when it has come from the neighbour that it should. Uses r8 and r9.
 */
function sendToHops(
  asm: Assembler,
  maps: DatapathMaps,
  config: ProgramConfig,
  sleeve: string,
  tunnelled = false,
): void {
  const loop = asm.unique("hop");
  const end = asm.unique("hops-end");
  const done = asm.unique("hops-done");
  asm.store("u32", FP, STACK.key, R7);
  lookup(asm, maps.hops.fd, STACK.key);
  asm.jumpIf(R0, "eq", { imm: 0 }, done).mov(R8, R0);
  if (tunnelled) {
    const expected = asm.unique("hops-expected");
    asm
      .load("u32", R1, R8, HOPS_VALUE.from)
      .jumpIf(R1, "eq", { imm: 0 }, expected)
      .load("u32", R2, FP, STACK.tunnel + TUNNEL_KEY.remote)
      .jumpIf(R1, "ne", R2, done)
      .label(expected);
  }
  asm
    .mov(R9, { imm: 0 })
    .label(loop)
    .jumpIf(R9, "ge", { imm: MAX_HOPS }, end)
    .load("u32", R1, R8, HOPS_VALUE.count)
    .jumpIf(R9, "ge", R1, end)
    .mov(R2, R9)
    .alu("lsh", R2, { imm: Math.log2(HOPS_VALUE.stride) })
    .add(R2, R8)
    .load("u32", R1, R2, HOPS_VALUE.first)
    .load("u32", R3, R2, HOPS_VALUE.first + 4)
    .alu("lsh", R1, { imm: SHORT_ID_BITS })
    .alu("or", R1, R7);
  setTunnel(asm, maps, R3);
  asm
    .mov(R1, MARK)
    .store("u32", R6, SKB.mark, R1)
    .mov(R1, R6)
    .mov(R2, { imm: config.port })
    .mov(R3, { imm: 0 })
    .call(CLONE_REDIRECT)
    .mov(R1, { imm: 0 })
    .store("u32", R6, SKB.mark, R1)
    .add(R9, { imm: 1 })
    .jump(loop)
    .label(end)
    .load("u32", R1, R8, HOPS_VALUE.sleeve)
    .jumpIf(R1, "ne", { imm: 0 }, sleeve)
    .label(done);
}

/** Ends the program with the frame on its way to the sleeve engine: from the peer in r7 to the one in `destination`. */
function redirectToSleeve(asm: Assembler, config: ProgramConfig, destination: Operand): void {
  asm
    .store("u16", FP, STACK.tag, R7)
    .store("u16", FP, STACK.tag + 2, destination)
    .mov(R1, R6)
    .mov(R2, { imm: TAG_LENGTH })
    .mov(R3, { imm: 0 })
    .call(SKB_CHANGE_HEAD)
    .jumpIf(R0, "ne", { imm: 0 }, "drop")
    .mov(R1, R6)
    .mov(R2, { imm: 0 });
  stackAddress(asm, R3, STACK.tag);
  asm
    .mov(R4, { imm: TAG_LENGTH })
    .mov(R5, { imm: 0 })
    .call(SKB_STORE_BYTES)
    .mov(R1, MARK)
    .store("u32", R6, SKB.mark, R1)
    .mov(R1, { imm: config.tap })
    .mov(R2, { imm: 0 })
    .call(REDIRECT)
    .exit();
}

/** Hands a copy of the frame to the bridge, as if it came in by its port. */
function acceptCopy(asm: Assembler, config: ProgramConfig): void {
  asm
    .mov(R1, ACCEPT)
    .store("u32", R6, SKB.mark, R1)
    .mov(R1, R6)
    .mov(R2, { imm: config.port })
    .mov(R3, BPF_F_INGRESS)
    .call(CLONE_REDIRECT);
}

/**
 * Ends the program with the frame at the bridge: one for this host, from the peer in r7, on the link of that ifindex. Where
 * its destination (at STACK.heartbeat) is not known to be local, others get it, too.
 */
function deliver(asm: Assembler, maps: DatapathMaps, config: ProgramConfig, link: number): void {
  lookup(asm, maps.macs.fd, STACK.heartbeat);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, "broadcast")
    .load("u32", R1, R0, MAC_VALUE.peer)
    .jumpIf(R1, "eq", { imm: config.self }, "accept")
    .label("broadcast");
  sendToHops(asm, maps, config, "broadcast-sleeve", link === config.port);
  asm.label("accept");
  if (link === config.port) {
    asm.mov(R0, TC_ACT_OK).exit();
  } else {
    asm
      .mov(R1, ACCEPT)
      .store("u32", R6, SKB.mark, R1)
      .mov(R1, { imm: config.port })
      .mov(R2, BPF_F_INGRESS)
      .call(REDIRECT)
      .exit();
  }
  asm.label("broadcast-sleeve");
  acceptCopy(asm, config);
  redirectToSleeve(asm, config, { imm: EVERYBODY });
}

/** Lets frames pass that a program has handed to the bridge. */
function passAccepted(asm: Assembler): void {
  asm
    .load("u32", R1, R6, SKB.mark)
    .jumpIf(R1, "ne", ACCEPT, "arrived")
    .mov(R1, { imm: 0 })
    .store("u32", R6, SKB.mark, R1)
    .mov(R0, TC_ACT_OK)
    .exit()
    .label("arrived");
}

/** The program for frames that leave the host. */
export function egressProgram(maps: DatapathMaps, config: ProgramConfig): Uint8Array {
  const asm = new Assembler();
  asm.mov(R6, R1).load("u32", R1, R6, SKB.mark).jumpIf(R1, "eq", MARK, "ours").mov(R7, { imm: config.self });
  loadFrame(asm, "drop");
  copyMac(asm, 6, STACK.mac);
  copyMac(asm, 0, STACK.key);
  learn(asm, maps, R7);
  lookup(asm, maps.macs.fd, STACK.key);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, "broadcast")
    .load("u32", R8, R0, MAC_VALUE.peer)
    // The bridge does not know it, but we do: it is local, and has had the frame from the bridge.
    .jumpIf(R8, "eq", R7, "drop");
  loadNextHop(asm, maps);
  asm.jumpIf32(R3, "eq", SLEEVE, "sleeve");
  asm.mov(R1, R8).alu("lsh", R1, { imm: SHORT_ID_BITS }).alu("or", R1, R7);
  setTunnel(asm, maps, R3);
  asm.mov(R0, TC_ACT_OK).exit();

  asm.label("sleeve");
  redirectToSleeve(asm, config, R8);

  asm.label("broadcast");
  sendToHops(asm, maps, config, "broadcast-sleeve");
  asm.label("drop").mov(R0, TC_ACT_SHOT).exit();

  asm.label("broadcast-sleeve");
  redirectToSleeve(asm, config, { imm: EVERYBODY });

  asm.label("ours").mov(R1, { imm: 0 }).store("u32", R6, SKB.mark, R1).mov(R0, TC_ACT_OK).exit();
  return asm.assemble();
}

/** The program for frames that arrive by VXLAN. */
export function ingressProgram(maps: DatapathMaps, config: ProgramConfig): Uint8Array {
  const asm = new Assembler();
  asm.mov(R6, R1);
  passAccepted(asm);
  asm.mov(R1, R6);
  stackAddress(asm, R2, STACK.tunnel);
  asm
    .mov(R3, { imm: TUNNEL_KEY.size })
    .mov(R4, { imm: 0 })
    .call(SKB_GET_TUNNEL_KEY)
    .jumpIf(R0, "ne", { imm: 0 }, "drop")
    .load("u32", R7, FP, STACK.tunnel + TUNNEL_KEY.id)
    .mov(R8, R7)
    .alu("rsh", R8, { imm: SHORT_ID_BITS })
    .alu("and", R8, SHORT_ID_MASK)
    .alu("and", R7, SHORT_ID_MASK)
    // A frame of ours that has come back.
    .jumpIf(R7, "eq", { imm: config.self }, "drop");
  loadFrame(asm, "drop");
  asm
    .load("u32", R3, R2, 0)
    .load("u32", R4, R2, 4)
    .load("u32", R5, R2, 8)
    .alu("or", R3, R4)
    .alu("or", R3, R5)
    .jumpIf(R3, "eq", { imm: 0 }, "heartbeat");
  copyMac(asm, 6, STACK.mac);
  copyMac(asm, 0, STACK.heartbeat);

  // Frames are taken from neighbours only; that one has come is a sign of life.
  asm.load("u32", R9, FP, STACK.tunnel + TUNNEL_KEY.remote).store("u32", FP, STACK.key, R9);
  lookup(asm, maps.neighbours.fd, STACK.key);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, "drop")
    .mov(R9, R0)
    .call(KTIME_GET_NS)
    .store("u64", R9, NEIGHBOUR_VALUE.seen, R0);
  asm.load("u32", R1, R6, SKB.len).atomicAdd(R9, NEIGHBOUR_VALUE.received, R1);
  asm.jumpIf(R8, "ne", { imm: config.self }, "relay");

  learn(asm, maps, R7);
  deliver(asm, maps, config, config.port);

  asm.label("relay");
  loadNextHop(asm, maps);
  asm
    .jumpIf32(R3, "eq", SLEEVE, "relay-sleeve")
    // Back to where it came from is never the way.
    .load("u32", R2, FP, STACK.tunnel + TUNNEL_KEY.remote)
    .jumpIf(R2, "eq", R3, "drop")
    .load("u32", R1, FP, STACK.tunnel + TUNNEL_KEY.id);
  setTunnel(asm, maps, R3);
  asm
    .mov(R1, MARK)
    .store("u32", R6, SKB.mark, R1)
    .mov(R1, { imm: config.port })
    .mov(R2, { imm: 0 })
    .call(REDIRECT)
    .exit();

  asm.label("relay-sleeve");
  redirectToSleeve(asm, config, R8);

  asm.label("heartbeat").store("u64", FP, STACK.heartbeat + HEARTBEAT_VALUE.size, { imm: 0 });
  loadBytes(asm, { imm: ETHERNET_HEADER }, HEARTBEAT_PAYLOAD, STACK.heartbeat, "drop");
  asm
    .load("u32", R1, R6, SKB.len)
    .store("u32", FP, STACK.heartbeat + HEARTBEAT_VALUE.length, R1)
    .load("u32", R1, FP, STACK.tunnel + TUNNEL_KEY.remote)
    .store("u64", FP, STACK.heartbeat + HEARTBEAT_VALUE.sender, R1)
    .call(KTIME_GET_NS)
    .store("u64", FP, STACK.heartbeat + HEARTBEAT_VALUE.at, R0)
    .store("u32", FP, STACK.key, R7);
  update(asm, maps.heartbeats.fd, STACK.key, STACK.heartbeat);

  asm.label("drop").mov(R0, TC_ACT_SHOT).exit();
  return asm.assemble();
}

/** The program for frames that the sleeve engine hands over. */
export function tapProgram(maps: DatapathMaps, config: ProgramConfig): Uint8Array {
  const asm = new Assembler();
  asm.mov(R6, R1);
  passAccepted(asm);
  loadFrame(asm, "drop");
  copyMac(asm, 6, STACK.mac);
  copyMac(asm, 0, STACK.heartbeat);
  lookup(asm, maps.macs.fd, STACK.mac);
  asm
    .jumpIf(R0, "eq", { imm: 0 }, "drop")
    .load("u32", R7, R0, MAC_VALUE.peer)
    .jumpIf(R7, "eq", { imm: config.self }, "drop");
  deliver(asm, maps, config, config.tap);
  asm.label("drop").mov(R0, TC_ACT_SHOT).exit();
  return asm.assemble();
}
