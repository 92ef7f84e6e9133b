// weave ping: which peers are pinged, how many at a time, and what is said of those that do not answer questions.
import { describe, expect, test } from "bun:test";
import { type Random, seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { type Answerer, AskError } from "../../lib/mesh/ask.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { Pinger, type PingParts } from "../../lib/router/ping.ts";

const name = (n: number) => nameFromNumber(BigInt(n));
const settle = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

/** A router, number 1, that is connected to peers 2 … `count` + 1; `ask` answers its questions. */
function pinger(
  count: number,
  ask: (peer: PeerName, subject: string, body: object) => Promise<unknown> = async () => ({}),
  random: Random = seededRandom(1n),
) {
  const clock = new SimulatedClock();
  const peers = new Map(
    Array.from({ length: count }, (_, i) => [name(i + 2), { name: name(i + 2), nickName: `host${i + 2}` }]),
  );
  const asked: string[] = [];
  const admitted: string[] = [];
  const runs: string[] = [];
  const state = { running: 0, most: 0, received: undefined as number | undefined };
  const answerers = new Map<string, Answerer>();
  const lost: { name: PeerName; nickName: string; address: string; reason: string }[] = [];
  const without = new Set<PeerName>();
  const late = new Set<PeerName>();
  const addresses = new Map([...peers.keys()].map((peer, i) => [peer, { address: `10.0.0.${i + 2}:6783` }]));
  const parts = {
    mesh: {
      port: 6_783,
      ourself: { name: name(1), nickName: "host1", connections: addresses },
      peers: { get: (peer: PeerName) => peers.get(peer) },
      reachablePeers: () => [...peers.keys()],
      lost: { recent: () => lost },
      questions: {
        answer: (subject: string, answerer: Answerer) => answerers.set(subject, answerer),
        ask: (peer: PeerName, subject: string, body: object) => {
          asked.push(`${peer} ${subject}`);
          return ask(peer, subject, body);
        },
      },
    },
    overlay: {
      pathTo: (peer: { name: PeerName }) =>
        without.has(peer.name)
          ? undefined
          : { overlay: "fastdp", standby: ["sleeve"], via: undefined, inForce: !late.has(peer.name) },
    },
    probes: {
      admit: (session: bigint, peer: PeerName) => admitted.push(`${session} ${peer}`),
      async run(_session: bigint, peer: PeerName, way: string, probes: number) {
        runs.push(`${peer} ${way} ${probes}`);
        state.most = Math.max(state.most, ++state.running);
        await settle();
        state.running--;
        return { sent: probes, received: state.received ?? probes, roundTrips: [1], mtu: 1_376, errno: 0 };
      },
    },
    clock,
    random,
    mtu: () => 1_376,
  };
  const subject = new Pinger(parts as unknown as PingParts);
  return { subject, clock, peers, asked, runs, state, answerers, lost, without, late, admitted };
}

describe("peers are found", () => {
  test.each([
    ["by nickname", "host3"],
    ["by name, in any case", name(3).toUpperCase()],
    ["by address", "10.0.0.3"],
    ["by address and port", "10.0.0.3:6783"],
  ])("%s", async (_how, text) => {
    const { subject } = pinger(4);
    expect((await subject.ping([text, "host3"], 5)).map(({ peer }) => peer.nickname)).toEqual(["host3"]);
  });

  test("by no other text: one of another, our own, or of two is said to be that", async () => {
    const { subject, peers } = pinger(3);
    const twin = peers.get(name(2));
    if (twin) twin.nickName = "host3";
    await expect(subject.ping(["host9"], 5)).rejects.toThrow(
      "no peer \"host9\" is known; 'weave status peers' lists all",
    );
    await expect(subject.ping(["10.0.0"], 5)).rejects.toThrow('no peer "10.0.0" is known');
    for (const own of ["host1", name(1)])
      await expect(subject.ping([own], 5)).rejects.toThrow(`peer "${own}" is this host; name another`);
    await expect(subject.ping(["host3"], 5)).rejects.toThrow(
      `"host3" is the nickname of 2 peers; use a name, such as ${name(2)}`,
    );
  });
});

test("all peers are pinged, 8 at a time, by all overlays; of many, 48", async () => {
  const few = pinger(20);
  expect((await few.subject.ping([], 7)).length).toBe(20);
  expect([few.state.most, few.runs.length, few.runs[0]]).toEqual([8, 40, `${name(2)} route 7`]);
  expect(few.runs).toContain(`${name(2)} sleeve 7`);
  const many = pinger(60);
  const pinged = await many.subject.ping([], 1);
  expect([pinged.length, new Set(pinged.map(({ peer }) => peer.name)).size]).toEqual([48, 48]);
});

test("a result is of the path in use first, then of those that stand by", async () => {
  const arrived = { route: { probes: 5, largest: 1_390 } };
  const { subject } = pinger(1, async (_peer, what) => (what === "probed" ? arrived : {}));
  const [ping] = await subject.ping([], 5);
  expect(ping).toMatchObject({ networkMtu: 1_376, via: null, problem: null, note: null });
  expect(
    ping?.overlays.map(({ overlay, inUse, sent, received, mtu, problem }) => [
      overlay,
      inUse,
      sent,
      received,
      mtu,
      problem,
    ]),
  ).toEqual([
    ["fastdp", true, 5, 5, 1_376, null],
    ["sleeve", false, 5, 5, 1_376, null],
  ]);
});

test("a standby overlay is probed once the peer has it too, or after three checks 700 ms apart", async () => {
  for (const looks of [0, 1, 3, 9]) {
    let ready = looks;
    const { subject, runs, clock, asked } = pinger(1, async (_peer, what) =>
      what === "probed" ? { by: "fastdp", standby: ready-- > 0 ? [] : ["sleeve"] } : {},
    );
    const pinging = subject.ping([], 5);
    for (let i = 0; i < 5; i++) await settle();
    for (let look = 1; look <= Math.min(looks, 3); look++) {
      expect([asked.length, runs.length]).toEqual([1 + look, 1]);
      clock.advance(700);
      for (let i = 0; i < 5; i++) await settle();
    }
    await pinging;
    expect(runs).toEqual([`${name(2)} route 5`, `${name(2)} sleeve 5`]);
  }
});

test("the remedy names the UDP port of each overlay, and which way is at fault", async () => {
  const { subject, state } = pinger(1, async (_peer, what) =>
    what === "probed" ? { route: { probes: 0, largest: 0 }, sleeve: { probes: 5, largest: 1_390 } } : {},
  );
  state.received = 0;
  const [ping] = await subject.ping([], 5);
  expect(ping?.overlays.map(({ remedy }) => remedy?.split(",")[0])).toEqual([
    "open UDP 6784 from this host to host2",
    "open UDP 6783 from host2 to this host",
  ]);
});

describe("a peer", () => {
  test.each<[string, unknown, { problem: string | null; note: string | null }]>([
    [
      "of an older version",
      new AskError("unknown subject", "x"),
      { problem: null, note: expect.stringContaining("older version") as never },
    ],
    [
      "of the original",
      new AskError("not-ours", "x"),
      { problem: null, note: expect.stringContaining("Weave Net 2.x") as never },
    ],
    [
      "that is silent",
      new AskError("silent", "x"),
      { problem: "its router does not answer over the mesh", note: null },
    ],
    ["that refuses", new Error("no"), { problem: "it refuses probes: no", note: null }],
  ])("%s is sent no probes, and said to be that", async (_what, error, expected) => {
    const { subject, runs } = pinger(1, () => Promise.reject(error));
    const [{ problem = "", note = "" } = {}] = await subject.ping([], 5);
    expect({ problem, note }).toEqual(expected);
    expect(runs).toEqual([]);
  });

  test("that is silent because it was lost has the reason of that", async () => {
    const { subject, lost } = pinger(1, () => Promise.reject(new AskError("silent", "x")));
    lost.push({ name: name(2), nickName: "host2", address: "10.0.0.2:6783", reason: "no heartbeat" });
    expect((await subject.ping(["host2"], 5)).map(({ problem }) => problem)).toEqual([
      "not connected any more: no heartbeat",
    ]);
  });

  test("that was lost is named beside the others, unless it is back", async () => {
    const { subject, lost } = pinger(1);
    lost.push(
      { name: name(9), nickName: "host9", address: "10.0.0.9:6783", reason: "no heartbeat" },
      { name: name(2), nickName: "host2", address: "10.0.0.2:6783", reason: "closed" },
    );
    const all = await subject.ping([], 5);
    expect(all.map(({ peer, problem }) => [peer.nickname, problem])).toEqual([
      ["host2", null],
      ["host9", "not connected any more: no heartbeat"],
    ]);
    expect(all[1]?.remedy).toBe(
      `start weave at 10.0.0.9 again, or 'weave rmpeer ${name(9)}' if it is gone for good`,
    );
    for (const text of ["host9", name(9)])
      expect((await subject.ping([text], 5)).map(({ peer }) => peer.nickname)).toEqual(["host9"]);
  });

  test("without an overlay is asked nothing, after four looks for one, 700 ms apart", async () => {
    const { subject, clock, without, asked } = pinger(1);
    without.add(name(2));
    const ping = subject.ping([], 5);
    for (let passed = 0; passed < 3; passed++) {
      await settle();
      clock.advance(700);
    }
    expect((await ping)[0]?.problem).toBe("no overlay leads there");
    expect(asked).toEqual([]);
  });

  test("whose overlay is known a moment later is asked then", async () => {
    const { subject, clock, without, asked } = pinger(1);
    without.add(name(2));
    const ping = subject.ping([], 5);
    await settle();
    clock.advance(699);
    without.delete(name(2));
    await settle();
    expect(asked).toEqual([]);
    clock.advance(1);
    expect((await ping)[0]?.problem).toBe(null);
    expect(asked).not.toEqual([]);
  });

  test.each([1, 3])("is asked once its path is in force, or after four checks (%d)", async (looks) => {
    const { subject, clock, late, asked } = pinger(1);
    late.add(name(2));
    void subject.ping([], 5);
    for (let passed = 1; passed <= looks; passed++) {
      await settle();
      expect(asked).toEqual([]);
      if (looks === 1) late.delete(name(2));
      clock.advance(700);
    }
    await settle();
    expect(asked).not.toEqual([]);
  });

  test("is sent the session as 16 hexadecimal digits, however small it is", async () => {
    const told: object[] = [];
    const small = { ...seededRandom(1n), u64: () => 10n };
    const { subject } = pinger(1, async (_peer, _what, body) => ({ told: told.push(body) }), small);
    await subject.ping([], 5);
    const session = "000000000000000a";
    expect(told).toEqual([{ session }, { session, more: true }, { session }]);
  });

  test("that asks is answered once the return path is in force", async () => {
    const { answerers, clock, late, admitted } = pinger(1);
    late.add(name(2));
    let answered = false;
    void answerers
      .get("probe")?.({ session: "000000000000000a" }, name(2))
      .then(() => (answered = true));
    await settle();
    expect([admitted, answered]).toEqual([[`10 ${name(2)}`], false]);
    late.delete(name(2));
    clock.advance(700);
    await settle();
    expect(answered).toBe(true);
  });

  test("that is busy is asked four times, 700 ms apart", async () => {
    const { subject, clock, asked } = pinger(1, () => Promise.reject(new AskError("busy", "later")));
    const ping = subject.ping([], 5);
    await settle();
    for (let tries = 1; tries <= 4; tries++) {
      expect(asked.length).toBe(tries);
      clock.advance(699);
      await settle();
      expect(asked.length).toBe(tries);
      clock.advance(1);
      await settle();
    }
    expect((await ping)[0]?.problem).toContain("it refuses probes");
    expect(asked.length).toBe(4);
  });

  test("that does not say what has arrived leaves that unknown, and the rest as it is", async () => {
    const { subject } = pinger(1, (_peer, what) =>
      what === "probed" ? Promise.reject(new AskError("silent", "x")) : Promise.resolve({}),
    );
    expect((await subject.ping([], 5))[0]?.overlays.map(({ received }) => received)).toEqual([5, 5]);
  });
});

test("other hosts get one run of 5 probes for 10 s, whoever asks", async () => {
  const { answerers, clock, runs } = pinger(1);
  const ask = () => answerers.get("ping")?.({}, name(2));
  const first = await ask();
  clock.advance(10_000);
  expect(await ask()).toBe(first as never);
  expect(runs.filter((run) => run.endsWith("route 5")).length).toBe(1);
  clock.advance(1);
  await ask();
  expect(runs.filter((run) => run.endsWith("route 5")).length).toBe(2);
});
