// The fast path for packets that a container sends, in front of the program of its port: to another host with outer headers that the
// kernel wrote for an earlier packet of the flow, or into another container of this host.
import { type Assembler, FP, R0, R1, R2, R3, R6, R7, R8, R9 } from "../../bpf/assembler.ts";
import { lookup, setMark, verdict } from "../../bpf/emit.ts";
import { SKB, TC_ACT } from "../../bpf/skbuff.ts";
import { NEIGHBOUR_VALUE } from "../datapath/maps.ts";
import { setTunnelKey } from "../datapath/programs/emit.ts";
import { SENT } from "../datapath/programs/layout.ts";
import { completeHeaders, makeRoom } from "./encapsulate.ts";
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
import { HEADERS, OUT, PATH } from "./maps.ts";

/** Send the packet by the fast path, or fall through with the packet unchanged. `neighbours` counts bytes. */
export function leaveFast(asm: Assembler, maps: FlowProgramMaps, neighbours: { readonly fd: number }): void {
  const [slow, direct, tunnel, drop] = ["slow", "direct", "tunnel", "drop"].map((name) =>
    asm.unique(`leave-${name}`),
  ) as [string, string, string, string];
  asm
    // The next router finds all maps by this program.
    .loadMap(R1, maps.in.fd)
    .loadMap(R1, maps.to.fd)
    .loadMap(R1, maps.from.fd)
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
    .load("u32", R1, R7, OUT.path)
    .jumpIf(R1, "eq", { imm: PATH.direct }, direct)
    .jumpIf(R1, "eq", { imm: PATH.vxlan }, tunnel);

  asm.load("u32", R1, R7, OUT.link);
  loadPort(asm, maps, slow);
  asm.load("u32", R1, R6, SKB.len);
  countPacket(asm, R0, "received");
  countPacket(asm, R8, "sent");
  asm.load("u32", R1, R7, OUT.link).mov(R2, { imm: 0 }).call("redirect_peer").exit();

  asm.label(direct).load("u32", R1, R7, OUT.remote).store("u32", FP, STACK.key, R1);
  lookup(asm, neighbours.fd, STACK.key);
  asm.jumpIf(R0, "eq", { imm: 0 }, slow).mov(R9, R0);
  makeRoom(asm, slow, drop);
  for (let i = 0; i < HEADERS.all; i += 8) asm.load("u64", R1, R7, OUT.headers + i).store("u64", R2, i, R1);
  completeHeaders(asm, R7);
  // r1: bytes of the inner frame.
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

  verdict(asm.label(drop), TC_ACT.SHOT);
  asm.label(slow);
}
