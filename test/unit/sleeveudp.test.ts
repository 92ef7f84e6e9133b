// Datagrams through the kernel, many per call: each arrives as it was sent, and in order, whatever runs they make.
import { expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { type DatagramBatch, MODE } from "../../lib/overlay/sleeve/batch.ts";
import { Counters } from "../../lib/overlay/sleeve/counters.ts";
import type { Link } from "../../lib/overlay/sleeve/link.ts";
import { openSleeveSocket } from "../../lib/overlay/sleeve/socket.ts";
import { UdpSocket } from "../../lib/overlay/sleeve/udp.ts";
import { Arena } from "../../lib/sys/arena.ts";
import { fc } from "../support/fastcheck.ts";
import { enterNewNetns, isRoot } from "../support/newnetns.ts";

const LOOPBACK = 0x7f000001;
const PORTS = [6783, 7783];
const ROOM = 2_048;

test.if(isRoot)("datagrams of any lengths to two peers arrive as they were sent", () => {
  const leave = enterNewNetns();
  const arena = new Arena(8 << 20);
  const counters = new Counters();
  const sockets = [5783, ...PORTS].map((port) => {
    const fd = openSleeveSocket(LOOPBACK as never, port);
    return { fd, udp: new UdpSocket(arena, counters, fd, () => expect.unreachable()) };
  });
  const [from, ...peers] = sockets;
  const space = arena.reserve(200 * ROOM);
  const links = PORTS.map((port, index) => ({
    params: { index },
    settings: { local: 0, remote: { address: LOOPBACK, port } },
  })) as unknown as Link[];
  const datagram = fc.record({
    to: fc.constantFrom(0, 0, 0, 1),
    // Full ones are most, as in a run of segments, of which the last is shorter.
    length: fc.oneof(fc.constant(1_400), fc.constant(1_400), fc.integer({ min: 1, max: 1_400 })),
    mode: fc.constantFrom(MODE.df, MODE.df, MODE.df, MODE.probe, MODE.fragment),
  });
  try {
    fc.assert(
      fc.property(fc.array(datagram, { minLength: 1, maxLength: 150 }), (datagrams) => {
        for (const [i, { length }] of datagrams.entries()) {
          const at = space + i * ROOM;
          arena.bytes.fill(i, at, at + length);
        }
        from?.udp.send({
          count: datagrams.length,
          links: datagrams.map(({ to }) => links[to]),
          at: datagrams.map((_, i) => space + i * ROOM),
          lengths: datagrams.map(({ length }) => length),
          mode: datagrams.map(({ mode }) => mode),
        } as unknown as DatagramBatch);
        for (const [to, peer] of peers.entries()) {
          const got: (readonly [length: number, contents: number[]])[] = [];
          const take = (at: number, length: number) =>
            got.push([length, [...new Set(arena.bytes.subarray(at, at + length))]]);
          while (peer.udp.receive(take) > 0);
          expect(got).toEqual(
            datagrams.flatMap(({ to: wanted, length }, i) => (wanted === to ? [[length, [i]] as const] : [])),
          );
        }
      }),
    );
    expect(counters.all()).toMatchObject({ unsent: 0, malformed: 0 });
  } finally {
    for (const { fd } of sockets) closeSync(fd);
    leave();
  }
});
