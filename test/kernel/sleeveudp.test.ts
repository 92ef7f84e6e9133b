// Datagrams through the kernel, many per call: each arrives as it was sent, and in order, whatever runs they make.
import { describe, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { type DatagramBatch, MODE } from "../../lib/overlay/sleeve/batch.ts";
import { Counters } from "../../lib/overlay/sleeve/counters.ts";
import type { Link } from "../../lib/overlay/sleeve/link.ts";
import { openSleeveSocket } from "../../lib/overlay/sleeve/socket.ts";
import { UdpSocket } from "../../lib/overlay/sleeve/udp.ts";
import { Arena } from "../../lib/sys/arena.ts";
import { EAGAIN, EIO } from "../../lib/sys/errno.ts";
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

describe("a kernel that refuses", () => {
  const LENGTH = 1_400;
  const MSG_DONTWAIT = 0x40;

  /** A socket of a kernel that answers each message, by its number of datagrams, with 0 or an errno. */
  function scripted(answer: (datagrams: number) => number) {
    const arena = new Arena(8 << 20);
    const counters = new Counters();
    const sent: number[] = [];
    const asked: { readonly datagrams: number; readonly flags: number }[] = [];
    let errno = 0;
    const kernel = {
      errno: () => errno,
      call(
        _number: number | bigint,
        _fd: unknown,
        address: number | bigint,
        _count: unknown,
        flags: unknown,
      ) {
        const message = Number(address) - arena.address;
        const datagrams = arena.view.getUint32(message + 24, true);
        asked.push({ datagrams, flags: Number(flags) });
        errno = answer(datagrams);
        if (errno !== 0) return -1;
        let iovec = Number(arena.view.getBigUint64(message + 16, true)) - arena.address;
        for (let i = 0; i < datagrams; i++, iovec += 16)
          sent.push(Number(arena.view.getBigUint64(iovec, true)) - arena.address);
        return 1;
      },
    };
    const fd = openSleeveSocket(LOOPBACK as never, 0);
    const udp = new UdpSocket(arena, counters, fd, () => expect.unreachable(), kernel as never);
    const links = [0, 1].map((index) => ({
      params: { index },
      settings: { local: 0, remote: { address: LOOPBACK, port: 6783 } },
    })) as unknown as Link[];
    /** Send that many datagrams by a link; return the places of those that the kernel took. */
    const send = (link: number, count: number) => {
      udp.send({
        count,
        links: Array(count).fill(links[link]),
        at: Array.from({ length: count }, (_, i) => i * ROOM),
        lengths: Array(count).fill(LENGTH),
        mode: Array(count).fill(MODE.df),
      } as unknown as DatagramBatch);
      return { took: sent.splice(0), asked: asked.splice(0) };
    };
    return { send, counters, close: () => closeSync(fd) };
  }
  const places = (count: number) => Array.from({ length: count }, (_, i) => i * ROOM);

  test("to cut messages on one path gets each datagram of that path singly, and none is lost", () => {
    const { send, counters, close } = scripted((datagrams) => (datagrams > 1 ? EIO : 0));
    try {
      for (const link of [0, 1, 0]) expect(send(link, 100).took).toEqual(places(100));
      // Not asked again.
      expect(send(0, 100).asked.every(({ datagrams }) => datagrams === 1)).toBe(true);
      expect(counters.all()).toMatchObject({ unsent: 0 });
      expect(counters.refusal(0)).toBe(0);
    } finally {
      close();
    }
  });

  test("single datagrams with the same error loses them, and says so", () => {
    const { send, counters, close } = scripted(() => EIO);
    try {
      expect(send(0, 3).took).toEqual([]);
      expect(counters.all()).toMatchObject({ unsent: 3 });
      expect(counters.refusal(0)).toBe(EIO);
    } finally {
      close();
    }
  });

  test("to queue more holds a batch up once, not for each of its messages", () => {
    const { send, counters, close } = scripted(() => EAGAIN);
    try {
      for (let batch = 1; batch <= 2; batch++) {
        const { asked } = send(0, 200);
        expect(asked.length).toBeGreaterThan(3);
        expect(asked.map(({ flags }) => flags)).toEqual(asked.map((_, i) => (i === 0 ? 0 : MSG_DONTWAIT)));
        expect(counters.all()).toMatchObject({ unsent: batch * 200 });
      }
    } finally {
      close();
    }
  });
});
