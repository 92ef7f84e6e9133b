// One allocator with its disk and its neighbours: a step that fails changes nothing and can be repeated; contested
// ranges, votes and hand-overs.
import { describe, expect, test } from "bun:test";
import {
  cidrRange,
  formatRange,
  hostRange,
  parseCidr,
  rangeContains,
  rangeSize,
} from "../../lib/address/ipv4.ts";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce, finish } from "../../lib/clock/slices.ts";
import { Allocator } from "../../lib/ipam/allocator.ts";
import type { AllocatorConfig } from "../../lib/ipam/config.ts";
import type { RingState } from "../../lib/ipam/ring/entry.ts";
import type { AllocatorStore } from "../../lib/ipam/saved.ts";
import { decodeState, encodeRangeMessage, encodeState, MESSAGE } from "../../lib/ipam/wire.ts";
import { silentLog } from "../../lib/log/log.ts";
import { encodeTagged } from "../../lib/mesh/message.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { StoreError } from "../../lib/store/error.ts";
import { MemoryDisk } from "../support/allocators.ts";

const SUBNET = parseCidr("10.32.0.0/26");
const RANGE = cidrRange(SUBNET);
const SUBNET_HOSTS = hostRange(SUBNET);
const [ONE, TWO, THREE] = [1n, 2n, 3n].map(nameFromNumber) as [PeerName, PeerName, PeerName];

/** A disk that refuses only its n-th write after the start. */
function failing(disk: AllocatorStore, n: number) {
  const count = { started: false, writes: 0, refused: false };
  const write =
    <A extends unknown[]>(save: (...args: A) => void) =>
    (...args: A) => {
      if (count.started && ++count.writes === n) {
        count.refused = true;
        throw new StoreError("disk", "the disk is full");
      }
      save(...args);
    };
  const store: AllocatorStore = {
    ...disk,
    saveRing: write(disk.saveRing),
    saveVote: write(disk.saveVote),
    saveHolder: write(disk.saveHolder),
    forgetHolders: write(disk.forgetHolders),
    saveGateways: write(disk.saveGateways),
  };
  return { store, count };
}

/** Peer one of three that share the range in equal parts, and can reach each other as far as `reachable` says. */
function first(
  n = 0,
  reachable: PeerName[] = [],
  config: Partial<AllocatorConfig> = {},
  memory = new MemoryDisk(),
) {
  const clock = new SimulatedClock(1_000_000);
  const disk = memory.mount();
  const { store, count } = failing(disk, n);
  const sent: { to: PeerName | "all"; kind: number | undefined }[] = [];
  const allocator = new Allocator(
    {
      ourName: ONE,
      ourUid: 1n,
      ourNickName: "one",
      universe: SUBNET,
      seed: [ONE, TWO, THREE],
      observer: false,
      quorum: () => 1,
      isKnownPeer: (name) => reachable.includes(name),
      reachablePeers: () => reachable,
      ...config,
    },
    { clock, random: seededRandom(1n), log: silentLog, store },
  );
  allocator.start({
    unicast: (to, message) => sent.push({ to, kind: message[0] }) > 0,
    broadcast: () => void sent.push({ to: "all", kind: undefined }),
    neighbours: () => {},
  });
  count.started = true;
  const hear = (from: PeerName, message: Uint8Array) =>
    atOnce(finish(allocator.gossiper.onUnicast(from, message, from)));
  const state = () => ({
    ring: allocator.ring.state().entries,
    holders: new Map([...allocator.holders()].map(([id, { cidrs }]) => [id, cidrs])),
    owned: allocator.ring.ownedRanges(),
    used: allocator.report(SUBNET).ActiveIPs,
  });
  /** Receive the ring of a peer. */
  const say = (from: PeerName, ring: RingState) =>
    hear(
      from,
      encodeTagged(
        MESSAGE.ringUpdate,
        encodeState({ now: 0n, nicknames: new Map(), consensus: undefined, ring: { ...ring, peer: from } }),
      ),
    );
  /** Advance the clock, and let promises settle. */
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 50) {
      clock.advance(Math.min(50, ms - passed));
      for (let turn = 0; turn < 4; turn++) await Promise.resolve();
    }
  };
  return { allocator, clock, disk, count, sent, hear, say, pass, state };
}

type Subject = ReturnType<typeof first>;

test("a restarted router has the ring that it saved, whatever seed it gets", () => {
  const memory = new MemoryDisk();
  const { allocator, say, state } = first(0, [TWO], {}, memory);
  const before = allocator.ring.state();
  const entries = before.entries.map((entry) =>
    entry.peer === THREE ? { ...entry, peer: TWO, version: entry.version + 1 } : entry,
  );
  say(TWO, { ...before, entries });
  allocator.stop();
  const saved = state().ring;
  expect(saved.map(({ peer }) => peer)).toEqual([ONE, TWO, TWO]);
  for (const seed of [[ONE, TWO, THREE], [ONE], []])
    expect(first(0, [TWO], { seed }, memory).state().ring).toEqual(saved);
});

describe("a disk that refuses a write", () => {
  const holderOf = (subject: Subject, id: string) =>
    subject.allocator.leases(id)[0]?.address ?? expect.unreachable();

  /** Steps that change nothing where their write fails. */
  const STEPS: readonly (readonly [string, (subject: Subject) => unknown])[] = [
    ["allocate", ({ allocator }) => allocator.allocate("web", SUBNET)],
    ["allocate another", ({ allocator }) => allocator.allocate("db", SUBNET)],
    ["claim", ({ allocator }) => allocator.claim("own", parseCidr("10.32.0.9/26"))],
    ["claim what is outside the range", ({ allocator }) => allocator.claim("own", parseCidr("10.9.0.1/24"))],
    ["free", (subject) => subject.allocator.free("web", holderOf(subject, "web"))],
    ["give space away", ({ hear }) => hear(TWO, encodeRangeMessage(MESSAGE.spaceRequest, RANGE))],
    ["allocate again", ({ allocator }) => allocator.allocate("web", SUBNET)],
    [
      "take over from a peer that is gone",
      async ({ allocator, clock }) => {
        const taken = allocator.takeOver(THREE);
        clock.advance(3_000);
        expect(await taken).toBeGreaterThan(0);
      },
    ],
    ["release", ({ allocator }) => allocator.delete("db")],
  ];

  async function run(n: number) {
    const subject = first(n);
    let failed: string | undefined;
    for (const [name, step] of STEPS) {
      const before = subject.state();
      const refusedBefore = subject.count.refused;
      const attempt = async () => step(subject);
      const error: unknown = await attempt().then(
        () => undefined,
        (reason) => reason,
      );
      if (subject.count.refused && !refusedBefore) {
        failed = name;
        // Peers get no error, but a refusal.
        if (error !== undefined) expect(error).toBeInstanceOf(StoreError);
        expect(`${name}: ${JSON.stringify([...subject.state().holders])}`).toBe(
          `${name}: ${JSON.stringify([...before.holders])}`,
        );
        expect(subject.state()).toEqual(before);
        await attempt();
      } else if (error !== undefined) throw error;
    }
    // What could not be saved at once is saved by now.
    subject.clock.advance(20_000);
    const end = subject.state();
    expect(subject.disk.loadRing()?.entries).toEqual(end.ring);
    expect(new Map([...subject.disk.loadHolders()].map(([id, { cidrs }]) => [id, cidrs]))).toEqual(
      end.holders,
    );
    subject.allocator.stop();
    return { failed, writes: subject.count.writes, end };
  }

  test("at any point: nothing has changed, and the next attempt succeeds", async () => {
    const { writes, end } = await run(0);
    const failed = new Set<string>();
    for (let n = 1; n <= writes; n++) {
      const result = await run(n);
      if (result.failed) failed.add(result.failed);
      expect([...result.end.holders.keys()].sort()).toEqual([...end.holders.keys()].sort());
      expect([result.end.owned, result.end.used]).toEqual([end.owned, end.used]);
      expect(result.end.ring.map(({ token, peer }) => [token, peer])).toEqual(
        end.ring.map(({ token, peer }) => [token, peer]),
      );
    }
    expect([...failed].sort()).toEqual(STEPS.map(([name]) => name).sort());
  });
});

test("what another peer says is its own is given to nobody, until that is settled", async () => {
  const { allocator, hear, say, sent, clock } = first(0, [TWO, THREE]);
  await allocator.allocate("web", SUBNET);
  const ours = allocator.ring.ownedRanges();
  const before = allocator.ring.state();
  const theirs = before.entries.map((entry) =>
    entry.peer === ONE ? { ...entry, peer: TWO, version: 500 } : entry,
  );
  say(TWO, { ...before, entries: theirs });
  expect(allocator.contested.map(formatRange)).toEqual(ours.map(formatRange));
  sent.length = 0;
  for (let i = 0; i < 3; i++) hear(THREE, encodeRangeMessage(MESSAGE.spaceRequest, RANGE));
  expect(sent.filter(({ to }) => to === THREE).map(({ kind }) => kind)).toEqual(
    Array(3).fill([MESSAGE.ringUpdate, MESSAGE.spaceRequestDenied]).flat(),
  );
  expect(allocator.ring.ownedRanges()).toEqual(ours);
  // Nor to containers of ours.
  const waiting = allocator.allocate("db", SUBNET);
  expect(allocator.leases("db")).toEqual([]);
  // It gives in: all goes on.
  say(TWO, allocator.ring.state());
  expect(allocator.contested).toEqual([]);
  clock.advance(10_000);
  await waiting;
  hear(THREE, encodeRangeMessage(MESSAGE.spaceRequest, RANGE));
  expect(
    allocator.ring
      .ownedRanges(THREE)
      .some(({ start }) => ours.some((range) => range.start <= start && start < range.end)),
  ).toBe(true);
  allocator.stop();
});

test("of two take-overs at once, each is given to nobody for 2 s, neither by allocation nor by claim", async () => {
  const { allocator, pass } = first(0, [], { isKnownPeer: () => false });
  const [own] = allocator.ring.ownedRanges();
  const [theirs] = allocator.ring.ownedRanges(THREE);
  if (!own || !theirs) throw new Error("no ranges");
  const shares = [allocator.takeOver(TWO)];
  await pass(1_000);
  shares.push(allocator.takeOver(THREE));
  await pass(1_500);
  // The range of TWO may be used by now, that of THREE only in half a second.
  const settled: string[] = [];
  const wait = (what: string, request: Promise<unknown>) => request.then(() => settled.push(what));
  for (let i = rangeSize(own); i < rangeSize(SUBNET_HOSTS); i++)
    void wait("allocation", allocator.allocate(`c${i}`, SUBNET));
  void wait("claim", allocator.claim("own", { address: theirs.start + 5, prefix: 26 }));
  await pass(400);
  expect(settled).not.toContain("claim");
  const used = [...allocator.holders()].flatMap(([, { cidrs }]) => cidrs.map(({ address }) => address));
  expect(used.length).toBeGreaterThan(10);
  expect(used.filter((address) => rangeContains(theirs, address))).toEqual([]);
  await pass(200);
  expect(settled).toContain("claim");
  expect((await Promise.all(shares)).every((count) => count > 0)).toBe(true);
  allocator.stop();
});

test("a vote that cannot be saved is sent to nobody", async () => {
  const { allocator, pass, sent, count } = first(1, [TWO], { seed: [], quorum: () => 2 });
  allocator.prime().catch(() => {});
  await pass(100);
  expect(count.refused).toBe(true);
  expect(sent).toEqual([]);
  await pass(10_000);
  expect(sent).toContainEqual({ to: "all", kind: undefined });
  allocator.stop();
});

test("who leaves has left when its heir's ring says so, not when the heir owns something", async () => {
  const { allocator, say, pass } = first(0, [TWO]);
  const before = allocator.ring.state();
  let outcome: unknown = "waiting";
  const leave = () =>
    allocator.shutdown().then(
      () => {
        outcome = "left";
      },
      (error: unknown) => {
        outcome = error;
      },
    );
  void leave();
  for (let i = 0; i < 8; i++) {
    say(TWO, before);
    await pass(300);
  }
  expect(outcome).toBe("waiting");
  await pass(3_000);
  expect(String(outcome)).toContain("has not acknowledged");
  void leave();
  await pass(100);
  say(TWO, allocator.ring.state());
  await pass(100);
  expect(outcome).toBe("left");
  allocator.stop();
});

test("messages tell the time in seconds since the epoch: the original refuses what is an hour off", () => {
  const { allocator, clock } = first();
  const now = () =>
    [...(allocator.gossiper.gossip()?.encode() ?? [])].map((message) => decodeState(message).now);
  expect(now()).toEqual([1_700_000_000n]);
  clock.wallOffset += 3_600_000;
  expect(now()).toEqual([1_700_003_600n]);
  allocator.stop();
});
