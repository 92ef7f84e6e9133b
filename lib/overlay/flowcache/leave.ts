// The fast path of what a container sends, in front of the program of its port: to another host with headers that the kernel wrote
// for the flow before, or into another container of this host.
import {
  type Assembler,
  FP,
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
import { lookup, setMark } from "../../bpf/emit.ts";
import { BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM, SKB } from "../../bpf/skbuff.ts";
import { NEIGHBOUR_VALUE } from "../datapath/maps.ts";
import { setTunnelKey } from "../datapath/programs/emit.ts";
import { SENT } from "../datapath/programs/layout.ts";
import {
  countPacket,
  type FlowProgramMaps,
  loadFlow,
  loadPacket,
  loadPort,
  requireEthernet,
  requireFresh,
  STACK,
} from "./flow.ts";
import { HEADERS, OUT, WAY } from "./maps.ts";

const ENCAPSULATE =
  BPF_F_ADJ_ROOM.FIXED_GSO |
  BPF_F_ADJ_ROOM.ENCAP_L3_IPV4 |
  BPF_F_ADJ_ROOM.ENCAP_L4_UDP |
  BPF_F_ADJ_ROOM.ENCAP_L2_ETH;

const IP = HEADERS.ethernet;
const UDP = IP + 20;
/** ECN: congestion experienced; as the outer header of such packets has it (RFC 6040, and the kernel: INET_ECN_encapsulate). */
const CE = { imm: 3 };
const ECT_0 = { imm: 2 };

/** Send the packet by the fast path, or go on behind this code, with the packet as it was. `neighbours` counts bytes. */
export function leaveFast(asm: Assembler, maps: FlowProgramMaps, neighbours: { readonly fd: number }): void {
  const [slow, direct, tunnel, drop] = ["slow", "direct", "tunnel", "drop"].map((name) =>
    asm.unique(`leave-${name}`),
  ) as [string, string, string, string];
  asm
    // The next router finds all maps by this program.
    .loadMap(R1, maps.in.fd)
    .load("u32", R1, R6, SKB.vlan_present)
    .jumpIf(R1, "ne", { imm: 0 }, slow);
  loadPacket(asm, HEADERS.ethernet, slow);
  loadFlow(asm, 0, slow);
  lookup(asm, maps.out.fd, STACK.flow);
  asm.jumpIf(R0, "eq", { imm: 0 }, slow).mov(R7, R0);
  requireFresh(asm, maps, R7, OUT, slow);
  asm.load("u32", R1, R7, OUT.limit).jumpIf(R9, "gt", R1, slow);
  loadPacket(asm, HEADERS.ethernet, slow);
  requireEthernet(asm, 0, R7, OUT.ethernet, slow);
  asm.load("u32", R1, R6, SKB.ifindex).load("u32", R2, R7, OUT.port).jumpIf(R1, "ne", R2, slow);
  loadPort(asm, maps, slow);
  asm
    .mov(R8, R0)
    .load("u32", R1, R7, OUT.way)
    .jumpIf(R1, "eq", { imm: WAY.direct }, direct)
    .jumpIf(R1, "eq", { imm: WAY.vxlan }, tunnel);

  asm.load("u32", R1, R7, OUT.link);
  loadPort(asm, maps, slow);
  asm.load("u32", R1, R6, SKB.len);
  countPacket(asm, R0, "received");
  countPacket(asm, R8, "sent");
  asm.load("u32", R1, R7, OUT.link).mov(R2, { imm: 0 }).call("redirect_peer").exit();

  asm.label(direct).load("u32", R1, R7, OUT.remote).store("u32", FP, STACK.key, R1);
  lookup(asm, neighbours.fd, STACK.key);
  asm.jumpIf(R0, "eq", { imm: 0 }, slow).mov(R9, R0);
  addHeaders(asm, slow, drop);
  // r1: bytes of the frame of the container.
  asm
    .load("u32", R1, R6, SKB.len)
    .alu("sub", R1, { imm: HEADERS.outer })
    .atomicAdd(R9, NEIGHBOUR_VALUE.sent, R1);
  countPacket(asm, R8, "sent");
  asm.load("u32", R1, R7, OUT.link).mov(R2, { imm: 0 }).call("redirect").exit();

  asm.label(tunnel).load("u32", R1, R6, SKB.len);
  countPacket(asm, R8, "sent");
  asm.load("u32", R1, R7, OUT.identifier).load("u32", R3, R7, OUT.remote);
  setTunnelKey(asm, { neighbours }, R3);
  setMark(asm, SENT);
  asm.load("u32", R1, R7, OUT.link).mov(R2, { imm: 0 }).call("redirect").exit();

  asm.label(drop).mov(R0, { imm: 2 }).exit();
  asm.label(slow);
}

/** `register` = the flags of skb_adjust_room for the outer headers. */
export function encapsulation(asm: Assembler, register: Register): void {
  asm
    .mov(register, { imm: HEADERS.ethernet })
    .alu("lsh", register, { imm: BPF_F_ADJ_ROOM.ENCAP_L2_SHIFT })
    .alu("or", register, { imm: ENCAPSULATE });
}

/** Put the headers of the entry in r7 in front of the packet. Jumps to `slow` where the kernel refuses, with the packet as it was. */
function addHeaders(asm: Assembler, slow: string, drop: string): void {
  const marked = asm.unique("leave-ecn");
  asm.mov(R1, R6).mov(R2, { imm: HEADERS.outer }).mov(R3, BPF_ADJ_ROOM_MAC);
  encapsulation(asm, R4);
  asm.mov(R5, { imm: 0 }).call("skb_adjust_room").jumpIf(R0, "ne", { imm: 0 }, slow);
  loadPacket(asm, HEADERS.all + 20, drop);
  for (let i = 0; i < HEADERS.all; i += 8) asm.load("u64", R1, R7, OUT.headers + i).store("u64", R2, i, R1);
  asm
    // The length of the IP packet, and of the UDP datagram in it.
    .load("u32", R1, R6, SKB.len)
    .alu("sub", R1, { imm: IP })
    .mov(R3, R1)
    .bigEndian(R3, 16)
    .store("u16", R2, IP + 2, R3)
    .alu("sub", R1, { imm: 20 })
    .bigEndian(R1, 16)
    .store("u16", R2, UDP + 4, R1)
    // ECN of the packet; the rest of its TOS stays inside, as in the slow path.
    .load("u8", R4, R2, HEADERS.all + 1)
    .alu("and", R4, CE)
    .jumpIf(R4, "ne", CE, marked)
    .mov(R4, ECT_0)
    .label(marked)
    .store("u8", R2, IP + 1, R4)
    .alu("lsh", R4, { imm: 8 })
    // The checksum (RFC 1071), of words in the order of this host.
    .load("u32", R1, R7, OUT.sum)
    .add(R1, R3)
    .add(R1, R4);
  for (let i = 0; i < 2; i++)
    asm.mov(R3, R1).alu("rsh", R3, { imm: 16 }).alu("and", R1, { imm: 0xffff }).add(R1, R3);
  asm
    .mov(R3, { imm: 0xffff })
    .alu("sub", R3, R1)
    .store("u16", R2, IP + 10, R3);
}
