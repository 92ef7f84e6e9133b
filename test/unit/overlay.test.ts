import { describe, expect, test } from "bun:test";
import { every } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import { TAG } from "../../lib/mesh/message.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import type { CandidateParams, NamedOverlay } from "../../lib/overlay/candidate.ts";
import { NEW_NEIGHBOUR } from "../../lib/overlay/datapath/maps.ts";
import { Forwarder } from "../../lib/overlay/fastdp/forwarder.ts";
import { CONTROL } from "../../lib/overlay/fastdp/protocol.ts";
import { FAST_HEARTBEAT_MS, SLOW_HEARTBEAT_MS } from "../../lib/overlay/fastdp/schedule.ts";
import { switchedConnection } from "../../lib/overlay/switch.ts";
import { overlayTrouble } from "../../lib/overlay/trouble.ts";
import { EAGAIN, EMSGSIZE } from "../../lib/sys/errno.ts";

const EPERM = 1;
const REMOTE = 0x0a630002;

function forwarder(acknowledges = false, encrypted = false) {
  const clock = new SimulatedClock();
  const seen = {
    heartbeats: 0,
    acknowledged: 0,
    established: 0,
    health: [] as (string | undefined)[],
    answering: false,
    /** Errno. */
    refusal: 0,
    attentive: true,
    looked: 0,
    linkTrouble: undefined as string | undefined,
    answered: 0,
    missed: 0,
    security: [] as string[],
    failed: [] as string[],
  };
  const subject: Forwarder = new Forwarder({
    clock,
    connectionUid: 7n,
    remoteAddress: REMOTE,
    security: {
      encrypted,
      start: () => seen.security.push("start"),
      offered: (message) => seen.security.push(`offered ${message.toHex()}`),
      end: () => seen.security.push("end"),
    },
    acknowledges,
    tests: undefined,
    mtu: () => 1376,
    port: 6784,
    sendHeartbeat: () => {
      seen.heartbeats++;
      if (seen.refusal === 0 && seen.answering) clock.after(5, () => subject.control(CONTROL.heartbeatAck));
      return seen.refusal;
    },
    look: () => seen.looked++,
    stopped: () => {},
    heartbeatMs: () => undefined,
    neighbour: () => NEW_NEIGHBOUR,
    ageMs: () => 0,
    linkTrouble: () => seen.linkTrouble,
    sendControl: (tag) => {
      if (tag === CONTROL.heartbeatAck) seen.acknowledged++;
      if (tag === CONTROL.noMoreHeartbeats) seen.answered++;
      if (tag === CONTROL.missingHeartbeat) seen.missed++;
      // The peer answers questions, as long as it is not too busy.
      if (tag === CONTROL.anyHeartbeats && seen.attentive)
        clock.after(5, () => subject.control(CONTROL.noMoreHeartbeats));
    },
    established: () => seen.established++,
    failed: (error) => seen.failed.push(error.message),
    health: (trouble) => seen.health.push(trouble?.reason),
    changed: () => {},
  });
  every(clock, 100, () => subject.tick());
  const heartbeat = { size: 1390, length: 1390, sender: REMOTE, at: 1n };
  return { clock, seen, subject, heartbeat };
}

describe("a forwarder of the fast datapath", () => {
  test("is established once heartbeats got through both ways", () => {
    const { subject, seen, heartbeat } = forwarder();
    subject.confirm();
    subject.control(CONTROL.heartbeatAck);
    expect(seen.established).toBe(0);
    subject.heartbeat(heartbeat);
    subject.heartbeat(heartbeat);
    expect(seen).toMatchObject({ established: 1, acknowledged: 1 });
  });

  test("beats fast until acknowledged, slowly after that", () => {
    const { subject, seen, clock, heartbeat } = forwarder();
    subject.confirm();
    clock.advance(10 * FAST_HEARTBEAT_MS);
    expect(seen.heartbeats).toBe(11);
    subject.control(CONTROL.heartbeatAck);
    subject.heartbeat(heartbeat);
    clock.advance(5 * SLOW_HEARTBEAT_MS);
    expect(seen.heartbeats).toBe(16);
  });

  test.each([["one that was cut short", { length: 1000 }]])("ignores heartbeats: %s", (_what, change) => {
    const { subject, seen, heartbeat } = forwarder();
    subject.confirm();
    subject.heartbeat({ ...heartbeat, ...change });
    expect(seen.acknowledged).toBe(0);
  });

  test("is in trouble while the link of the frames is, whatever becomes of heartbeats", () => {
    const { subject, seen, clock, heartbeat } = forwarder(true);
    seen.answering = true;
    seen.linkTrouble = "link vxlan-6784 is missing";
    subject.confirm();
    subject.heartbeat(heartbeat);
    clock.advance(FAST_HEARTBEAT_MS);
    expect(seen.established).toBe(1);
    expect(seen.health.at(-1)).toBe("link vxlan-6784 is missing");
    expect(seen.missed).toBe(1);
    seen.linkTrouble = undefined;
    clock.advance(FAST_HEARTBEAT_MS);
    expect(seen.health.at(-1)).toBeUndefined();
    seen.linkTrouble = "link vxlan-6784 is down";
    subject.tick();
    expect(seen.health.at(-1)).toBe("link vxlan-6784 is down");
  });

  test("follows a peer whose address changes", () => {
    const { subject, heartbeat } = forwarder();
    subject.confirm();
    subject.heartbeat({ ...heartbeat, sender: REMOTE + 1 });
    expect(subject.remoteAddress).toBe(REMOTE + 1);
  });

  function established(acknowledges: boolean) {
    const all = forwarder(acknowledges);
    all.subject.confirm();
    all.subject.control(CONTROL.heartbeatAck);
    all.subject.heartbeat(all.heartbeat);
    return all;
  }

  test("says so when the first heartbeats do not get through, and takes it back when they do", () => {
    const { subject, seen, clock, heartbeat } = forwarder();
    subject.confirm();
    clock.advance(10_000);
    expect(seen.health.length).toBe(1);
    expect(seen.health[0]).toContain("UDP 6784");
    subject.control(CONTROL.heartbeatAck);
    subject.heartbeat(heartbeat);
    expect(seen.established).toBe(1);
  });

  test("of a peer that acknowledges: notices within seconds that heartbeats do not arrive any more", () => {
    const { subject, seen, clock, heartbeat } = established(true);
    // Frames of the peer come in all the time, so the path is in use; but it answers no more.
    for (let ms = 0; ms < 10_000 && seen.health.length === 0; ms += 500) {
      subject.heard();
      subject.heartbeat(heartbeat);
      clock.advance(500);
      expect(ms).toBeLessThan(5_000);
    }
    expect(seen.health).toEqual([expect.stringContaining("do not arrive any more")]);
    subject.control(CONTROL.heartbeatAck);
    subject.control(CONTROL.heartbeatAck);
    expect(seen.health.length).toBe(1);
    subject.control(CONTROL.heartbeatAck);
    expect(seen.health).toEqual([expect.anything(), undefined]);
  });

  test("of a peer that acknowledges: notices it each time that the path is blocked, not the first time only", () => {
    const { subject, seen, clock, heartbeat } = established(true);
    const pass = (ms: number) => {
      for (let i = 0; i < ms; i += 500) {
        subject.heard();
        subject.heartbeat(heartbeat);
        clock.advance(500);
      }
    };
    for (let times = 1; times <= 3; times++) {
      seen.answering = false;
      pass(10_000);
      expect(seen.health.length).toBe(2 * times - 1);
      seen.answering = true;
      pass(10_000);
      expect(seen.health.length).toBe(2 * times);
      expect(seen.health.at(-1)).toBeUndefined();
    }
  });

  test("of a peer that acknowledges: one that is too busy to answer anything is not taken for blocked", () => {
    const { subject, seen, clock } = established(true);
    seen.attentive = false;
    subject.control(CONTROL.missingHeartbeat);
    clock.advance(60_000);
    expect(seen.health).toEqual([]);
  });

  test("of a peer that acknowledges: asked for heartbeats, it looks for them before it answers", () => {
    const { subject, seen } = established(true);
    subject.control(CONTROL.anyHeartbeats);
    expect([seen.looked, seen.answered]).toEqual([1, 1]);
  });

  test("asked for heartbeats, it acknowledges a burst of which it saw only the last", () => {
    const { subject, seen, clock, heartbeat } = established(true);
    const ask = () => subject.control(CONTROL.anyHeartbeats);
    clock.advance(SLOW_HEARTBEAT_MS);
    subject.heartbeat(heartbeat);
    expect(seen.acknowledged).toBe(1);
    ask();
    expect([seen.acknowledged, seen.answered]).toEqual([2, 1]);
    ask();
    expect([seen.acknowledged, seen.answered]).toEqual([2, 2]);
    clock.advance(SLOW_HEARTBEAT_MS);
    subject.heartbeat(heartbeat);
    // No unanswered heartbeat is that old.
    clock.advance(SLOW_HEARTBEAT_MS - 1_000);
    ask();
    expect([seen.acknowledged, seen.answered]).toEqual([2, 3]);
  });

  test("of a peer that acknowledges: acknowledges those that follow each other closely", () => {
    const { subject, seen, clock, heartbeat } = established(true);
    for (const [pause, acknowledged] of [
      [1_000, 2],
      [2_000, 3],
      [SLOW_HEARTBEAT_MS, 3],
      [SLOW_HEARTBEAT_MS, 3],
      [500, 4],
    ] as const) {
      clock.advance(pause);
      subject.heartbeat(heartbeat);
      expect(seen.acknowledged).toBe(acknowledged);
    }
    expect(seen.missed).toBe(0);
  });

  test("of a peer that acknowledges: says that a slow one is missing, once for each, and answers the next", () => {
    const { subject, seen, clock, heartbeat } = established(true);
    clock.advance(SLOW_HEARTBEAT_MS + 2_000);
    expect(seen.missed).toBe(0);
    clock.advance(1_000);
    expect(seen.missed).toBe(1);
    subject.heartbeat(heartbeat);
    expect(seen.acknowledged).toBe(2);
    clock.advance(2 * SLOW_HEARTBEAT_MS);
    expect(seen.missed).toBe(2);
  });

  test("of a peer that acknowledges: told that one is missing, tries the path, and goes on while there is trouble", () => {
    const { subject, seen, clock } = established(true);
    clock.advance(SLOW_HEARTBEAT_MS);
    expect(seen.health).toEqual([]);
    subject.control(CONTROL.missingHeartbeat);
    clock.advance(5_000);
    expect(seen.health).toEqual([expect.stringContaining("do not arrive any more")]);
    const before = seen.heartbeats;
    clock.advance(60_000);
    expect(seen.heartbeats - before).toBe(60);
    expect(subject.usable).toBe(true);
  });

  test("of a peer that acknowledges: told that one is missing which was only late, all is well", () => {
    const { subject, seen, clock } = established(true);
    seen.answering = true;
    clock.advance(SLOW_HEARTBEAT_MS);
    subject.control(CONTROL.missingHeartbeat);
    clock.advance(5_000);
    const before = seen.heartbeats;
    clock.advance(60_000);
    expect(seen.health).toEqual([]);
    expect(seen.heartbeats - before).toBeLessThanOrEqual(7);
  });

  test.each([
    ["a peer that acknowledges", true],
    ["an original", false],
  ] as const)(
    "of %s: says why our own kernel refuses heartbeats, and takes it back when it does not",
    (_who, acknowledges) => {
      const { clock, subject, seen, heartbeat } = forwarder(acknowledges);
      seen.answering = true;
      const pass = (ms: number) => {
        for (let i = 0; i < ms; i += 1_000) {
          if (seen.refusal === 0 || !acknowledges) subject.heartbeat(heartbeat);
          clock.advance(1_000);
        }
      };
      subject.confirm();
      pass(20_000);
      // The socket has no room for a moment: nothing to speak of.
      seen.refusal = EAGAIN;
      clock.advance(600);
      seen.refusal = 0;
      pass(20_000);
      expect(seen.health).toEqual([]);
      seen.refusal = EPERM;
      pass(15_000);
      expect(seen.health).toEqual([
        "heartbeats cannot be sent: EPERM; a firewall rule on this host blocks UDP 6784, or its conntrack table is full",
      ]);
      seen.refusal = 0;
      pass(5_000);
      expect(seen.health).toEqual([expect.anything(), undefined]);
      // What is too long for the path is not tried twice.
      seen.refusal = EMSGSIZE;
      for (let ms = 0; ms < 12_000 && seen.health.length === 2; ms += 100) {
        subject.heard();
        clock.advance(100);
      }
      expect(seen.health[2]).toContain("the path's MTU is too small");
    },
  );

  test("while nothing moves, little is sent, and no answers are expected", () => {
    const { seen, clock } = established(true);
    clock.advance(10_000);
    const before = seen.heartbeats;
    clock.advance(1_000_000);
    expect(seen.health).toEqual([]);
    expect(seen.heartbeats - before).toBeLessThanOrEqual(101);
  });

  test("encrypted: sends nothing until the peer has said how, be it before or after we are ready", () => {
    for (const early of [true, false]) {
      const { subject, seen, clock } = forwarder(true, true);
      if (early) subject.control(CONTROL.cryptoInitSaRemote, Uint8Array.of(1, 2));
      subject.confirm();
      clock.advance(1_000);
      expect(seen.heartbeats > 0).toBe(early);
      if (!early) subject.control(CONTROL.cryptoInitSaRemote, Uint8Array.of(1, 2));
      clock.advance(1_000);
      expect(seen.heartbeats).toBeGreaterThan(0);
      // Further offers would each add an association.
      subject.control(CONTROL.cryptoInitSaRemote, Uint8Array.of(3, 4));
      subject.stop();
      expect(seen.security).toEqual(["start", "offered 0102", "end"]);
    }
  });

  test.each([
    ["an original", false],
    ["one of ours", true],
  ])("encrypted: %s that offers nothing for 5 s is on no blocked path", (_, acknowledges) => {
    const { subject, seen, clock, heartbeat } = forwarder(acknowledges, true);
    subject.confirm();
    clock.advance(5_000);
    expect(seen.health).toEqual([]);
    clock.advance(60_000);
    expect(seen.health).toEqual(["the peer has offered no ESP association"]);
    subject.control(CONTROL.cryptoInitSaRemote, Uint8Array.of(1, 2));
    subject.heartbeat(heartbeat);
    subject.control(CONTROL.heartbeatAck);
    expect(seen.established).toBe(1);
  });

  test("encrypted: heartbeats from another address are another's", () => {
    const { subject, seen, heartbeat } = forwarder(true, true);
    subject.confirm();
    subject.heartbeat({ ...heartbeat, sender: REMOTE + 1 });
    expect(subject.remoteAddress).toBe(REMOTE);
    expect(seen.acknowledged).toBe(0);
  });

  test("of an original: after three slow heartbeats that did not come; any frame is a sign of life", () => {
    const { subject, seen, clock, heartbeat } = established(false);
    clock.advance(3 * SLOW_HEARTBEAT_MS);
    subject.heard();
    clock.advance(3 * SLOW_HEARTBEAT_MS);
    expect(seen.health).toEqual([]);
    clock.advance(SLOW_HEARTBEAT_MS);
    expect(seen.health).toEqual([expect.stringContaining("UDP 6784")]);
    subject.heartbeat(heartbeat);
    expect(seen.health).toEqual([expect.anything(), undefined]);
  });
});

describe("the switch between overlays", () => {
  const peer = Peer.placeholder(nameFromNumber(2n));

  function prepare(theirs: string | undefined, overlays: readonly string[], clock?: SimulatedClock) {
    const params = new Map<string, CandidateParams>();
    const sent: string[] = [];
    const events: string[] = [];
    /** What tests of each overlay have found, in bytes. */
    const measured = new Map<string, number>();
    /** Source UDP ports of the peer's datagrams, by overlay. */
    const heardFrom = new Map<string, number>();
    const named: NamedOverlay[] = overlays.map((name) => ({
      name,
      port: 6_784,
      prepare(given) {
        params.set(name, given);
        return {
          confirm: () => events.push(`${name} confirmed`),
          control: (tag, message) => events.push(`${name} got ${tag} ${Array.from(message)}`),
          stop: () => events.push(`${name} stopped`),
          attributes: () => ({ name }),
          route: { kind: "sleeve", link: overlays.indexOf(name) },
          get pathMtu() {
            return measured.get(name);
          },
          get remotePort() {
            return heardFrom.get(name);
          },
        };
      },
    }));
    const log = { ...silentLog, info: (text: string) => events.push(text) };
    const connection = switchedConnection(
      {
        remotePeer: peer,
        localIp: "10.99.0.1",
        remoteIp: "10.99.0.2",
        remotePort: 6783,
        outbound: true,
        connectionUid: 1n,
        sessionKey: undefined,
        features: new Map(theirs === undefined ? [] : [["Overlays", theirs]]),
        sendControl: (tag, message) => sent.push(`${tag} ${Array.from(message)}`),
        established: () => events.push("established"),
        failed: (error) => events.push(error.message),
        restart: () => {},
      },
      {
        overlays: named,
        compatible: named.at(-1) ?? { name: "none", port: 0, prepare: () => expect.unreachable() },
        log,
        ...(clock && { clock }),
        confirmed() {},
        stopped() {},
        changed: () => events.push("changed"),
      },
    );
    return { connection, params, sent, events, measured, heardFrom };
  }

  test("carries what the best overlay has measured; what a worse one has, where that cannot or does not work", () => {
    const { connection, params, measured, events } = prepare("fastdp sleeve", ["fastdp", "sleeve"]);
    const changes = () => events.filter((event) => event === "changed").length;
    const [fastdp, sleeve] = [params.get("fastdp"), params.get("sleeve")];
    sleeve?.established();
    measured.set("sleeve", 1_438);
    // It may still be established.
    expect(connection.pathMtu).toBeUndefined();
    const before = changes();
    fastdp?.health(overlayTrouble("silent", "silent", 6_784));
    expect([connection.pathMtu, changes() > before]).toEqual([1_438, true]);
    fastdp?.health(undefined);
    fastdp?.established();
    expect(connection.pathMtu).toBeUndefined();
    measured.set("fastdp", 1_450);
    expect(connection.pathMtu).toBe(1_450);
    // For a short trouble the MTU of the network stays.
    fastdp?.health(overlayTrouble("silent", "silent", 6_784));
    expect(connection.pathMtu).toBe(1_450);
    fastdp?.failed(new Error("no VXLAN"));
    expect(connection.pathMtu).toBe(1_438);
  });

  test("uses what both have, the first that is established, and says why it is not the better one", () => {
    const { connection, params, events } = prepare("sleeve fastdp other", ["fastdp", "sleeve"]);
    expect(connection.attributes()).toEqual({ name: "fastdp" });
    params.get("sleeve")?.established();
    expect(connection.attributes()).toEqual({
      name: "sleeve",
      reason: "fastdp: not established yet",
    });
    params.get("fastdp")?.established();
    expect(connection.attributes()).toEqual({ name: "fastdp" });
    expect(events.filter((event) => event === "established").length).toBe(1);
    expect(events.filter((event) => event === "changed").length).toBe(3);
  });

  test("reports a peer with another --port by its source port while the better overlay is silent", () => {
    const { connection, params, heardFrom } = prepare("fastdp sleeve", ["fastdp", "sleeve"]);
    params.get("sleeve")?.established();
    heardFrom.set("sleeve", 6_784);
    expect(connection.slowness()?.cause).toBe("pending");
    heardFrom.set("sleeve", 7_783);
    const other = overlayTrouble(
      "other port",
      "fastdp: the peer sends from UDP port 7783, not 6784: another --port, or NAT",
      6_784,
    );
    expect(connection.slowness()).toEqual(other);
    params.get("fastdp")?.health(overlayTrouble("silent", "silent", 6_784));
    expect(connection.slowness()).toEqual(other);
    params.get("fastdp")?.health(overlayTrouble("blocked", "a rule", 6_784));
    expect(connection.slowness()?.cause).toBe("blocked");
    params.get("fastdp")?.health(undefined);
    params.get("fastdp")?.established();
    expect(connection.slowness()).toBeUndefined();
  });

  test("waits 1 s for the best one, that frames change their way once", () => {
    const clock = new SimulatedClock();
    const { connection, params, events } = prepare("fastdp sleeve", ["fastdp", "sleeve"], clock);
    connection.confirm();
    params.get("sleeve")?.established();
    clock.advance(999);
    expect(connection.attributes()).toEqual({ name: "fastdp" });
    expect(events).not.toContain("established");
    params.get("fastdp")?.established();
    expect(events.filter((event) => event === "established" || event === "changed")).toEqual([
      "changed",
      "established",
    ]);
  });

  test.each([
    ["after 1 s", (_: CandidateParams | undefined, clock: SimulatedClock) => clock.advance(1_000)],
    [
      "at once if the best one is in trouble",
      (fastdp: CandidateParams | undefined) => fastdp?.health(overlayTrouble("blocked", "blocked", 6_784)),
    ],
    [
      "at once if the best one fails",
      (fastdp: CandidateParams | undefined) => fastdp?.failed(new Error("no VXLAN")),
    ],
  ])("uses the next one %s", (_what, happens) => {
    const clock = new SimulatedClock();
    const { connection, params, events } = prepare("fastdp sleeve", ["fastdp", "sleeve"], clock);
    connection.confirm();
    params.get("sleeve")?.established();
    happens(params.get("fastdp"), clock);
    expect(connection.attributes()["name"]).toBe("sleeve");
    expect(events.filter((event) => event === "established").length).toBe(1);
    connection.stop();
    clock.advance(2_000);
    expect(events.filter((event) => event === "established").length).toBe(1);
  });

  test("leaves an overlay in trouble and comes back to it; each switch is logged with its reason", () => {
    const { connection, params, events } = prepare("fastdp sleeve", ["fastdp", "sleeve"]);
    params.get("sleeve")?.established();
    params.get("fastdp")?.established();
    params.get("fastdp")?.health(overlayTrouble("blocked", "blocked", 6_784));
    expect(connection.attributes()).toMatchObject({ name: "sleeve", reason: "fastdp: blocked" });
    expect(connection.route).toEqual({ kind: "sleeve", link: 1 });
    expect(events).toContain("using sleeve (fastdp: blocked)");
    params.get("fastdp")?.health(undefined);
    expect(connection.attributes()).toEqual({ name: "fastdp", fallbacks: 1 });
  });

  test("numbers control messages by overlay", () => {
    const { connection, params, sent, events } = prepare("fastdp sleeve", ["fastdp", "sleeve"]);
    params.get("sleeve")?.sendControl(3, Uint8Array.of(5, 6));
    expect(sent).toEqual([`${TAG.overlayControl} 1,3,5,6`]);
    connection.control(TAG.overlayControl, Uint8Array.of(1, 3, 5, 6));
    connection.control(TAG.overlayControl, Uint8Array.of(9, 0));
    connection.control(TAG.overlayControl, Uint8Array.of(1));
    connection.control(TAG.overlayControl, new Uint8Array());
    connection.control(TAG.reserved1, Uint8Array.of(1, 3));
    expect(events.filter((event) => event.includes("got"))).toEqual(["sleeve got 3 5,6"]);
  });

  test("a peer that does not negotiate gets sleeve, and its messages no number", () => {
    const { connection, params, sent, events } = prepare(undefined, ["fastdp", "sleeve"]);
    expect(connection.attributes()).toEqual({ name: "sleeve", reason: "fastdp: the peer does not offer it" });
    params.get("sleeve")?.sendControl(3, Uint8Array.of(5, 6));
    expect(sent).toEqual(["3 5,6"]);
    connection.control(TAG.reserved2, Uint8Array.of(7));
    expect(events).toContain("sleeve got 2 7");
  });

  test("goes on with the other when one fails, and fails with the last", () => {
    const { connection, params, events } = prepare("fastdp sleeve", ["fastdp", "sleeve"]);
    params.get("fastdp")?.failed(new Error("blocked"));
    expect(connection.attributes()).toMatchObject({ name: "sleeve" });
    params.get("sleeve")?.failed(new Error("gone"));
    expect(events.at(-1)).toBe(`no working forwarders to ${peer}: fastdp: blocked; sleeve: gone`);
  });

  test("has nothing to offer to a peer without common overlays", () => {
    expect(() => prepare("awsvpc", ["fastdp"])).toThrow(
      "no overlays in common with peer (ours: fastdp; theirs: awsvpc)",
    );
  });
});
