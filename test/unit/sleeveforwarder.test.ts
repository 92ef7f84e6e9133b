// A forwarder of sleeve, and the messages between it and the engine.
import { describe, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { every } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { MINIMUM_MTU } from "../../lib/overlay/pathmtu.ts";
import {
  CONTROL,
  FRAGMENT_TEST_SIZE,
  HEARTBEAT_SIZE,
  mtuTestSize,
  overhead,
} from "../../lib/overlay/sleeve/format.ts";
import { SleeveForwarder } from "../../lib/overlay/sleeve/forwarder.ts";
import type { LinkSettings } from "../../lib/overlay/sleeve/link.ts";
import type { ToEngine } from "../../lib/overlay/sleeve/messages.ts";
import { queueForEngine } from "../../lib/overlay/sleeve/queue.ts";
import { Arena } from "../../lib/sys/arena.ts";
import { closePipe, MessageReader, MessageWriter, openPipe, readMessages } from "../../lib/sys/pipe.ts";
import { PolledFiles } from "../../lib/sys/poll.ts";
import { bytesOf } from "../support/sleevepair.ts";

describe("a forwarder of sleeve", () => {
  const REMOTE = { address: 0x0a630002, port: 6783 };

  function forwarder(outbound = true, uid = 7n) {
    const clock = new SimulatedClock(1000);
    const seen = {
      specials: [] as [boolean, number, bigint | undefined][],
      control: [] as [number, string][],
      settings: [] as LinkSettings[],
      health: [] as (string | undefined)[],
      established: 0,
      heard: 0,
      carried: 0,
      preferred: true,
      /** Errno. */
      refusal: 0,
    };
    const subject = new SleeveForwarder({
      clock,
      connectionUid: uid,
      cipher: undefined,
      remote: outbound ? REMOTE : undefined,
      local: 0x0a630001,
      port: 6783,
      sendSpecial: (df, size, uid) => seen.specials.push([df, size, uid]),
      sendControl: (tag, message) => seen.control.push([tag, message.toHex()]),
      established: () => seen.established++,
      health: (trouble) => seen.health.push(trouble?.reason),
      changed: (settings) => seen.settings.push(settings),
      log: () => {},
      preferred: () => seen.preferred,
      outgrown: () => {},
      heard: () => seen.heard,
      carried: () => seen.carried,
      frames: () => ({ received: 0, sent: 0 }),
      refusal: () => seen.refusal,
    });
    every(clock, 500, () => subject.tick());
    const heartbeat = { length: HEARTBEAT_SIZE, from: REMOTE, uid: 7n, zeros: false };
    const sizes = () => seen.specials.splice(0).map(([, size]) => size);
    return { clock, seen, subject, heartbeat, sizes };
  }

  test("the end that connected speaks first; the other waits until it knows where to", () => {
    const connecting = forwarder();
    connecting.subject.confirm();
    expect(connecting.seen.specials).toEqual([[true, HEARTBEAT_SIZE, 7n]]);
    const accepting = forwarder(false);
    accepting.subject.confirm();
    accepting.clock.advance(3000);
    expect(accepting.seen.specials).toEqual([]);
    expect(accepting.subject.usable).toBe(false);
    expect(accepting.subject.remotePort).toBeUndefined();
    accepting.subject.special(accepting.heartbeat);
    expect(accepting.subject.remotePort).toBe(REMOTE.port);
    expect(accepting.seen.specials).toEqual([[true, HEARTBEAT_SIZE, 7n]]);
    expect(accepting.seen.control).toEqual([[CONTROL.established, ""]]);
    expect(accepting.subject.usable).toBe(true);
    expect(accepting.seen.settings.at(-1)?.remote).toEqual(REMOTE);
  });

  test("once heartbeats arrive: established, and fragments and the MTU are tried", () => {
    const { subject, seen, clock, sizes } = forwarder();
    subject.confirm();
    clock.advance(2000);
    expect(sizes()).toEqual(Array(6).fill(HEARTBEAT_SIZE));
    subject.control(CONTROL.established, new Uint8Array());
    subject.control(CONTROL.established, new Uint8Array());
    expect(seen.established).toBe(1);
    expect(sizes()).toEqual([60_000]);
    clock.advance(300);
    expect(sizes()).toEqual([FRAGMENT_TEST_SIZE, 60_000]);
    subject.control(CONTROL.fragmentsReceived, new Uint8Array());
    expect(seen.settings.at(-1)?.fragments).toBe(true);
    subject.tooBig(1500);
    expect(subject.attributes()).toMatchObject({ mtu: 1500 - overhead() });
    expect(sizes()).toEqual([mtuTestSize(1438)]);
    expect(subject.pathMtu).toBeUndefined();
    const before = seen.settings.length;
    subject.control(CONTROL.mtuVerified, Uint8Array.of(1438 >> 8, 1438 & 0xff));
    subject.control(CONTROL.mtuVerified, Uint8Array.of(5));
    expect(subject.attributes()).toEqual({ name: "sleeve", mtu: 1438 });
    expect([subject.pathMtu, seen.settings.length > before]).toEqual([1438, true]);
  });

  test("a path that no frames take is tested later; at once when they do, or the other path is in doubt", () => {
    const [quiet, used, doubted] = [
      forwarder(true, 12_000n),
      forwarder(true, 12_000n),
      forwarder(true, 12_000n),
    ];
    for (const { subject, seen, sizes, clock } of [quiet, used, doubted]) {
      seen.preferred = false;
      subject.confirm();
      subject.control(CONTROL.established, new Uint8Array());
      clock.advance(2_000);
      expect(sizes()).not.toContain(FRAGMENT_TEST_SIZE);
    }
    used.seen.carried++;
    used.clock.advance(500);
    expect(used.sizes()).toContain(FRAGMENT_TEST_SIZE);
    doubted.subject.suspect();
    expect(doubted.sizes()).toContain(FRAGMENT_TEST_SIZE);
    quiet.clock.advance(10_000);
    expect(quiet.sizes()).not.toContain(FRAGMENT_TEST_SIZE);
    quiet.clock.advance(500);
    expect(quiet.sizes()).toContain(FRAGMENT_TEST_SIZE);
  });

  test("a path that takes less before it is tested is known to have taken more, and tried for that", () => {
    const { subject, seen, sizes, clock } = forwarder(true, 20_000n);
    seen.preferred = false;
    subject.confirm();
    subject.control(CONTROL.established, new Uint8Array());
    subject.tooBig(1500);
    clock.advance(5_000);
    expect(sizes()).not.toContain(mtuTestSize(1438));
    subject.suspect();
    subject.tooBig(1400);
    subject.control(CONTROL.mtuVerified, Uint8Array.of(1338 >> 8, 1338 & 0xff));
    expect(subject.attributes()).toEqual({ name: "sleeve", mtu: 1338 });
    sizes();
    clock.advance(60_000);
    expect(sizes()).toContain(mtuTestSize(1438));
  });

  test("a peer that says nothing is busy: it is asked, at intervals that grow, and its answers count late", () => {
    const { subject, seen, clock, sizes } = forwarder();
    subject.confirm();
    clock.advance(1_100);
    subject.control(CONTROL.established, new Uint8Array());
    clock.advance(400);
    sizes();
    subject.tooBig(1500);
    clock.advance(15_000);
    const tests = sizes().filter((size) => size !== HEARTBEAT_SIZE);
    expect(tests).toEqual([mtuTestSize(1438), ...Array(9).fill(mtuTestSize(MINIMUM_MTU - 1))]);
    subject.control(CONTROL.mtuVerified, Uint8Array.of(1438 >> 8, 1438 & 0xff));
    expect(seen.settings.at(-1)?.mtu).toBe(1438);
    clock.advance(2_000);
    expect(sizes().filter((size) => size !== HEARTBEAT_SIZE)).toEqual([]);
  });

  test("answers the tests of the peer", () => {
    const { subject, seen, heartbeat } = forwarder();
    subject.confirm();
    subject.special({ ...heartbeat, length: FRAGMENT_TEST_SIZE, zeros: true });
    subject.special({ ...heartbeat, length: mtuTestSize(1438), zeros: true });
    subject.special({ ...heartbeat, length: FRAGMENT_TEST_SIZE, zeros: false });
    subject.special({ ...heartbeat, uid: 8n });
    expect(seen.control).toEqual([
      [CONTROL.fragmentsReceived, ""],
      [CONTROL.mtuVerified, "059e"],
    ]);
  });

  test("follows a peer whose address changes, behind NAT or on the move", () => {
    const { subject, seen, heartbeat } = forwarder();
    subject.confirm();
    const moved = { address: 0x0a630009, port: 40_000 };
    subject.special({ ...heartbeat, from: moved });
    expect(seen.settings.at(-1)?.remote).toEqual(moved);
  });

  test("a path that takes less than before, in silence, is noticed", () => {
    const { subject, seen, clock } = forwarder();
    let real = 1438;
    const answer = () => {
      for (const [, size] of seen.specials.splice(0)) {
        if (size === HEARTBEAT_SIZE || size - 14 > real) continue;
        subject.control(CONTROL.mtuVerified, Uint8Array.of((size - 14) >> 8, (size - 14) & 0xff));
      }
    };
    const pass = (ms: number) => {
      for (let i = 0; i < ms; i += 10) {
        clock.advance(10);
        seen.heard = clock.now();
        seen.carried = clock.now();
        answer();
      }
    };
    subject.confirm();
    subject.control(CONTROL.established, new Uint8Array());
    seen.specials.length = 0;
    subject.tooBig(1500);
    pass(1000);
    expect(subject.attributes()).toMatchObject({ mtu: 1438 });
    real = 1218;
    pass(8_000);
    expect(subject.attributes()).toMatchObject({ mtu: 1218 });
    pass(60_000);
    expect(subject.attributes()).toMatchObject({ mtu: 1218 });
    expect(seen.health).toEqual([]);
  });

  test("datagrams that our own kernel refuses are trouble within seconds, and over with the first that it takes", () => {
    const { subject, seen, clock } = forwarder();
    subject.confirm();
    subject.control(CONTROL.established, new Uint8Array());
    seen.refusal = 1;
    clock.advance(1_000);
    seen.refusal = 0;
    clock.advance(5_000);
    expect(seen.health).toEqual([]);
    seen.refusal = 1;
    clock.advance(3_000);
    expect(seen.health).toEqual([
      expect.stringMatching(/^datagrams cannot be sent: EPERM; a firewall .*UDP 6783/),
    ]);
    expect(subject.hurried).toBe(true);
    seen.refusal = 0;
    clock.advance(1_000);
    expect(seen.health).toEqual([expect.anything(), undefined]);
    expect(subject.hurried).toBe(false);
  });

  test("a minute of silence is trouble, and over with the first sign of life", () => {
    const { subject, seen, clock } = forwarder();
    subject.confirm();
    clock.advance(60_000);
    expect(seen.health).toEqual([]);
    clock.advance(1_000);
    expect(seen.health).toEqual([expect.stringContaining("UDP 6783")]);
    seen.heard = clock.now();
    clock.advance(1_000);
    expect(seen.health).toEqual([expect.anything(), undefined]);
  });

  test("a path on which only the peer's datagrams arrive is trouble after a minute, if frames go by it", () => {
    const oneWay = (preferred: boolean, alive: boolean) => {
      const { subject, seen, clock, heartbeat } = forwarder();
      seen.preferred = preferred;
      every(clock, 10_000, () => {
        seen.heard = clock.now();
        if (alive) subject.special(heartbeat);
      });
      subject.confirm();
      subject.control(CONTROL.established, new Uint8Array());
      clock.advance(1_000);
      subject.tooBig(1500);
      subject.control(CONTROL.mtuVerified, Uint8Array.of(1438 >> 8, 1438 & 0xff));
      clock.advance(60_000);
      expect(seen.health).toEqual([]);
      clock.advance(60_000);
      return { subject, seen, clock };
    };
    const { subject, seen, clock } = oneWay(true, true);
    const trouble = "nothing arrives at the peer any more: is UDP 6783 blocked?";
    expect(seen.health).toEqual([trouble]);
    subject.control(CONTROL.mtuVerified, Uint8Array.of(1438 >> 8, 1438 & 0xff));
    clock.advance(1_000);
    expect(seen.health).toEqual([trouble, undefined]);
    expect(oneWay(false, true).seen.health).toEqual([]);
    // A router that hangs, while its engine forwards.
    expect(oneWay(true, false).seen.health).toEqual([]);
  });
});

describe("messages that wait for the engine", () => {
  test("are few for each link, however long it takes none", () => {
    const waiting: ToEngine[] = [];
    const settings = { remote: undefined, local: 0, mtu: 1438, fragments: false };
    const params = { kind: "sleeve", peer: 2, name: bytesOf(2), key: undefined, outbound: true } as const;
    const tables = { self: 1, names: new Map(), next: new Map(), nextBySleeve: new Map() };
    for (let i = 0; i < 2_000; i++) {
      const index = i % 100;
      queueForEngine(waiting, { type: "remove", index });
      queueForEngine(waiting, { type: "add", params: { ...params, index } });
      queueForEngine(waiting, { type: "set", index, settings });
      queueForEngine(waiting, { type: "set", index, settings: { ...settings, mtu: i } });
      queueForEngine(waiting, { type: "special", index, df: true, size: 22, uid: 7n, probe: false });
      queueForEngine(waiting, {
        type: "tables",
        tables: { ...tables, broadcast: new Map(), origins: new Map() },
      });
      queueForEngine(waiting, { type: "tapRestored" });
    }
    expect(waiting.length).toBeLessThanOrEqual(4 * 100 + 2);
    const ofOne = waiting.filter((each) => ("index" in each ? each.index : undefined) === 7);
    expect(ofOne.map(({ type }) => type)).toEqual(["remove", "set", "special"]);
    expect(waiting.filter(({ type }) => type === "add").length).toBe(100);
  });

  test("one that nobody reads does not hold up who writes it", () => {
    const pipe = openPipe();
    try {
      const writer = new MessageWriter(pipe.writeFd);
      const message = { bytes: new Uint8Array(1 << 20).fill(7) };
      writer.write(message);
      expect(writer.backlog).toBeGreaterThan(900_000);
      const reader = new MessageReader();
      const buffer = new Uint8Array(65_536);
      const read: unknown[] = [];
      while (read.length === 0) {
        read.push(...readMessages(pipe.readFd, reader, buffer));
        writer.flush();
      }
      expect(writer.backlog).toBe(0);
      expect(read).toEqual([message]);
    } finally {
      closePipe(pipe);
    }
  });
});

test("a file whose other end is gone is waited for no more until it is resumed", () => {
  const { readFd, writeFd } = openPipe();
  try {
    closeSync(readFd);
    const files = new PolledFiles(new Arena(65_536), [writeFd]);
    files.wait(false);
    expect(files.failed(0)).toBe(true);
    files.pause(0);
    files.wait(true);
    expect(files.failed(0)).toBe(false);
    files.resume(0);
    files.wait(false);
    expect(files.failed(0)).toBe(true);
  } finally {
    closeSync(writeFd);
  }
});
