// Who may connect, and what is told to whom: admission, the topology's broadcasts, channels and questions, each with the
// router that the test is.
import { describe, expect, test } from "bun:test";
import { concat } from "../../lib/bytes/concat.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce, type Work } from "../../lib/clock/slices.ts";
import { logTo, silentLog } from "../../lib/log/log.ts";
import { Admission } from "../../lib/mesh/admission.ts";
import { Ask, AskError } from "../../lib/mesh/ask.ts";
import { decodeAsk, encodeAsk, MAX_ANSWER, MAX_QUESTION, parseBody } from "../../lib/mesh/askwire.ts";
import { BufferBudget } from "../../lib/mesh/bufferbudget.ts";
import { type ChannelHost, Channels } from "../../lib/mesh/channels.ts";
import { CollisionError, HandshakeError, RefusedError, SelfConnectionError } from "../../lib/mesh/errors.ts";
import { makeFeatures, parseFeatures } from "../../lib/mesh/features.ts";
import { gobFramed, lengthPrefixed, MAX_MESSAGE } from "../../lib/mesh/framing.ts";
import { type GossipData, type Gossiper, RawGossip } from "../../lib/mesh/gossip.ts";
import { GossipSender } from "../../lib/mesh/gossipsender.ts";
import { decodeGossip, encodeGossip, TAG } from "../../lib/mesh/message.ts";
import { nameFromNumber, type PeerName, UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import { Pace } from "../../lib/mesh/pace.ts";
import { decodeTopology, encodeTopology, Peer, topologyMessages } from "../../lib/mesh/peer.ts";
import { Peers } from "../../lib/mesh/peers.ts";
import { Routes } from "../../lib/mesh/routes.ts";
import { TopologyGossip } from "../../lib/mesh/topology.ts";
import { TopologyBroadcaster } from "../../lib/mesh/topologybroadcaster.ts";
import { linksOf } from "../support/links.ts";
import { unframeAll } from "../support/vectors.ts";

const name = (i: number) => nameFromNumber(BigInt(i));
const peer = (i: number, more: Partial<Peer> = {}) =>
  new Peer({ ...Peer.placeholder(name(i)), nickName: `h${i}`, uid: BigInt(i), version: 1, ...more });
const connect = (a: Peer, b: Peer) => {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const)
    linksOf(from).set(to.name, {
      remote: to,
      address: `10.0.0.${from.uid}:6783`,
      outbound: true,
      established: true,
    });
};

describe("admission", () => {
  const OURS = peer(1);
  const connection = (more: object = {}) =>
    ({ address: "10.0.0.2:6783", remoteIp: "10.0.0.2", outbound: true, fits: false, ...more }) as never;
  function admission(verdict?: "fits" | RefusedError) {
    const clock = new SimulatedClock(5_000);
    const warnings: string[] = [];
    const asked: PeerName[] = [];
    const subject = new Admission(OURS, clock, silentLog, (kind) => warnings.push(kind));
    const state = { verdict };
    subject.guard({
      features: () => ({ IPAM: "x" }),
      judge: () => state.verdict,
      connected: (other) => asked.push(other),
    });
    return { clock, subject, warnings, asked, state };
  }

  test("of ourself ends that dial for good; another host with our name is told, noted and warned of", () => {
    const { subject, warnings } = admission();
    expect(() => subject.check(peer(1), connection(), new Map(), undefined)).toThrow(SelfConnectionError);
    expect([warnings, subject.collisions.nameIsTaken]).toEqual([[], false]);
    expect(() => subject.check(peer(1, { uid: 9n }), connection(), new Map(), undefined)).toThrow(
      CollisionError,
    );
    expect([warnings, subject.collisions.nameIsTaken]).toEqual([["collision 10.0.0.2"], true]);
    expect(subject.refusedHandshakes.standing().map(({ error }) => error.trouble.cause)).toEqual(["name"]);
    expect(subject.features("10.0.0.9")).toEqual({ IPAM: "x" });
  });

  test("by a verdict of the room above: refused and noted; fitting, which lifts a refusal; or left to be asked", () => {
    const refusal = new RefusedError("another ring", "reset", "division");
    const { subject, asked, state } = admission(refusal);
    const made = connection() as unknown as { fits: boolean };
    const check = () => subject.check(peer(2), made as never, new Map(), undefined);
    expect(check).toThrow(refusal);
    expect(subject.refusals.standing().map(({ boundUntil }) => boundUntil)).toEqual([
      Number.NEGATIVE_INFINITY,
    ]);
    state.verdict = undefined;
    check();
    expect([made.fits, subject.refusals.standing().length]).toEqual([false, 1]);
    subject.added({ fits: false, remote: peer(2) } as never);
    subject.added({ fits: true, remote: peer(3) } as never);
    expect(asked).toEqual([name(2)]);
    // A refusal that binds, by the ring that it sent after the handshake.
    subject.ended({ knownRemote: peer(2), address: "a", outbound: true } as never, refusal);
    expect(check).toThrow(refusal);
    state.verdict = "fits";
    check();
    expect([made.fits, subject.refusals.standing()]).toEqual([true, []]);
  });

  test("remembers handshakes that failed until one succeeds, and refusals of peers that are known alone", () => {
    const { subject } = admission();
    const error = new HandshakeError("password", "differ", "use one");
    subject.ended(connection({ knownRemote: undefined }), error);
    subject.ended(connection({ knownRemote: undefined }), new RefusedError("x", "y", "range"));
    subject.ended(connection({ knownRemote: undefined }), new Error("other"));
    expect([subject.refusedHandshakes.standing().length, subject.refusals.standing().length]).toEqual([1, 0]);
    subject.introduced({ remoteIp: "10.0.0.2" } as never);
    expect(subject.refusedHandshakes.standing()).toEqual([]);
  });

  test("of a second connection: by the tie both ends know; of another start, the old one is looked at first", () => {
    const { subject } = admission();
    const duplicate = (remoteUid: bigint) => {
      const events: string[] = [];
      return {
        events,
        ...{ remoteUid, address: "10.0.0.8:6783", keeper: { ip: "10.0.0.8", lastHeard: 0 } },
        check: (ms: number, why: string) => events.push(`check ${ms} ${why.replace(/\S*\(h2\)/, "h2")}`),
        shutdown: (error: Error) => events.push(`shutdown ${error.message.slice(0, 20)}`),
      };
    };
    const settle = (tie: string, uid = 2n) => {
      const old = duplicate(2n);
      let error = "";
      try {
        subject.settleDuplicate(
          { remote: peer(2), remoteIp: "10.0.0.2", remoteUid: uid, breakTie: () => tie } as never,
          old as never,
        );
      } catch (thrown) {
        error = String(thrown).slice(0, 30);
      }
      return [old.events, error];
    };
    expect(settle("won")).toEqual([["shutdown Multiple connections"], ""]);
    expect(settle("lost")).toEqual([
      ["check 1000 the peer connected again, from 10.0.0.2"],
      expect.stringContaining("Multiple connections"),
    ]);
    expect(settle("tied")).toEqual([["shutdown Multiple connections"], expect.stringContaining("Multiple")]);
    expect(settle("won", 3n)).toEqual([
      ["check 1000 h2 was restarted at 10.0.0.2"],
      expect.stringContaining("DuplicateName"),
    ]);
  });
});

describe("broadcasts of our connections", () => {
  function broadcaster() {
    const clock = new SimulatedClock(1_000);
    const ourself = peer(5);
    const peers = new Peers(
      ourself,
      clock,
      { float: () => 0, u64: () => 0n },
      {
        ...{ peersGone() {}, shortIdsInvalidated() {}, ourselfChanged() {}, exhausted() {}, refused() {} },
      },
    );
    const routes = new Routes(ourself, peers);
    const topology = new TopologyGossip(
      peers,
      clock,
      { float: () => 0, u64: () => 0n },
      { received() {}, changed() {}, reply() {} },
    );
    const sent: [number, string[], PeerName[] | undefined][] = [];
    const sentAll: PeerName[] = [];
    const pace = { wait: 0, sent: [] as number[] };
    const namesOf = (data: GossipData) =>
      [...data.encode()]
        .flatMap((message) => decodeTopology(message, () => false).map(({ summary }) => summary.nickName))
        .sort();
    const subject = new TopologyBroadcaster(
      {
        ...{ clock, ourself, peers, routes },
        connections: ourself.connections as never,
        channels: {
          sendAll: (connection: { remote: Peer }) => sentAll.push(connection.remote.name),
        } as never,
      },
      topology,
      {
        unicast: () => true,
        neighbours() {},
        broadcast: (data, except) =>
          void sent.push([clock.now() - 1_000, namesOf(data), except && [...except]]),
      },
      { wait: () => pace.wait, sent: (bytes: number) => pace.sent.push(bytes) } as unknown as Pace,
    );
    const add = (i: number) => {
      const other = peer(i);
      peers.referTo(other);
      connect(ourself, other);
      routes.invalidate();
      return { remote: other, ended: false };
    };
    return { clock, ourself, peers, routes, topology, subject, sent, sentAll, add, pace };
  }

  test("are made 20 ms after the first change, once, and no more for connections that are as before", () => {
    const { clock, subject, sent, add } = broadcaster();
    add(6);
    subject.schedule();
    clock.advance(5);
    subject.schedule();
    clock.advance(14);
    expect(sent).toEqual([]);
    clock.advance(1);
    expect(sent.splice(0)).toEqual([[20, ["h5"], undefined]]);
    subject.schedule();
    clock.advance(1_000);
    expect(sent).toEqual([]);
    subject.invalidate();
    clock.advance(20);
    expect(sent.splice(0).map(([, names]) => names)).toEqual([["h5"]]);
    // 300 ms apart.
    subject.invalidate();
    clock.advance(299);
    expect(sent).toEqual([]);
    clock.advance(1);
    expect(sent.splice(0)).toHaveLength(1);
    add(7);
    subject.schedule();
    subject.stop();
    subject.schedule();
    clock.advance(1_000);
    expect(sent).toEqual([]);
  });

  test("are made again when a connection becomes established, and when one is no longer", () => {
    const { clock, subject, sent, add, ourself } = broadcaster();
    const { remote } = add(6);
    const become = (established: boolean) => {
      const connection = ourself.connections.get(remote.name) ?? expect.unreachable();
      linksOf(ourself).set(remote.name, { ...connection, established });
      subject.schedule();
      clock.advance(1_000);
      return sent.splice(0).length;
    };
    expect([false, false, true, true, false].map(become)).toEqual([1, 0, 1, 0, 1]);
  });

  test("wait for the pace, and tell it of their bytes: 60 for a connection, to each neighbour of the tree", () => {
    const { clock, subject, sent, add, pace } = broadcaster();
    for (let i = 10; i < 14; i++) add(i);
    pace.wait = 19;
    subject.schedule();
    clock.advance(20);
    expect([sent.map(([at]) => at), pace.sent]).toEqual([[20], [60 * 4 * 4]]);
    pace.wait = 700;
    subject.invalidate();
    clock.advance(699);
    expect(sent).toHaveLength(1);
    clock.advance(1);
    expect([sent.map(([at]) => at), pace.sent]).toEqual([
      [20, 720],
      [960, 960],
    ]);
    subject.schedule();
    clock.advance(1_000);
    expect(pace.sent).toHaveLength(2);
  });

  test("have a pace by what arrives, and a sixteenth of what is sent: 256 KiB at once, and a second", () => {
    const clock = new SimulatedClock(1_000);
    const of = (float: number) => new Pace(clock, { float: () => float, u64: () => 0n });
    const pace = of(0.5);
    pace.received(256 * 1024 - 1);
    expect(pace.wait()).toBe(0);
    pace.received(128 * 1024);
    expect(pace.wait()).toBe(500);
    clock.advance(500);
    expect(pace.wait()).toBe(0);
    pace.sent(16 * 256 * 1024);
    expect(pace.wait()).toBe(1_000);
    const [early, late] = [of(0), of(0.999)];
    for (const each of [early, late]) each.received(512 * 1024);
    expect([Math.round(2 * early.wait()), Math.round(late.wait())]).toEqual([1_001, 1_500]);
  });

  /** Have it send everything to a neighbour, whose connection lasts, or ends after so many ms. */
  function toldBefore(
    {
      clock,
      subject,
      sentAll,
      sent,
      add,
    }: Pick<ReturnType<typeof broadcaster>, "clock" | "subject" | "sentAll" | "sent" | "add">,
    endsAfter?: number,
  ): void {
    const first = { ...add(20), ended: false };
    subject.introduce(first as never, new Map());
    clock.advance(100 + (endsAfter ?? 3_000));
    expect(sentAll.splice(0)).toEqual([name(20)]);
    sent.splice(0);
    first.ended = endsAfter !== undefined;
  }

  test("leave a new peer to another neighbour only once everything was sent by a connection that is open or was for 3 s", () => {
    for (const [endsAfter, told] of [
      ["never told", true],
      [2_999, true],
      [3_000, false],
      [undefined, false],
    ] as const) {
      const parts = broadcaster();
      const { clock, subject, sentAll, add, routes } = parts;
      if (endsAfter !== "never told") toldBefore(parts, endsAfter);
      const other = add(2).remote;
      routes.invalidate();
      const before = routes.unicastAll;
      const late = add(9);
      connect(other, late.remote);
      routes.invalidate();
      subject.introduce(late as never, before);
      clock.advance(200);
      expect([endsAfter, sentAll.length > 0]).toEqual([endsAfter, told]);
    }
  });

  test("tell of a new peer, and send it everything after 100 ms, unless another with a lesser name does", () => {
    const lone = broadcaster();
    const newcomer = lone.add(9);
    lone.subject.introduce(newcomer as never, new Map());
    lone.subject.schedule();
    lone.clock.advance(99);
    expect([lone.sent.map(([, names]) => names), lone.sentAll]).toEqual([[["h5", "h9"]], []]);
    lone.clock.advance(1);
    expect(lone.sentAll).toEqual([name(9)]);
    // The last of them came with the newcomer, and does not know what we know.
    for (const [others, told, cameBefore] of [
      [[2, 8], false, true],
      [[2], false, true],
      [[8], true, true],
      [[2], true, false],
    ] as const) {
      const { clock, subject, sentAll, sent, add, routes } = broadcaster();
      toldBefore({ clock, subject, sentAll, sent, add });
      const alone = routes.unicastAll;
      const known = others.map((i) => add(i).remote);
      routes.invalidate();
      const before = cameBefore ? routes.unicastAll : alone;
      const late = add(9);
      for (const other of known) connect(other, late.remote);
      routes.invalidate();
      subject.introduce(late as never, before);
      subject.schedule();
      clock.advance(200);
      expect([others, sentAll.length > 0, sent.some(([, names]) => names.includes("h9"))]).toEqual([
        others,
        told,
        told,
      ]);
    }
    const { clock, subject, sentAll, add } = broadcaster();
    subject.introduce({ ...add(9), ended: true } as never, new Map());
    subject.introduce(add(10) as never, new Map());
    subject.stop();
    clock.advance(200);
    expect(sentAll).toEqual([]);
  });

  test("of what a neighbour told leave out whom it reaches without us", () => {
    const { clock, subject, sent, topology, add } = broadcaster();
    const [six, seven] = [add(6).remote, add(7).remote];
    connect(six, seven);
    add(8);
    subject.schedule();
    clock.advance(500);
    sent.length = 0;
    topology.addPending([name(7)], name(6));
    topology.addPending([]);
    subject.schedule();
    clock.advance(500);
    expect(sent.map(([, names, except]) => [names, except?.sort()])).toEqual([[["h7"], [name(6), name(7)]]]);
  });
});

describe("topology gossip", () => {
  function gossip() {
    const clock = new SimulatedClock(1_000_000);
    const ourself = peer(1);
    let float = 0;
    const peers = new Peers(
      ourself,
      clock,
      { float: () => float, u64: () => 0n },
      {
        ...{ peersGone() {}, shortIdsInvalidated() {}, ourselfChanged() {}, exhausted() {}, refused() {} },
      },
    );
    const events: string[] = [];
    const received: number[] = [];
    const names = (data: GossipData | undefined) =>
      data &&
      [...data.encode()]
        .flatMap((message) => decodeTopology(message, () => false).map(({ summary }) => Number(summary.uid)))
        .sort((a, b) => a - b);
    const subject = new TopologyGossip(
      peers,
      clock,
      { float: () => float, u64: () => 0n },
      {
        received: (bytes) => void received.push(bytes),
        changed: (pending) => events.push(`changed ${pending}`),
        reply: (to, data) => events.push(`reply ${to.slice(-1)} ${names(data)}`),
      },
    );
    return {
      clock,
      ourself,
      peers,
      subject,
      events,
      received,
      names,
      draw: (value: number) => (float = value),
    };
  }
  const update = (...peers: Peer[]) => encodeTopology(peers);

  test.each(["onGossip", "onBroadcast"] as const)(
    "the part of an update that was applied before its connection ended stays, and is forwarded (%s)",
    (how) => {
      const { subject, events, names } = gossip();
      atOnce(subject.inconsistentPeers());
      const [two, three, four] = [peer(2), peer(3), peer(4)];
      connect(two, three);
      connect(three, four);
      const bytes = update(two, three, four);
      const work: Work<unknown> =
        how === "onGossip" ? subject.onGossip(bytes, name(2)) : subject.onBroadcast(name(2), bytes);
      for (let step = 0; step < 5; step++) work.next();
      expect(events).toEqual([]);
      work.return(undefined);
      expect(events).toEqual(["changed true"]);
      const told = subject.takePending().map(({ data }) => names(data));
      expect(told.flat().length).toBeGreaterThan(0);
      // Some peers have no update yet, and one has no connections yet: they are inconsistent.
      expect(atOnce(subject.inconsistentPeers())).toBeDefined();
    },
  );

  test("passes on what is new: of gossip later, along our own tree; of a broadcast at once", () => {
    const { subject, events, names, received } = gossip();
    const [two, three] = [peer(2), peer(3)];
    connect(two, three);
    atOnce(subject.onGossip(update(two, three), name(2)));
    expect(events.splice(0)).toEqual(["changed true"]);
    atOnce(subject.onGossip(update(two, three), name(2)));
    expect(events.splice(0)).toEqual([]);
    const pending = subject.takePending();
    expect(pending.map(({ data, from }) => [names(data), from])).toEqual([[[2, 3], name(2)]]);
    expect(subject.takePending()).toEqual([]);
    two.version = 2;
    expect(received).toEqual([]);
    expect(names(atOnce(subject.onBroadcast(name(2), update(two, three))))).toEqual([2]);
    expect(received).toEqual([update(two, three).length]);
    expect(events.splice(0)).toEqual(["changed false"]);
    expect(atOnce(subject.onBroadcast(name(2), update(two)))).toBeUndefined();
    // What is behind is answered.
    two.version = 1;
    atOnce(subject.onGossip(update(two, three), name(7)));
    expect(events).toEqual(["reply 7 2"]);
    expect(() => subject.onUnicast()).toThrow("unexpected topology gossip unicast");
  });

  test("a broadcast takes along what waits to be passed on", () => {
    const { subject, names } = gossip();
    subject.addPending([name(2), name(3)], name(9));
    subject.addPending([name(2)]);
    atOnce(subject.onBroadcast(name(2), update(peer(2))));
    expect(subject.takePending().map(({ from, data }) => [from, names(data)])).toEqual([[name(9), []]]);
  });

  test("repeats ourself, the 16 that changed last within a minute, and two at random", () => {
    const { subject, names, clock, draw, peers } = gossip();
    const keep = () => {
      for (const each of peers.all()) each.references++;
    };
    expect(names(subject.repetition())).toEqual([1]);
    atOnce(subject.onGossip(update(peer(2)), name(2)));
    keep();
    clock.advance(60_001);
    const many = Array.from({ length: 20 }, (_, i) => peer(10 + i));
    atOnce(subject.onGossip(update(...many), name(2)));
    keep();
    expect(names(subject.repetition())).toEqual([1, ...Array.from({ length: 16 }, (_, i) => 14 + i)]);
    clock.advance(60_000);
    expect(names(subject.repetition())).toHaveLength(17);
    clock.advance(1);
    draw(1.5 / 22);
    expect(names(subject.repetition())).toEqual([1, 2]);
    expect(names(subject.gossip())).toHaveLength(22);
  });

  test("asks about peers that are inconsistent twice, 64 at most, and at once about those of which it knows the name alone", () => {
    const { subject } = gossip();
    const [two, three] = [peer(2), peer(3)];
    connect(two, three);
    expect(atOnce(subject.inconsistentPeers())).toBeUndefined();
    atOnce(subject.onGossip(update(two, three), name(2)));
    expect(atOnce(subject.inconsistentPeers())).toBeUndefined();
    linksOf(three).clear();
    three.version = 2;
    atOnce(subject.onGossip(update(three), name(2)));
    expect(atOnce(subject.inconsistentPeers())).toEqual([]);
    expect(atOnce(subject.inconsistentPeers())?.sort()).toEqual([name(2), name(3)]);
    const announcing = Array.from({ length: 80 }, (_, i) => {
      const each = peer(100 + i);
      linksOf(each).set(two.name, { remote: two, address: "", outbound: true, established: true });
      return each;
    });
    linksOf(announcing[0] ?? expect.unreachable()).set(name(900), {
      remote: peer(900),
      address: "",
      outbound: true,
      established: true,
    });
    atOnce(subject.onGossip(update(...announcing), name(2)));
    expect(atOnce(subject.inconsistentPeers())?.[0]).toBe(name(900));
    expect(atOnce(subject.inconsistentPeers())).toHaveLength(1 + 64);
  });

  test("messages begin anew at 256 KiB, and leave out peers whose connections were cut", () => {
    const connections = new Map(
      Array.from({ length: 700 }, (_, j) => [
        name(1_000 + j),
        {
          remote: peer(1_000 + j),
          address: `10.0.${j >> 8}.${j & 255}:6783`,
          outbound: true,
          established: true,
        },
      ]),
    );
    const big = (i: number) => Object.assign(peer(i), { connections });
    const messages = [...topologyMessages(Array.from({ length: 40 }, (_, i) => big(i + 1)))];
    expect(messages.length).toBeGreaterThan(2);
    for (const message of messages.slice(0, -1)) {
      expect(message.length).toBeGreaterThanOrEqual(256 * 1024);
      expect(message.length).toBeLessThan(256 * 1024 + 40_000);
    }
    const all = messages.flatMap((message) => decodeTopology(message, () => true));
    expect(all).toHaveLength(40);
    expect(all.every(({ connections }) => connections.length === 700)).toBe(true);
    expect([...topologyMessages([])]).toEqual([]);
    const { subject, peers, names } = gossip();
    const known = peers.referTo(peer(2));
    expect(names(subject.gossip())).toEqual([1, 2]);
    known.incomplete = true;
    expect(names(subject.gossip())).toEqual([1]);
  });
});

describe("channels", () => {
  /** Ourself (1) between 2 and 3; 4 is behind 3. */
  function channels() {
    const clock = new SimulatedClock(1_000);
    const [ourself, two, three, four] = [peer(1), peer(2), peer(3), peer(4)] as [Peer, Peer, Peer, Peer];
    connect(ourself, two);
    connect(ourself, three);
    connect(three, four);
    const all = new Map([ourself, two, three, four].map((each) => [each.name, each]));
    const routes = new Routes(ourself, { size: all.size, get: (of) => all.get(of) });
    const sent: string[] = [];
    const lines: string[] = [];
    const say = (data: GossipData) => [...data.encode()].map((message) => [...message].join("")).join("+");
    const decodePieces = (pieces: Uint8Array[]) => {
      const message = concat(pieces);
      return decodeGossip(message[0] ?? 0, message.subarray(1));
    };
    const connection = (to: number) => ({
      announces: () => false,
      send: (...pieces: Uint8Array[]) => {
        const gossip = decodePieces(pieces);
        sent.push(
          `${to} ${gossip.kind} ${gossip.channel} ${gossip.source.slice(-1)} ${[...gossip.payload].join("")}`,
        );
      },
      relay: (...pieces: Uint8Array[]) => {
        sent.push(`${to} relayed of ${decodePieces(pieces).source.slice(-1)}`);
      },
      sendGossip: (channel: string, source: PeerName | undefined, data: GossipData) =>
        void sent.push(
          `${to} ${source ? `broadcast of ${source.slice(-1)}` : "gossip"} ${channel} ${say(data)}`,
        ),
    });
    let gossiped = 0;
    const host: ChannelHost = {
      ...{ clock, ourself, routes, random: { float: () => 0, u64: () => 0n } },
      log: logTo((level, text) => level !== "debug" && lines.push(`${level}: ${text}`)),
      connections: new Map([
        [name(2), connection(2)],
        [name(3), connection(3)],
      ]) as never,
      gossiped(bytes) {
        gossiped += bytes;
      },
    };
    const subject = new Channels(host);
    const heard: string[] = [];
    const raw = (...bytes: number[]) => new RawGossip([Uint8Array.from(bytes)]);
    const replies = {
      broadcast: undefined as GossipData | undefined,
      gossip: undefined as GossipData | undefined,
      fails: false,
    };
    const gossiper: Gossiper = {
      onUnicast(source, message, neighbour) {
        if (replies.fails) throw new Error("bad");
        heard.push(`unicast ${source.slice(-1)} ${neighbour.slice(-1)} ${[...message]}`);
      },
      onBroadcast(source, message) {
        heard.push(`broadcast ${source === UNKNOWN_PEER ? "?" : source.slice(-1)} ${[...message]}`);
        return replies.broadcast;
      },
      onGossip(message, from) {
        heard.push(`gossip ${from.slice(-1)} ${[...message]}`);
        return replies.gossip;
      },
      gossip: () => raw(9, 9),
    };
    const channel = subject.open("c", gossiper);
    const receive = (from: number, message: Parameters<typeof encodeGossip>[0]) => {
      const bytes = encodeGossip(message);
      atOnce(subject.receive(name(from), bytes[0] ?? 0, bytes.subarray(1)));
      return { heard: heard.splice(0), sent: sent.splice(0), lines: lines.splice(0) };
    };
    return { clock, subject, channel, receive, replies, raw, sent, heard, lines, gossiped: () => gossiped };
  }
  const payload = Uint8Array.of(7);
  const unicast = (source: number, destination: number, channel = "c") =>
    ({ kind: "unicast", channel, source: name(source), destination: name(destination), payload }) as const;

  test("take what is for us, relay what is not, and ignore what a neighbour forges", () => {
    const { receive, subject } = channels();
    expect(receive(2, unicast(2, 1))).toEqual({ heard: ["unicast 2 2 7"], sent: [], lines: [] });
    expect(receive(3, unicast(4, 1)).heard).toEqual(["unicast 4 3 7"]);
    expect(receive(2, unicast(2, 4))).toEqual({ heard: [], sent: ["3 relayed of 2"], lines: [] });
    for (const source of [1, 3]) {
      const { heard, sent, lines } = receive(2, unicast(source, 1));
      expect([heard, sent, lines.length]).toEqual([[], [], source === 1 ? 1 : 0]);
    }
    expect(receive(2, unicast(2, 99)).lines).toEqual(["info: cannot relay gossip: unknown destination"]);
    expect(() => subject.open("c", {} as never)).toThrow("duplicate gossip channel c");
  });

  test("of what a neighbour says itself an error is its own; of what it relays it is not", () => {
    const { receive, replies } = channels();
    replies.fails = true;
    expect(() => receive(2, unicast(2, 1))).toThrow("bad");
    expect(receive(3, unicast(4, 1)).lines).toEqual(["warning: ignoring relayed gossip: bad"]);
  });

  test("pass broadcasts on along the tree of their source, as the room above answers; forged ones from nobody", () => {
    const { receive, replies, raw } = channels();
    const broadcast = (source: number) =>
      ({ kind: "broadcast", channel: "c", source: name(source), payload }) as const;
    expect(receive(2, broadcast(2))).toEqual({ heard: ["broadcast 2 7"], sent: [], lines: [] });
    replies.broadcast = raw(5);
    expect(receive(2, broadcast(2))).toEqual({
      heard: ["broadcast 2 7"],
      sent: ["3 broadcast of 2 c 5"],
      lines: [],
    });
    expect(receive(3, broadcast(4)).sent).toEqual(["2 broadcast of 4 c 5"]);
    expect(receive(2, broadcast(3)).heard).toEqual(["broadcast ? 7"]);
  });

  test("pass gossip on to neighbours but its source, where it was new", () => {
    const { receive, replies, raw } = channels();
    const gossip = { kind: "gossip", channel: "c", source: name(2), payload } as const;
    expect(receive(2, gossip)).toEqual({ heard: ["gossip 2 7"], sent: [], lines: [] });
    replies.gossip = raw(6);
    expect(receive(2, gossip).sent).toEqual(["3 gossip c 6"]);
  });

  test("relay what they do not know, and say so once", () => {
    const { receive } = channels();
    const gossip = { kind: "gossip", channel: "x".repeat(70), source: name(2), payload } as const;
    const { sent, lines } = receive(2, gossip);
    expect([sent.length, lines]).toEqual([1, ["info: relaying gossip of an unknown channel"]]);
    expect(receive(2, gossip)).toEqual({ heard: [], sent: [], lines: [] });
    expect(receive(3, { kind: "broadcast", channel: "y", source: name(3), payload }).sent).toEqual([
      "2 broadcast of 3 y 7",
    ]);
  });

  test("send by route, along our tree but to those that have it, and to random neighbours", () => {
    const { channel, raw, sent, gossiped, subject } = channels();
    expect([channel.unicast(name(4), payload), channel.unicast(name(99), payload)]).toEqual([true, false]);
    expect([sent.splice(0), gossiped()]).toEqual([["3 unicast c 1 7"], 1]);
    channel.broadcast(raw(1));
    expect(sent.splice(0)).toEqual(["2 broadcast of 1 c 1", "3 broadcast of 1 c 1"]);
    channel.broadcast(raw(1), new Set([name(2)]));
    expect(sent.splice(0)).toEqual(["3 broadcast of 1 c 1"]);
    channel.neighbours(raw(2));
    expect(sent.splice(0).sort()).toEqual(["2 gossip c 2", "3 gossip c 2"]);
    const connection = { sendGossip: (of: string, source: unknown) => sent.push(`all ${of} ${source}`) };
    subject.sendAll(connection as never);
    expect(sent).toEqual(["all c undefined"]);
  });

  test("repeat to few neighbours, and the longer it is the more rarely: 100 bytes a second", () => {
    const { subject, sent, clock } = channels();
    atOnce(subject.repeat());
    // 0.3 · log2(4) = 0.6: one neighbour; two bytes are 20 ms.
    expect(sent.splice(0)).toHaveLength(1);
    clock.advance(19);
    atOnce(subject.repeat());
    expect(sent).toEqual([]);
    clock.advance(1);
    atOnce(subject.repeat());
    expect(sent.splice(0)).toHaveLength(1);
    subject.open("own", {
      onUnicast() {},
      onBroadcast: () => undefined,
      onGossip: () => undefined,
      gossip: () => expect.unreachable(),
      repetition: () => undefined,
    });
    clock.advance(1_000);
    atOnce(subject.repeat());
    expect(sent.splice(0)).toHaveLength(1);
  });

  test("repeat what is long each ten minutes all the same", () => {
    const { subject, sent, clock } = channels();
    subject.open("long", {
      onUnicast() {},
      onBroadcast: () => undefined,
      onGossip: () => undefined,
      gossip: () => new RawGossip([new Uint8Array(1 << 20)]),
    });
    const ofLong = () => {
      atOnce(subject.repeat());
      return sent.splice(0).filter((each) => each.includes(" long ")).length;
    };
    expect(ofLong()).toBe(1);
    clock.advance(599_999);
    expect(ofLong()).toBe(0);
    clock.advance(1);
    expect(ofLong()).toBe(1);
  });
});

describe("questions", () => {
  const settle = async () => {
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  };
  function asking() {
    const clock = new SimulatedClock(1_000);
    const sent: { to: PeerName; message: ReturnType<typeof decodeAsk> }[] = [];
    const routes = new Set([name(2), name(3)]);
    let id = 100n;
    const lines: string[] = [];
    const ask = new Ask(
      {
        clock,
        ourself: { name: name(1) },
        log: logTo((_level, text) => lines.push(text)),
        random: { float: () => 0, u64: () => ++id },
      },
      () => ({
        unicast: (to, bytes) => routes.has(to) && sent.push({ to, message: decodeAsk(bytes) }) > 0,
        broadcast() {},
        neighbours() {},
      }),
    );
    const outcome = (promise: Promise<unknown>) => {
      let result: unknown = "waiting";
      promise.then(
        (value) => (result = value),
        (error) => (result = error instanceof AskError ? `${error.code}: ${error.message}` : String(error)),
      );
      return () => result;
    };
    const hear = (from: number, message: Parameters<typeof encodeAsk>[0], by = from) =>
      ask.onUnicast(name(from), encodeAsk(message), name(by));
    return { clock, ask, sent, lines, outcome, hear };
  }

  test("are answered by the peer that was asked alone, once, in time", async () => {
    const { clock, ask, sent, outcome, hear } = asking();
    const answer = outcome(ask.ask(name(2), "echo", { a: 1 }, 5_000));
    await settle();
    expect(sent.map(({ to, message }) => [to, message.kind, message.id])).toEqual([
      [name(2), "question", 101n],
    ]);
    hear(3, { kind: "answer", id: 101n, body: "forged" });
    hear(2, { kind: "answer", id: 999n, body: "other" });
    await settle();
    expect(answer()).toBe("waiting");
    hear(2, { kind: "answer", id: 101n, body: { b: 2 } });
    hear(2, { kind: "answer", id: 101n, body: "late" });
    await settle();
    expect(answer()).toEqual({ b: 2 });
    const refused = outcome(ask.ask(name(2), "echo", 0, 5_000));
    hear(2, { kind: "refusal", id: 102n, code: "busy", reason: "later\u001b[2J" });
    await settle();
    expect(String(refused())).toStartWith("busy: later");
    expect(String(refused())).not.toContain("\u001b");
    const silent = outcome(ask.ask(name(2), "echo", 0, 5_000));
    clock.advance(4_999);
    await settle();
    expect(silent()).toBe("waiting");
    clock.advance(1);
    await settle();
    expect(silent()).toBe("silent: no answer within 5 s");
    const unreachable = outcome(ask.ask(name(9), "echo", 0, 5_000));
    await settle();
    expect(unreachable()).toBe("not-ours: not reachable through routers that answer questions");
    const stopped = outcome(ask.ask(name(2), "echo", 0, 5_000));
    ask.stop();
    await settle();
    expect(stopped()).toBe("silent: router stopping");
  });

  test("of ours wait 512 at a time, and ourself we ask at once", async () => {
    const { ask, outcome } = asking();
    const all = Array.from({ length: 512 }, () => outcome(ask.ask(name(2), "echo", 0, 5_000)));
    const more = outcome(ask.ask(name(2), "echo", 0, 5_000));
    await settle();
    expect([all.at(-1)?.(), more()]).toEqual([
      "waiting",
      "busy: 512 questions to peers wait for their answers",
    ]);
    ask.answer("echo", async (body, source) => ({ body, source }));
    const own = outcome(ask.ask(name(1), "echo", 5, 1));
    const none = outcome(ask.ask(name(1), "none", 5, 1));
    await settle();
    expect([own(), none()]).toEqual([{ body: 5, source: name(1) }, "unknown subject: unknown subject none"]);
    ask.stop();
  });

  test("of others are answered or refused, within 30 s, four at a time of a neighbour and 16 of all", async () => {
    const { clock, ask, sent, lines, hear } = asking();
    const answers = () =>
      sent
        .splice(0)
        .map(({ message }) =>
          message.kind === "refusal"
            ? `${message.code}: ${message.reason}`
            : message.kind === "answer"
              ? parseBody(message.json)
              : "",
        );
    hear(2, { kind: "question", id: 1n, subject: "none", body: 0 });
    expect(answers()).toEqual(["unknown subject: unknown subject none"]);
    ask.answer("fails", async (body) => {
      throw body === 1
        ? new AskError("busy", "later")
        : body === 2
          ? new AskError("silent", "x")
          : new Error("broken");
    });
    for (const body of [0, 1, 2]) hear(2, { kind: "question", id: 1n, subject: "fails", body });
    await settle();
    expect(answers()).toEqual(["refused: broken", "busy: later", "refused: x"]);
    const gates: PromiseWithResolvers<unknown>[] = [];
    ask.answer("slow", () => {
      const gate = Promise.withResolvers<unknown>();
      gates.push(gate);
      return gate.promise;
    });
    for (let i = 0; i < 5; i++) hear(2, { kind: "question", id: BigInt(i), subject: "slow", body: 0 });
    expect([gates.length, answers(), lines]).toEqual([
      4,
      ["busy: too many questions at a time; try again"],
      [expect.stringContaining("refusing a question")],
    ]);
    for (const by of [3, 4, 5])
      for (let i = 0; i < 4; i++) hear(2, { kind: "question", id: 9n, subject: "slow", body: 0 }, by);
    hear(2, { kind: "question", id: 9n, subject: "slow", body: 0 }, 6);
    expect([gates.length, answers().length]).toEqual([16, 1]);
    gates[0]?.resolve("done");
    await settle();
    expect(answers()).toEqual(["done"]);
    hear(2, { kind: "question", id: 9n, subject: "slow", body: 0 }, 6);
    expect(gates).toHaveLength(17);
    clock.advance(30_000);
    await settle();
    expect(new Set(answers())).toEqual(new Set(["refused: not answered within 30 s"]));
    // Late answers are told to nobody.
    for (const gate of gates) gate.resolve("late");
    await settle();
    expect(answers()).toEqual([]);
  });

  test("on the wire are bounded and exact", () => {
    const size = (bytes: number) => "x".repeat(bytes - 2);
    expect(() =>
      encodeAsk({ kind: "question", id: 1n, subject: "a", body: size(MAX_QUESTION) }),
    ).not.toThrow();
    expect(() => encodeAsk({ kind: "question", id: 1n, subject: "a", body: size(MAX_QUESTION + 1) })).toThrow(
      "4096 is the limit",
    );
    expect(() => encodeAsk({ kind: "answer", id: 1n, body: size(MAX_ANSWER) })).not.toThrow();
    expect(() => encodeAsk({ kind: "answer", id: 1n, body: size(MAX_ANSWER + 1) })).toThrow(
      "65536 is the limit",
    );
    for (const subject of ["", "A", "1a", "a".repeat(33), "a b"])
      expect(() => encodeAsk({ kind: "question", id: 1n, subject, body: 0 })).toThrow("invalid subject");
    const question = encodeAsk({ kind: "question", id: 0x0102030405060708n, subject: "ab", body: [1] });
    expect([...question]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 2, 97, 98, ...Buffer.from("[1]")]);
    expect(decodeAsk(question)).toMatchObject({ kind: "question", id: 0x0102030405060708n, subject: "ab" });
    expect([...encodeAsk({ kind: "answer", id: 1n, body: undefined })].slice(9)).toEqual([
      ...Buffer.from("null"),
    ]);
    const refusal = encodeAsk({ kind: "refusal", id: 1n, code: "busy", reason: "r".repeat(300) });
    expect([refusal[0], refusal[9]]).toEqual([2, 2]);
    expect(decodeAsk(refusal)).toEqual({ kind: "refusal", id: 1n, code: "busy", reason: "r".repeat(256) });
    refusal[9] = 77;
    expect(decodeAsk(refusal)).toMatchObject({ code: "refused" });
    for (const bad of [
      [],
      [3, 0, 0, 0, 0, 0, 0, 0, 0],
      [0, 0, 0, 0, 0, 0, 0, 0],
      [0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
    ])
      expect(() => decodeAsk(Uint8Array.from(bad))).toThrow();
    const long = new Uint8Array(9 + MAX_ANSWER + 1);
    long[0] = 1;
    expect(() => decodeAsk(long)).toThrow("65536 is the limit");
    expect(() => decodeAsk(long.subarray(0, -1))).not.toThrow();
    expect(() => parseBody(Uint8Array.of(123))).toThrow("not JSON");
  });
});

/** Channels that 2.x does not have. */
const OWN_CHANNELS = "weave-ask weave-mtu";

test("features: what is required, and bounds of numbers and names", () => {
  const ours = makeFeatures(peer(1, { shortId: 7, hasShortId: true }), 5n, true, { Overlays: "x" });
  expect(Object.fromEntries(ours)).toEqual({
    ...{
      PeerNameFlavour: "mac",
      Name: name(1),
      NickName: "h1",
      ShortID: "7",
      UID: "1",
      ConnID: "5",
      Trusted: "true",
    },
    ...{ Channels: OWN_CHANNELS, Overlays: "x" },
  });
  const read = (more: Record<string, string | undefined>) =>
    parseFeatures(
      new Map(
        Object.entries({ ...Object.fromEntries(ours), ...more }).filter(
          ([, value]) => value !== undefined,
        ) as [string, string][],
      ),
    );
  expect(read({})).toMatchObject({
    connectionId: 5n,
    trustsUs: true,
    channels: new Set(OWN_CHANNELS.split(" ")),
  });
  expect(read({ ShortID: undefined }).peer).toMatchObject({ shortId: 0, hasShortId: false, version: 0 });
  expect(read({ Trusted: "yes" }).trustsUs).toBe(false);
  expect(read({ NickName: "x".repeat(1_024) }).peer.nickName).toHaveLength(1_024);
  expect(read({ UID: String(2n ** 64n - 1n), ShortID: "4095" }).peer.shortId).toBe(4_095);
  expect(read({ Channels: Array.from({ length: 20 }, (_, i) => `c${i}`).join(" ") }).channels.size).toBe(16);
  const cases: [Record<string, string | undefined>, string][] = [
    ...["PeerNameFlavour", "Name", "NickName", "UID", "ConnID"].map(
      (key): [Record<string, undefined>, string] => [{ [key]: undefined }, `field ${key} is missing`],
    ),
    [{ PeerNameFlavour: "hash" }, "Peer name flavour mismatch (ours: 'mac', theirs: 'hash')"],
    [{ NickName: "x".repeat(1_025) }, "nickname too long"],
    [{ UID: String(2n ** 64n) }, "field UID is not a number"],
    [{ ConnID: "-1" }, "field ConnID is not a number"],
    [{ ShortID: "4096" }, "field ShortID is not a number"],
    [{ Name: "x" }, "invalid peer name"],
  ];
  for (const [more, message] of cases) expect(() => read(more)).toThrow(message);
});

test("framing: the longest message, and no longer one; whatever is incomplete waits", () => {
  const framing = lengthPrefixed();
  expect([...framing.frame(Uint8Array.of(1, 2))]).toEqual([0, 0, 0, 2, 1, 2]);
  const frame = Uint8Array.of(0, 0, 0, 2, 1, 2, 9);
  for (let length = 0; length < 6; length++)
    expect(unframeAll(framing, frame.subarray(0, length))).toEqual([]);
  expect(unframeAll(framing, frame)).toEqual([Uint8Array.of(1, 2)]);
  expect(framing.frame(new Uint8Array(MAX_MESSAGE)).length).toBe(MAX_MESSAGE + 4);
  expect(() => framing.frame(new Uint8Array(MAX_MESSAGE + 1))).toThrow(
    "outgoing message exceeds maximum size",
  );
  const header = (length: number) => {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, length);
    return bytes;
  };
  expect(framing.lengthOf(header(MAX_MESSAGE))).toBe(MAX_MESSAGE + 4);
  expect(() => framing.lengthOf(header(MAX_MESSAGE + 1))).toThrow("incoming message exceeds maximum size");
  const gob = gobFramed();
  const framed = gob.frame(new Uint8Array(300).fill(3));
  expect(unframeAll(gob, framed)).toEqual([new Uint8Array(300).fill(3)]);
  for (const cut of [0, 1, 3, framed.length - 1])
    expect(unframeAll(gob, framed.subarray(0, cut))).toEqual([]);
  const gobHeader = (length: number) => gob.frame(new Uint8Array(length)).subarray(0, 10);
  expect(gob.lengthOf(gobHeader(MAX_MESSAGE - 16))).toBe(gob.frame(new Uint8Array(MAX_MESSAGE - 16)).length);
  expect(() => gob.lengthOf(gobHeader(MAX_MESSAGE + 1))).toThrow("gob message of");
  // The first byte is enough to refuse it.
  expect(() => gob.lengthOf(Uint8Array.of(0x80))).toThrow("gob number of 128 bytes");
});

test("a gossip sender sends one flush at a time, and none that is stopped, blocked, or empty", () => {
  const clock = new SimulatedClock();
  const sent: number[] = [];
  const runs: { work: Generator; done: (error?: Error) => void; givenUp: boolean }[] = [];
  const failures: string[] = [];
  const slices = {
    run(work: Generator, done: (error?: Error) => void) {
      const job = { work, done, givenUp: false };
      runs.push(job);
      return () => {
        job.givenUp = true;
      };
    },
  };
  const sender = new GossipSender(
    { clock, slices: slices as never, ourself: { name: name(1) }, buffers: new BufferBudget() },
    (pieces) => sent.push(pieces[0]?.[0] ?? 0),
    (error) => failures.push(error.message),
  );
  const add = (source?: PeerName) => sender.add("c", source, new RawGossip([Uint8Array.of(1)]));
  add();
  add(name(2));
  clock.advance(0);
  add();
  clock.advance(0);
  expect(runs).toHaveLength(1);
  while (!runs[0]?.work.next().done);
  expect(sent).toEqual([TAG.gossip, TAG.gossip, TAG.gossipBroadcast]);
  runs[0]?.done();
  sender.block();
  add();
  clock.advance(0);
  expect(runs).toHaveLength(1);
  sender.unblock();
  clock.advance(0);
  expect(runs).toHaveLength(2);
  runs[1]?.done(new Error("broken"));
  expect(failures).toEqual(["broken"]);
  add();
  clock.advance(0);
  sender.stop();
  expect(runs[2]?.givenUp).toBe(true);
  add();
  clock.advance(0);
  expect(runs).toHaveLength(3);
});
