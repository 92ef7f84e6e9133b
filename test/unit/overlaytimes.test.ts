// Forwarders in simulated time, event by event: what is sent when, what counts as trouble when, and what ends it. The times
// are those that peers and originals rely on.
import { describe, expect, test } from "bun:test";
import { every } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Forwarder } from "../../lib/overlay/fastdp/forwarder.ts";
import {
  CONTROL,
  decodeAnswer,
  decodeQuestion,
  encodeAnswer,
  encodeQuestion,
  FIRST_TEST,
} from "../../lib/overlay/fastdp/protocol.ts";
import { PathMtu } from "../../lib/overlay/pathmtu.ts";
import type { Cipher } from "../../lib/overlay/sleeve/format.ts";
import { SleeveForwarder } from "../../lib/overlay/sleeve/forwarder.ts";
import { Path } from "../../lib/overlay/sleeve/path.ts";
import { OverlayError, overlayTrouble } from "../../lib/overlay/trouble.ts";

const REMOTE = 0x0a630002;
const [EPERM, EAGAIN, EMSGSIZE] = [1, 11, 90];

/** Times in a row of equal distance as "a..b/step". */
function runs(times: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < times.length; ) {
    const first = times[i] ?? 0;
    const step = (times[i + 1] ?? 0) - first;
    let last = i;
    while (last + 1 < times.length && (times[last + 1] ?? 0) - (times[last] ?? 0) === step) last++;
    if (last - i < 2) {
      parts.push(String(first));
      i++;
    } else {
      parts.push(`${first}..${times[last]}/${step}`);
      i = last + 1;
    }
  }
  return parts.join(" ");
}

function fastdp(
  change: {
    acknowledges?: boolean;
    encrypted?: boolean;
    measures?: boolean;
    failing?: "start" | "offered" | "end";
    /** What the kernel has when it is looked at. */
    look?: (subject: Forwarder) => void;
  } = {},
) {
  const { acknowledges = false, encrypted = false, measures = false, failing, look } = change;
  const clock = new SimulatedClock();
  const events: string[] = [];
  const beats: { at: number; whole: boolean; to: number }[] = [];
  const note = (what: string) => {
    events.push(`${clock.now()} ${what}`);
  };
  const world = {
    ...{ errno: 0, answers: false, busy: false, mtu: 1376 },
    ...{ link: undefined as string | undefined, seen: 0n },
  };
  const path = {
    limit: 1450,
    /** The limit that the kernel finds by the next heartbeat. */
    found: 1450,
    last: undefined as { size: number; length: number; sender: number; at: bigint } | undefined,
    /** What it carries, by which tests are answered; undefined: they are not. */
    real: undefined as number | undefined,
    passed: { mark: 0, mtu: 0 },
    mark: 0,
    told: new Uint8Array(),
  };
  const step = (name: "start" | "offered" | "end") => {
    note(name);
    if (failing === name) throw new OverlayError(overlayTrouble("no encryption", `${name} failed`, 1));
  };
  const subject: Forwarder = new Forwarder({
    clock,
    connectionUid: 7n,
    stopped: () => {},
    remoteAddress: REMOTE,
    security: {
      encrypted,
      start: () => step("start"),
      offered: () => step("offered"),
      end: () => step("end"),
    },
    acknowledges,
    tests: measures
      ? {
          limit: () => path.limit,
          send(_to, mark, mtu) {
            path.mark = mark;
            if (mtu <= (path.real ?? 0)) path.passed = { mark, mtu };
            note(`test ${mtu}`);
          },
          last: () => path.last,
          outgrown() {},
          changed() {},
        }
      : undefined,
    mtu: () => world.mtu,
    port: 6784,
    sendHeartbeat(to, whole) {
      beats.push({ at: clock.now(), whole, to });
      path.limit = path.found;
      const lost = whole && world.mtu > (path.real ?? world.mtu);
      if (world.errno === 0 && world.answers && !lost)
        clock.after(5, () => subject.control(CONTROL.heartbeatAck));
      return world.errno;
    },
    look: () => {
      note("look");
      look?.(subject);
    },
    heartbeatMs: () => 42,
    neighbour: () => ({ seen: world.seen, received: 1_000n, sent: 2_000n }),
    ageMs: (at) => Number(at),
    linkTrouble: () => world.link,
    sendControl(tag, message) {
      path.told = Uint8Array.from(message);
      note(`control ${tag}`);
      if (tag === CONTROL.anyHeartbeats && !world.busy)
        clock.after(5, () => subject.control(CONTROL.noMoreHeartbeats));
      if (tag === CONTROL.anyTest && path.real !== undefined) {
        const answer = encodeAnswer({ asked: decodeQuestion(message) ?? 0, ...path.passed });
        clock.after(5, () => subject.control(CONTROL.testReceived, answer));
      }
    },
    established: () => note("established"),
    failed: (error) => note(`failed: ${error.message}`),
    health: (trouble) => note(`health: ${trouble?.reason.split(":")[0] ?? "good"}`),
    changed: () => note("changed"),
  });
  every(clock, 100, () => subject.tick());
  const beat = { size: 1390, length: 1390, sender: REMOTE, at: 1n };
  const take = () => events.splice(0);
  const sent = () => {
    const all = beats.splice(0);
    return {
      all: runs(all.map(({ at }) => at)),
      whole: runs(all.filter(({ whole }) => whole).map(({ at }) => at)),
    };
  };
  return { clock, world, path, subject, beat, take, sent, beats, note };
}

describe("the fast datapath", () => {
  test("a path that never works: beats every 500 ms, and trouble after more than 5 s", () => {
    const { clock, subject, take, sent } = fastdp();
    subject.confirm();
    clock.advance(20_000);
    expect(take()).toEqual(["0 start", "0 changed", "5100 health: heartbeats do not get through"]);
    expect(sent()).toEqual({ all: "0..20000/500", whole: "0..20000/500" });
    expect([subject.usable, subject.established, subject.watched]).toEqual([true, false, true]);
  });

  test("a path that never works, to a peer that acknowledges: it is asked first, and may be busy", () => {
    const { clock, world, subject, take, sent } = fastdp({ acknowledges: true });
    world.busy = true;
    subject.confirm();
    clock.advance(20_000);
    expect(take()).toEqual(["0 start", "0 changed", `700 control ${CONTROL.anyHeartbeats}`]);
    expect(sent().all).toBe("0 500");
    // The heartbeats before may have come before the peer was ready.
    subject.control(CONTROL.noMoreHeartbeats);
    expect(take()).toEqual(["20000 look", `20000 control ${CONTROL.anyHeartbeats}`]);
    expect(sent().all).toBe("20000");
    clock.advance(5_000);
    expect([take(), sent().all]).toEqual([[], ""]);
    subject.control(CONTROL.noMoreHeartbeats);
    expect(take()).toEqual(["25000 look", "25000 health: heartbeats do not get through"]);
    clock.advance(20_000);
    expect(take()).toEqual([]);
  });

  test("a prompt peer that acknowledges: asked after 700 ms, and again; trouble after more than 5 s, as with an original", () => {
    const { clock, subject, take, sent } = fastdp({ acknowledges: true });
    subject.confirm();
    clock.advance(20_000);
    const asks = (at: number) => [`${at} control ${CONTROL.anyHeartbeats}`, `${at + 5} look`];
    expect(take()).toEqual([
      "0 start",
      "0 changed",
      ...asks(700),
      ...asks(705),
      ...asks(5_100),
      "5105 health: heartbeats do not get through",
    ]);
    expect(sent().all).toBe("0 500 705 1300..19800/500");
  });

  test("the first heartbeat of a peer that acknowledges is answered by one of ours: it was not ready for earlier ones", () => {
    for (const acknowledges of [true, false]) {
      const { clock, subject, sent, beat } = fastdp({ acknowledges });
      subject.confirm();
      clock.advance(120);
      subject.heartbeat(beat);
      clock.advance(10);
      subject.heartbeat(beat);
      expect([acknowledges, sent().all]).toEqual([acknowledges, acknowledges ? "0 120" : "0"]);
    }
    const { clock, subject, sent, beat } = fastdp({ acknowledges: true });
    subject.confirm();
    subject.control(CONTROL.heartbeatAck);
    clock.advance(120);
    subject.heartbeat(beat);
    expect(sent().all).toBe("0");
  });

  test("the answer of a busy peer comes with its acknowledgement, and heartbeats of it may wait here", () => {
    const { clock, world, subject, take } = fastdp({
      acknowledges: true,
      look: (looking) => looking.heartbeat({ size: 1390, length: 1390, sender: REMOTE, at: 1n }),
    });
    world.busy = true;
    subject.confirm();
    clock.advance(6_000);
    subject.control(CONTROL.heartbeatAck);
    subject.control(CONTROL.noMoreHeartbeats);
    expect(take()).toEqual([
      "0 start",
      "0 changed",
      `700 control ${CONTROL.anyHeartbeats}`,
      "6000 look",
      `6000 control ${CONTROL.heartbeatAck}`,
      "6000 established",
    ]);
  });

  test("tests of the path wait until the first heartbeats are acknowledged, which they would hide", () => {
    const { clock, subject, take, beat } = fastdp({ measures: true, acknowledges: true });
    subject.confirm();
    clock.advance(400);
    expect(take()).toEqual(["0 start", "0 changed"]);
    subject.heartbeat(beat);
    subject.control(CONTROL.heartbeatAck);
    expect(take()).toEqual(["400 control 0", "400 established", "400 test 1450"]);
  });

  test("tests of the path begin once the peer has answered twice that no heartbeat has come", () => {
    const { clock, subject, take } = fastdp({ measures: true, acknowledges: true });
    subject.confirm();
    clock.advance(699);
    expect(take()).toEqual(["0 start", "0 changed"]);
    clock.advance(10);
    expect(take()).toEqual(["700 control 2", "705 look", "705 control 2"]);
    clock.advance(1);
    expect(take()).toEqual(["710 look", "710 test 1450", "710 control 5"]);
  });

  test("an original: beats every 10 s, all whole; silent after more than 35 s", () => {
    const { clock, subject, take, sent, beat } = fastdp();
    subject.confirm();
    clock.advance(250);
    subject.control(CONTROL.heartbeatAck);
    clock.advance(250);
    subject.heartbeat(beat);
    expect(take()).toEqual(["0 start", "0 changed", "500 control 0", "500 established"]);
    clock.advance(35_000);
    expect(take()).toEqual([]);
    clock.advance(100);
    expect(take()).toEqual(["35600 health: nothing heard for 35 s"]);
    expect(sent()).toEqual({ all: "0..30000/10000", whole: "0..30000/10000" });
    subject.heartbeat(beat);
    expect(take()).toEqual(["35600 health: good"]);
    // Its questions are none that it knows.
    for (const tag of [2, 3, 4, 9]) subject.control(tag);
    clock.advance(10_000);
    expect(take()).toEqual([]);
  });

  test("a peer that acknowledges, idle: short beats every 10 s, a whole one every 30 s; a missing one reported after 12.5 s", () => {
    const { clock, world, subject, take, sent, beat } = fastdp({ acknowledges: true });
    subject.confirm();
    world.answers = true;
    subject.control(CONTROL.heartbeatAck);
    subject.heartbeat(beat);
    take();
    clock.advance(12_400);
    expect(take()).toEqual([]);
    clock.advance(100);
    expect(take()).toEqual(["12500 control 4"]);
    clock.advance(12_400);
    expect(take()).toEqual([]);
    clock.advance(100);
    expect(take()).toEqual(["25000 control 4"]);
    clock.advance(45_000);
    take();
    expect(sent()).toEqual({ all: "0..70000/10000", whole: "0..60000/30000" });
  });

  test("a peer that acknowledges, active: whole beats every second until 5 s after the last frame", () => {
    const { clock, world, subject, sent, beat, take } = fastdp({ acknowledges: true });
    subject.confirm();
    world.answers = true;
    subject.control(CONTROL.heartbeatAck);
    subject.heartbeat(beat);
    clock.advance(20_000);
    sent();
    take();
    expect(subject.watched).toBe(false);
    subject.heard();
    expect(subject.watched).toBe(true);
    clock.advance(4_999);
    expect(subject.watched).toBe(true);
    clock.advance(1);
    expect(subject.watched).toBe(false);
    clock.advance(10_000);
    expect(sent()).toEqual({ all: "21000..24000/1000 34000", whole: "21000..24000/1000" });
  });

  test("a peer that acknowledges no more: asked after three, once; blocked when it answers that there are none", () => {
    const { clock, world, subject, take, sent, beat } = fastdp({ acknowledges: true });
    subject.confirm();
    subject.control(CONTROL.heartbeatAck);
    subject.heartbeat(beat);
    world.busy = true;
    take();
    sent();
    for (let ms = 0; ms < 6_000; ms += 500) {
      subject.heard();
      subject.heartbeat(beat);
      clock.advance(500);
    }
    expect(take().filter((event) => !event.endsWith("control 0"))).toEqual(["2000 control 2"]);
    expect(sent().all).toBe("1000..6000/500");
    subject.control(CONTROL.noMoreHeartbeats);
    expect(take().filter((event) => !event.endsWith("control 0"))).toEqual([
      "6000 health: heartbeats do not arrive any more",
    ]);
    // While there is trouble: one a second. Three acknowledgements in a row end it.
    clock.advance(3_000);
    expect(sent().all).toBe("7000..9000/1000");
    take();
    for (const count of [1, 2]) {
      subject.control(CONTROL.heartbeatAck);
      expect([count, take()]).toEqual([count, []]);
    }
    subject.control(CONTROL.heartbeatAck);
    expect(take()).toEqual(["9000 health: good"]);
  });

  test("told that one is missing: the idle path is tried after 1.5 s, then every 500 ms", () => {
    const { clock, subject, take, sent, beat, world } = fastdp({ acknowledges: true });
    subject.confirm();
    subject.control(CONTROL.heartbeatAck);
    subject.heartbeat(beat);
    world.busy = true;
    clock.advance(10_000);
    sent();
    take();
    subject.control(CONTROL.missingHeartbeat);
    clock.advance(4_000);
    expect(sent().all).toBe("11500..14000/500");
    expect(take()[0]).toBe("12000 control 2");
    // Told again, it does not begin anew.
    subject.control(CONTROL.missingHeartbeat);
    subject.control(CONTROL.noMoreHeartbeats);
    expect(take().at(-1)).toBe("14000 health: heartbeats do not arrive any more");
  });

  test("heartbeats are acknowledged when less than 5 s lie between two", () => {
    const { clock, subject, take, beat } = fastdp({ acknowledges: true });
    subject.confirm();
    subject.control(CONTROL.heartbeatAck);
    const acknowledged = (pause: number) => {
      clock.advance(pause);
      take();
      subject.heartbeat(beat);
      return take().filter((event) => event.endsWith("control 0")).length;
    };
    expect([acknowledged(0), acknowledged(4_999), acknowledged(5_000), acknowledged(1)]).toEqual([
      1, 1, 0, 1,
    ]);
  });

  test("our own kernel refuses: trouble at the third, at once where it is too long; over with the first that it takes", () => {
    const { clock, world, subject, take, sent, beat } = fastdp();
    world.answers = true;
    subject.confirm();
    subject.heartbeat(beat);
    clock.advance(100);
    take();
    world.errno = EPERM;
    for (let i = 0; i < 130; i++) {
      subject.heartbeat(beat);
      clock.advance(100);
    }
    expect(take()).toEqual(["11000 health: heartbeats cannot be sent"]);
    expect(sent().all).toBe("0 10000..11000/500 12000 13000");
    expect(subject.watched).toBe(true);
    // Another MTU of the network may end it: check at once.
    clock.advance(500);
    subject.mtuChanged();
    expect([sent().all, take()]).toEqual(["13600", []]);
    world.errno = 0;
    clock.advance(1_000);
    expect(take()).toEqual([expect.stringMatching(/^\d+ health: good$/)]);
    sent();
    subject.mtuChanged();
    expect(sent().all).toBe("");
    world.errno = EAGAIN;
    clock.advance(11_000);
    expect(take()).toEqual([]);
    world.errno = EMSGSIZE;
    clock.advance(10_000);
    expect(take()).toEqual(["34600 health: heartbeats cannot be sent"]);
  });

  test("answers which test was received last, of the peer's own alone", () => {
    const { subject, path } = fastdp({ acknowledges: true, measures: true });
    const answer = (last: typeof path.last) => {
      path.last = last;
      subject.control(CONTROL.anyTest, encodeQuestion(0xfe09));
      return decodeAnswer(path.told);
    };
    const last = { size: 0xfe07, length: 1_414, sender: REMOTE, at: 1n };
    const none = { asked: 0xfe09, mark: 0, mtu: 0 };
    expect(answer(last)).toEqual({ asked: 0xfe09, mark: 0xfe07, mtu: 1_400 });
    expect(answer({ ...last, size: FIRST_TEST })).toMatchObject({ mark: FIRST_TEST });
    expect(answer(undefined)).toEqual(none);
    expect(answer({ ...last, size: FIRST_TEST - 1 })).toEqual(none);
    expect(answer({ ...last, sender: REMOTE + 1 })).toEqual(none);
  });

  test("a heartbeat that is too long makes the path as narrow as the kernel knows, at once", () => {
    const { clock, world, subject, path, beat, beats } = fastdp({ acknowledges: true, measures: true });
    subject.confirm();
    clock.advance(1_000);
    const received = (mtu: number) =>
      subject.control(CONTROL.testReceived, encodeAnswer({ asked: path.mark, mark: path.mark, mtu }));
    received(1_450);
    world.answers = true;
    subject.heartbeat(beat);
    clock.advance(5_000);
    received(1_450);
    clock.advance(1_000);
    expect(subject.pathMtu).toBe(1_450);
    path.found = 1_400;
    world.errno = EMSGSIZE;
    beats.splice(0);
    while (beats.length === 0) clock.advance(100);
    // It is sent again, once.
    expect([subject.pathMtu, beats.length]).toEqual([1_400, 2]);
  });

  describe("frames of full length are lost, and the network's MTU falls", () => {
    /** A path that has carried 1450 bytes and now carries `real`, which is being searched for. */
    function narrowed(real: number) {
      const subject = fastdp({ acknowledges: true, measures: true });
      const { clock, world, path, beat } = subject;
      Object.assign(world, { answers: true, mtu: 1_450 });
      path.real = 1_450;
      subject.subject.confirm();
      subject.subject.heartbeat(beat);
      clock.advance(5_000);
      expect(subject.subject.pathMtu).toBe(1_450);
      path.real = real;
      const troubles = () => subject.take().filter((event) => event.includes("health"));
      for (let i = 0; i < 100 && troubles().length === 0; i++) {
        subject.subject.heard();
        clock.advance(100);
      }
      return { ...subject, troubles };
    }

    test("to less than the path was known to carry: the trouble lasts until the search has found so much", () => {
      const { clock, world, subject, troubles } = narrowed(1_350);
      world.mtu = 1_354;
      subject.mtuChanged();
      expect(troubles()).toEqual([]);
      clock.advance(3_000);
      expect([subject.pathMtu, troubles()]).toEqual([1_350, []]);
      world.mtu = 1_350;
      subject.mtuChanged();
      expect(troubles()).toEqual([expect.stringContaining("health: good")]);
    });

    test("to less than the path carries, while our own kernel refuses heartbeats: that goes on", () => {
      const { clock, world, subject, beat, take } = fastdp({ acknowledges: true, measures: true });
      world.answers = true;
      subject.confirm();
      subject.heartbeat(beat);
      clock.advance(100);
      const path = { asked: FIRST_TEST + 1, mark: FIRST_TEST + 1, mtu: 1_450 };
      subject.control(CONTROL.testReceived, encodeAnswer(path));
      clock.advance(1_000);
      expect(subject.pathMtu).toBe(1_450);
      world.errno = EPERM;
      for (let i = 0; i < 130; i++) {
        subject.heard();
        clock.advance(100);
      }
      take();
      subject.mtuChanged();
      expect(take().filter((event) => event.includes("health"))).toEqual([]);
    });

    test("to less than the search finds: it ends the trouble", () => {
      const { clock, world, subject, troubles } = narrowed(1_354);
      world.mtu = 1_350;
      subject.mtuChanged();
      expect(troubles()).toEqual([]);
      for (let i = 0; i < 100 && subject.pathMtu !== 1_354; i++) clock.advance(10);
      expect([subject.pathMtu, troubles()]).toEqual([1_354, [expect.stringContaining("health: good")]]);
    });
  });

  test("trouble with links, told to a peer that acknowledges, once", () => {
    for (const acknowledges of [true, false]) {
      const { clock, world, subject, take, beat } = fastdp({ acknowledges });
      world.answers = true;
      subject.confirm();
      subject.heartbeat(beat);
      clock.advance(100);
      take();
      world.link = "link gone";
      clock.advance(1_000);
      expect(take()).toEqual(["200 health: link gone", ...(acknowledges ? ["200 control 4"] : [])]);
      expect(subject.vitals().beatMs).toBeUndefined();
      world.link = undefined;
      clock.advance(100);
      expect(take()).toEqual(["1200 health: good"]);
      expect(subject.vitals().beatMs).toBe(10_000);
    }
  });

  test("vitals: of frames, heartbeats and traffic; none before they are known", () => {
    const { subject, world, beat } = fastdp();
    expect(subject.vitals()).toEqual({
      heardMs: 42,
      beatMs: undefined,
      framesMs: undefined,
      received: undefined,
      sent: undefined,
    });
    world.seen = 9n;
    subject.counted(400n, 1_500n);
    subject.confirm();
    subject.control(CONTROL.heartbeatAck);
    subject.heartbeat(beat);
    expect(subject.vitals()).toMatchObject({
      beatMs: 10_000,
      framesMs: 9,
      received: { bytes: 600 },
      sent: { bytes: 500 },
    });
    subject.counted(900n, 1_900n);
    expect(subject.vitals()).toMatchObject({ received: { bytes: 600 }, sent: { bytes: 500 } });
    expect(subject.attributes()).toEqual({ name: "fastdp", mtu: 1376 });
    subject.stop();
    expect(subject.vitals().beatMs).toBeUndefined();
  });

  test("a cut heartbeat, or one after the end, is none; another address is followed in clear", () => {
    const { subject, beat, take } = fastdp();
    subject.confirm();
    take();
    subject.heartbeat({ ...beat, length: 1389 });
    expect(take()).toEqual([]);
    subject.heartbeat({ ...beat, sender: REMOTE + 1 });
    expect(take()).toEqual(["0 changed", "0 control 0"]);
    expect(subject.route).toEqual({ kind: "fastdp", address: REMOTE + 1 });
    subject.stop();
    expect(subject.route).toBeUndefined();
    expect(take()).toEqual(["0 end", "0 changed"]);
    subject.heartbeat(beat);
    subject.control(CONTROL.heartbeatAck);
    subject.stop();
    expect(take()).toEqual([]);
  });

  test.each(["start", "offered"] as const)("encryption that fails at %s ends it, once", (failing) => {
    const { clock, subject, take, sent } = fastdp({ encrypted: true, failing });
    subject.confirm();
    subject.control(CONTROL.cryptoInitSaRemote, Uint8Array.of(1));
    clock.advance(10_000);
    const events = take().filter((event) => !event.endsWith("changed"));
    expect(events).toEqual(
      failing === "start"
        ? ["0 start", "0 end", "0 failed: start failed"]
        : ["0 start", "0 offered", "0 end", "0 failed: offered failed"],
    );
    expect([sent().all, subject.usable]).toEqual(["", false]);
  });

  test("an end before it was confirmed has nothing to undo", () => {
    const { subject, take } = fastdp({ encrypted: true });
    subject.stop();
    expect(take()).toEqual(["0 changed"]);
  });
});

describe("sleeve", () => {
  const HEARTBEAT = 22;
  function sleeve(outbound = true, cipher?: Cipher) {
    const clock = new SimulatedClock(1_000);
    const events: string[] = [];
    const specials: string[] = [];
    const note = (what: string) => events.push(`${clock.now() - 1_000} ${what}`);
    const world = { heard: 0, carried: 0, refusal: 0, frames: { received: 0, sent: 0 } };
    const remote = { address: REMOTE, port: 6783 };
    const subject = new SleeveForwarder({
      clock,
      connectionUid: 7n,
      cipher,
      remote: outbound ? remote : undefined,
      local: 1,
      port: 6783,
      sendSpecial: (df, size, uid, probe) =>
        specials.push(
          `${clock.now() - 1_000} ${size}${df ? "" : " fragments"}${uid === undefined ? "" : " uid"}${probe ? " probe" : ""}`,
        ),
      sendControl: (tag, message) => note(`control ${tag} ${message.toHex()}`),
      established: () => note("established"),
      health: (trouble) => note(`health: ${trouble?.reason.split(":")[0] ?? "good"}`),
      changed: ({ remote: to, mtu, fragments }) => note(`changed ${to?.port ?? "none"} ${mtu} ${fragments}`),
      log: (text) => note(`log ${text}`),
      preferred: () => true,
      outgrown: () => note("outgrown"),
      heard: () => world.heard,
      carried: () => world.carried,
      frames: () => world.frames,
      refusal: () => world.refusal,
    });
    every(clock, 100, () => subject.tick());
    const take = () => events.splice(0);
    const beats = () =>
      runs(
        specials
          .splice(0)
          .filter((each) => each.endsWith("uid"))
          .map((each) => Number(each.split(" ")[0])),
      );
    return {
      clock,
      world,
      subject,
      take,
      specials,
      beats,
      remote,
      heartbeat: { length: HEARTBEAT, from: remote, uid: 7n, zeros: false },
    };
  }

  test("heartbeats: at once, after 30 and 100 ms, every 500 ms until acknowledged, then every 10 s", () => {
    const { clock, subject, take, beats } = sleeve();
    subject.confirm();
    subject.confirm();
    clock.advance(3_000);
    expect(take()).toEqual(["0 changed none 65535 false", "0 changed 6783 65535 false"]);
    expect(beats()).toBe("0 30 100..2600/500");
    expect(subject.hurried).toBe(true);
    subject.control(1, new Uint8Array());
    expect(take()).toEqual(["3000 established"]);
    expect(subject.hurried).toBe(false);
    clock.advance(30_000);
    expect(beats()).toBe("12600..32600/10000");
    subject.stop();
    clock.advance(60_000);
    expect(beats()).toBe("");
  });

  test("the end that was dialled learns where to, and says so once; a change of port counts", () => {
    const { clock, subject, take, beats, heartbeat } = sleeve(false);
    subject.confirm();
    clock.advance(1_000);
    expect(beats()).toBe("");
    take();
    subject.special(heartbeat);
    expect(take()).toEqual(["1000 changed 6783 65535 false", "1000 control 1 "]);
    subject.special(heartbeat);
    expect(take()).toEqual([]);
    subject.special({ ...heartbeat, from: { ...heartbeat.from, port: 7_000 } });
    expect(take()).toEqual([
      "1000 log the UDP address of the peer has changed to 10.99.0.2:7000",
      "1000 changed 7000 65535 false",
    ]);
    subject.special({ ...heartbeat, uid: 8n, from: { ...heartbeat.from, port: 8_000 } });
    expect(take()).toEqual([]);
    expect(beats()).toBe("1000 1000");
  });

  test("silence of more than 60 s is trouble, until something is heard", () => {
    const { clock, subject, take, world } = sleeve();
    subject.confirm();
    subject.control(1, new Uint8Array());
    clock.advance(10_000);
    world.heard = 5;
    clock.advance(60_100);
    take();
    clock.advance(0);
    expect(take()).toEqual([]);
    clock.advance(100);
    expect(take()).toEqual(["70200 health: nothing heard for 60 s"]);
    world.heard = 6;
    clock.advance(100);
    expect(take()).toEqual(["70300 health: good"]);
  });

  test("refused by our own kernel for 1.5 s is trouble; what is only full is not", () => {
    const { clock, subject, take, world } = sleeve();
    subject.confirm();
    subject.control(1, new Uint8Array());
    take();
    world.refusal = EAGAIN;
    clock.advance(5_000);
    expect([take(), subject.hurried]).toEqual([[], false]);
    world.refusal = EPERM;
    clock.advance(1_500);
    expect([take(), subject.hurried]).toEqual([[], true]);
    clock.advance(100);
    expect(take()).toEqual(["6600 health: datagrams cannot be sent"]);
    world.refusal = 0;
    clock.advance(100);
    expect(take()).toEqual(["6700 health: good"]);
  });

  test("vitals: beats only while both ends have acknowledged and all is well", () => {
    const { clock, subject, world, heartbeat } = sleeve();
    expect(subject.vitals()).toMatchObject({ heardMs: undefined, beatMs: undefined });
    subject.confirm();
    subject.control(1, new Uint8Array());
    expect(subject.vitals().beatMs).toBeUndefined();
    world.heard = 1;
    subject.special(heartbeat);
    world.frames = { received: 7, sent: 9 };
    clock.advance(50);
    expect(subject.vitals()).toMatchObject({
      heardMs: 50,
      beatMs: 10_000,
      received: { bytes: 7 },
      sent: { bytes: 9 },
    });
    world.refusal = EPERM;
    clock.advance(5_000);
    expect(subject.vitals().beatMs).toBeUndefined();
    world.refusal = 0;
    clock.advance(100);
    expect(subject.vitals().beatMs).toBe(10_000);
    subject.stop();
    expect(subject.vitals().beatMs).toBeUndefined();
  });

  test("tests of the peer are answered with what came; nothing after the end", () => {
    const { subject, take, heartbeat } = sleeve();
    subject.confirm();
    take();
    const zeros = { ...heartbeat, zeros: true };
    subject.special({ ...zeros, length: 60_001 });
    subject.special({ ...zeros, length: 1_452 });
    subject.special({ ...zeros, length: 1_452, zeros: false });
    expect(take()).toEqual(["0 control 2 ", "0 control 3 059e"]);
    subject.control(9, new Uint8Array());
    expect(take()).toEqual(["0 log ignoring unknown control message 9"]);
    subject.stop();
    take();
    subject.special({ ...zeros, length: 60_001 });
    subject.special(heartbeat);
    subject.tooBig(1_000);
    subject.suspect();
    subject.control(2, new Uint8Array());
    subject.control(3, Uint8Array.of(5, 0));
    expect(take()).toEqual([]);
    expect(subject.usable).toBe(false);
  });
});

describe("the search for the path MTU", () => {
  function search(real: () => number, delayMs = 3) {
    const clock = new SimulatedClock();
    const sent: string[] = [];
    const found: string[] = [];
    const subject: PathMtu = new PathMtu({
      clock,
      test(mtu) {
        sent.push(`${clock.now()} ${mtu}`);
        if (mtu <= real()) clock.after(delayMs, () => subject.verified(mtu));
      },
      found: (mtu) => found.push(`${clock.now()} ${mtu}`),
    });
    return { clock, sent, found, subject };
  }

  test("finds any MTU, exactly, from 552 to the limit", () => {
    for (const limit of [552, 553, 560, 1_438, 8_938])
      for (const real of [552, 553, 559, 560, 561, 1_000, 1_437, 1_438, 8_937, 8_938]) {
        const { clock, found, subject } = search(() => real);
        subject.search(limit);
        expect([subject.searching, subject.limit]).toEqual([true, limit]);
        clock.advance(10_000);
        expect(found.map((each) => each.split(" ")[1])).toEqual([String(Math.min(real, limit))]);
        expect(subject.searching).toBe(false);
      }
  });

  test("tries the limit first, again after 20, 60, 140, 300 ms, and gives it up after 620 ms", () => {
    const { clock, sent, found, subject } = search(() => 0);
    subject.search(560);
    clock.advance(620);
    expect(sent.slice(0, 6)).toEqual(["0 560", "20 560", "60 560", "140 560", "300 560", "620 553"]);
    expect(sent.slice(5)).toEqual([553, 554, 555, 556, 557, 558, 559].map((size) => `620 ${size}`));
    clock.advance(620);
    // The least that is lost is tested once more.
    expect([found, sent.at(-1)]).toEqual([[], "1240 553"]);
    clock.advance(620);
    expect([found, sent.at(-1)]).toEqual([["1860 552"], "1540 553"]);
    subject.search(600);
    subject.stop();
    expect(subject.searching).toBe(false);
    clock.advance(10_000);
    expect(found.length).toBe(1);
  });

  test("growth of less than 8 is none, and costs one round; more is found exactly", () => {
    const grown = (real: number) => {
      const { clock, found, sent, subject } = search(() => real);
      subject.grow(1_000, 1_438);
      const first = sent.join();
      clock.advance(20_000);
      return [first, found.at(-1)?.split(" ")[1]];
    };
    const first = "0 1008,0 1438";
    for (const real of [1_000, 1_007]) expect(grown(real)).toEqual([first, "1000"]);
    for (const real of [1_008, 1_009, 1_437, 1_438]) expect(grown(real)).toEqual([first, String(real)]);
    const { sent, subject } = search(() => 0);
    subject.grow(1_000, 1_004);
    expect(sent).toEqual(["0 1004"]);
  });

  test("acknowledgements that say nothing new are passed over", () => {
    const { clock, subject, found } = search(() => 0);
    subject.search(1_438);
    for (const mtu of [1_439, 552, 100]) subject.verified(mtu);
    expect([subject.searching, found]).toEqual([true, []]);
    subject.verified(1_438);
    expect(found).toEqual(["0 1438"]);
    subject.verified(1_400);
    clock.advance(10_000);
    expect(found.length).toBe(1);
  });
});

describe("a path", () => {
  function path(cipher?: Cipher) {
    const clock = new SimulatedClock();
    const events: string[] = [];
    const note = (what: string) => events.push(`${clock.now()} ${what}`);
    const world = { real: 1_438, kernel: 1_500 };
    const subject: Path = new Path({
      clock,
      cipher,
      test(mtu, probe) {
        note(`${probe ? "probe" : "test"} ${mtu}`);
        if (mtu <= world.real) clock.after(1, () => subject.verified(mtu));
      },
      testFragments: () => note("fragments?"),
      askKernel() {
        note("ask");
        if (world.kernel > 0) subject.tooBig(world.kernel);
      },
      outgrown: () => note("outgrown"),
      changed: () => note(`changed ${subject.mtu} ${subject.fragments}`),
      log: (text) => note(`log ${text}`),
    });
    const pass = (ms: number, use = { preferred: true, carrying: true }) => {
      for (let at = 0; at < ms; at += 500) {
        clock.advance(500);
        subject.tick(use);
      }
    };
    const take = () => events.splice(0);
    return { clock, world, subject, pass, take };
  }

  test("starts with fragments and what the kernel knows; fragments that do not come within 5 s get none", () => {
    const { clock, subject, take } = path();
    subject.start();
    clock.advance(1);
    expect(take()).toEqual([
      "0 fragments?",
      "0 ask",
      "0 changed 1438 false",
      "0 test 1438",
      "1 log verified an effective MTU of 1438",
      "1 changed 1438 false",
    ]);
    subject.fragmentsReceived();
    expect(take()).toEqual(["1 changed 1438 true"]);
    subject.fragmentsReceived();
    clock.advance(10_000);
    expect(take()).toEqual([]);
    const other = path();
    other.subject.start();
    other.subject.fragmentsReceived();
    other.take();
    other.subject.tooBig(1_200);
    expect(other.take()).toEqual(["0 changed 1138 true", "0 test 1138"]);
  });

  test("is tested every 2.5 s while it carries frames, every 20 s while idle, and not where another is in use", () => {
    const { clock, subject, pass, take } = path();
    subject.start();
    clock.advance(1);
    take();
    const tests = () =>
      take()
        .filter((each) => each.includes("test"))
        .map((each) => Number(each.split(" ")[0]) - 1);
    pass(30_000);
    const busy = tests();
    expect(busy.map((at, i) => at - (busy[i - 1] ?? at - 2_500))).toEqual(busy.map(() => 2_500));
    pass(60_000, { preferred: true, carrying: false });
    const idle = tests();
    expect(idle.map((at, i) => at - (idle[i - 1] ?? at - 20_000))).toEqual(idle.map(() => 20_000));
    expect(idle.length).toBe(3);
    pass(200_000, { preferred: false, carrying: true });
    expect(tests()).toEqual([]);
    // Every 5 min all of it, in any case.
    pass(10_000, { preferred: false, carrying: false });
    expect(take().filter((each) => each.includes("ask")).length).toBe(1);
  });

  test("one that shrinks loses its fragments, and is tried for more every 45 s until it is whole again", () => {
    const { clock, world, subject, pass, take } = path();
    subject.start();
    subject.fragmentsReceived();
    clock.advance(1);
    take();
    world.real = 1_000;
    subject.suspect();
    subject.suspect();
    clock.advance(4_000);
    expect([subject.mtu, subject.fragments]).toEqual([1_000, false]);
    const events = take();
    expect(
      events.filter((each) => each.includes("changed")).map((each) => each.split(" ").slice(1).join(" ")),
    ).toEqual(["changed 1000 false"]);
    expect(events.filter((each) => each.includes("fragments?")).length).toBe(1);
    pass(45_000);
    expect(take().filter((each) => each.endsWith("ask")).length).toBe(1);
    world.real = 1_438;
    pass(50_000);
    expect(subject.mtu).toBe(1_438);
    take();
    pass(100_000);
    expect(take().filter((each) => each.endsWith("ask"))).toEqual([]);
  });

  test("a path MTU that the kernel has cached is probed past, and the cache told to forget", () => {
    const { clock, world, subject, pass, take } = path();
    subject.start();
    clock.advance(1);
    world.kernel = 1_200;
    subject.tooBig(1_200);
    clock.advance(1_000);
    expect(subject.mtu).toBe(1_138);
    take();
    pass(45_500);
    const events = take().map((each) => each.split(" ").slice(1).join(" "));
    expect(events).toContain("probe 1438");
    expect(events.filter((each) => each === "outgrown").length).toBeGreaterThan(0);
  });

  test.each([
    ["secretbox", 24],
    ["aegis-256", 40],
  ] as const)("sealed by %s, a packet has %d bytes more around it", (cipher, bytes) => {
    const { subject } = path(cipher);
    subject.start();
    expect(subject.mtu).toBe(1_500 - 62 - bytes);
  });
});
