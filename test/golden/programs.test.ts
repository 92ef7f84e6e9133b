// The bytes of the eBPF programs, as a count of instructions and a digest: a change in how they are written leaves them
// alone; a change in what they do comes with new digests here, after the namespace tests have passed.
import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import type { PortMaps } from "../../lib/host/ports/maps.ts";
import { portProgram } from "../../lib/host/ports/program.ts";
import { MAC_VALUE } from "../../lib/overlay/datapath/maps.ts";
import { egressProgram } from "../../lib/overlay/datapath/programs/egress.ts";
import { ingressProgram } from "../../lib/overlay/datapath/programs/ingress.ts";
import { tapProgram } from "../../lib/overlay/datapath/programs/tap.ts";
import { arrivalProgram } from "../../lib/overlay/flowcache/arrival.ts";
import { confirmProgram } from "../../lib/overlay/flowcache/confirm.ts";
import { departureProgram } from "../../lib/overlay/flowcache/departure.ts";
import { leaveFast } from "../../lib/overlay/flowcache/leave.ts";

const maps = {
  macs: { fd: 11 },
  routes: { fd: 12 },
  hops: { fd: 13 },
  neighbours: { fd: 14 },
  heartbeats: { fd: 15 },
};
const portMaps = { ports: { fd: 21 }, seen: { fd: 22 }, bindings: { fd: 23 } } as unknown as PortMaps;

const CONFIGS = [
  { self: 0, port: 5, tap: 6 },
  { self: 1, port: 7, tap: 6 },
  { self: 4095, port: 65_537, tap: 2 },
  // No fast datapath: the TAP link is the port.
  { self: 77, port: 9, tap: 9 },
];

const digest = (bytes: Uint8Array) =>
  `${bytes.length / 8} ${createHash("sha256").update(bytes).digest("hex").slice(0, 16)}`;

test("the datapath's programs are what they were", () => {
  const found = CONFIGS.map((config) => ({
    egress: digest(egressProgram(maps, config)),
    ingress: digest(ingressProgram(maps, config)),
    tap: digest(tapProgram(maps, config)),
  }));
  expect(found).toEqual([
    { egress: "191 6eca843918d1c6cc", ingress: "286 9dcc7091c539e202", tap: "130 22c21eb5434ff4f5" },
    { egress: "191 259d7fd12a7b3d07", ingress: "286 9374077e9daa65cc", tap: "130 f5d947a8e73844d6" },
    { egress: "191 ca904817c304f3d9", ingress: "286 b031bc862b66bdf8", tap: "130 5d0c7dcb4d6afa7b" },
    { egress: "191 fd1ce906708b5089", ingress: "286 385b7197251102bb", tap: "130 a9559c8fd588961e" },
  ]);
});

test("the same with callbacks are what they were", () => {
  const config = { self: 1, port: 7, tap: 6, callbacks: true };
  expect({
    egress: digest(egressProgram(maps, config)),
    ingress: digest(ingressProgram(maps, config)),
    tap: digest(tapProgram(maps, config)),
  }).toEqual({
    egress: "204 a1d8da8420f0ccc6",
    ingress: "299 a348de1d284f8d2d",
    tap: "143 820ab4b197825cfd",
  });
});

const flow = {
  control: { fd: 31 },
  ports: { fd: 32 },
  out: { fd: 33 },
  in: { fd: 34 },
  to: { fd: 35 },
  from: { fd: 36 },
};

test("the flow cache's programs are what they were", () => {
  const config = { self: 1, port: 7, tap: 6, flow };
  const { peer: peerAt, seen: timeAt } = MAC_VALUE;
  const port = portProgram(portMaps, { fd: 11, peerAt, timeAt, self: 1 }, false, (asm) =>
    leaveFast(asm, flow, maps.neighbours),
  );
  expect({
    egress: digest(egressProgram(maps, config)),
    ingress: digest(ingressProgram(maps, config)),
    port: digest(port.instructions),
    arrival: digest(arrivalProgram(flow, maps, { port: 6784, self: 1 })),
    departure: digest(departureProgram(flow, 6784)),
    confirm: digest(confirmProgram(flow)),
  }).toEqual({
    egress: "521 a4bef64571e7c9bf",
    ingress: "325 cc68ca13953c4229",
    port: "451 731dcb1d030df0a8",
    arrival: "846 a34b254216d802b5",
    departure: "219 489536ee6a98fba9",
    confirm: "264 fbcb7951bff26158",
  });
});

test("the programs of the bridge's ports are what they were", () => {
  const { peer: peerAt, seen: timeAt } = MAC_VALUE;
  const found = [0, 4095].map((self) => {
    const remote = { fd: 11, peerAt, timeAt, self };
    return [false, true].map((strict) => digest(portProgram(portMaps, remote, strict).instructions));
  });
  expect(found).toEqual([
    ["215 2c4be0091bb171d8", "827 a5cbadeed239fe6b"],
    ["215 eca6fd0f6b684008", "827 2b7a8754fd8511fc"],
  ]);
});
