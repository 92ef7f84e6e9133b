// What one peer sends others about the ring, whom it asks for space, and what it gives: how often, and how much.
import { describe, expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { RingMessenger } from "../../lib/ipam/messenger.ts";
import { Nicknames } from "../../lib/ipam/nicknames.ts";
import { DonationQuota } from "../../lib/ipam/quota.ts";
import { SpaceRequests } from "../../lib/ipam/spacerequests.ts";
import { decodeRange, decodeState, MESSAGE } from "../../lib/ipam/wire.ts";
import { nameFromNumber, type PeerName, UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import { ONE, onePeer, SUBNET, THREE, TWO } from "../support/onepeer.ts";

const name = (i: number) => nameFromNumber(BigInt(i));
const RING = { start: 0, end: 64, entries: [], seeds: [ONE], peer: ONE };

/** A messenger whose channel reaches all but THREE. */
function messenger() {
  const clock = new SimulatedClock(1_000_000, 1_700_000_000_999);
  const sent: { to: PeerName | "all"; message: Uint8Array }[] = [];
  const nicknames = new Map([[ONE, "one"]]);
  const state = { nicknames, consensus: undefined, ring: RING };
  const subject = new RingMessenger({ clock, random: { float: () => 0.5, u64: () => 0n } }, () => state);
  const open = () =>
    subject.open({
      unicast: (to, message) => to !== THREE && sent.push({ to, message }) > 0,
      broadcast: (data) => void sent.push({ to: "all", message: [...data.encode()][0] ?? new Uint8Array() }),
      neighbours() {},
    });
  return { clock, sent, subject, open, state };
}

describe("the messenger", () => {
  test("sends nothing before there is a channel, and says so", () => {
    const { subject, sent, open } = messenger();
    expect([subject.vote(TWO), subject.requestSpace(TWO, { start: 1, end: 2 })]).toEqual([false, false]);
    subject.broadcast();
    open();
    expect([subject.vote(TWO), subject.vote(THREE)]).toEqual([true, false]);
    expect(sent.map(({ to }) => to)).toEqual([TWO]);
  });

  test("exchanges rings by a ring and a question, and asks nobody that no route leads to", () => {
    const { subject, sent, open } = messenger();
    open();
    subject.exchange(TWO);
    subject.exchange(THREE);
    const states = sent.map(({ message }) => {
      expect(message[0]).toBe(MESSAGE.ringUpdate);
      return decodeState(message.subarray(1));
    });
    expect(
      states.map(({ ring, consensus, nicknames, now }) => [ring, consensus, [...nicknames], now]),
    ).toEqual([
      [RING, undefined, [[ONE, "one"]], 1_700_000_000n],
      [undefined, undefined, [[ONE, "one"]], 1_700_000_000n],
    ]);
  });

  test("corrects a peer once a second, each for itself, and no more than 1,024 a second", () => {
    const { subject, sent, open, clock } = messenger();
    open();
    const count = () => sent.splice(0).length;
    subject.correct(TWO);
    clock.advance(999);
    subject.correct(TWO);
    subject.correct(name(4));
    expect(sent.splice(0).map(({ to }) => to)).toEqual([TWO, name(4)]);
    clock.advance(1);
    subject.correct(TWO);
    subject.correct(name(4));
    expect(sent.splice(0).map(({ to }) => to)).toEqual([TWO]);
    clock.advance(1_000);
    for (let i = 0; i < 1_030; i++) subject.correct(name(10 + i));
    expect(count()).toBe(1_024);
    clock.advance(1_000);
    subject.correct(name(2_000));
    expect(count()).toBe(1);
  });

  test("broadcasts several changes once, within a second at random, and then again", () => {
    const { subject, sent, open, clock } = messenger();
    open();
    for (let round = 0; round < 2; round++) {
      subject.broadcastSoon();
      clock.advance(100);
      subject.broadcastSoon();
      clock.advance(399);
      expect(sent).toEqual([]);
      clock.advance(1);
      expect(sent.splice(0).map(({ to }) => to)).toEqual(["all"]);
      clock.advance(2_000);
      expect(sent).toEqual([]);
    }
    subject.broadcastSoon();
    subject.stop();
    clock.advance(2_000);
    expect(sent).toEqual([]);
  });

  test("asks for a range, and denies one", () => {
    const { subject, sent, open } = messenger();
    open();
    expect(subject.requestSpace(TWO, { start: 8, end: 2 ** 32 })).toBe(true);
    subject.denySpace(TWO, { start: 4, end: 5 });
    expect(sent.map(({ message }) => [message[0], decodeRange(message.subarray(1))])).toEqual([
      [MESSAGE.spaceRequest, { start: 8, end: 2 ** 32 }],
      [MESSAGE.spaceRequestDenied, { start: 4, end: 5 }],
    ]);
  });

  test("gossips what holds when it is sent, however much was joined", () => {
    const { subject, state } = messenger();
    const data = subject.gossip();
    const joined = data.join([subject.gossip()]);
    state.nicknames.set(TWO, "two");
    expect([data.bytes, [...joined.encode()].length]).toEqual([0, 1]);
    expect(decodeState([...joined.encode()][0] ?? new Uint8Array()).nicknames.get(TWO)).toBe("two");
  });
});

describe("requests for space", () => {
  const subject = (routes: readonly PeerName[]) => {
    const clock = new SimulatedClock(5_000);
    const asked: string[] = [];
    const requests = new SpaceRequests(
      { clock, random: { float: () => 0.5, u64: () => 0n } },
      {
        requestSpace: (peer, { start, end }) => {
          asked.push(`${Number(`0x${peer.slice(-2)}`)} ${start}-${end}`);
          return routes.includes(peer);
        },
      },
      { donors: (start) => (start === 99 ? [] : [ONE, TWO, THREE]) },
    );
    return { clock, requests, said: () => asked.splice(0) };
  };

  test("go to the first donor that a route leads to, once a second for a range, sooner after an answer", () => {
    const { clock, requests, said } = subject([TWO, THREE]);
    const range = { start: 0, end: 8 };
    requests.ask(range);
    expect(said()).toEqual(["1 0-8", "2 0-8"]);
    requests.ask({ start: 8, end: 16 });
    expect(said()).toEqual(["1 8-16", "2 8-16"]);
    clock.advance(999);
    requests.ask(range);
    expect(said()).toEqual([]);
    clock.advance(1);
    requests.ask(range);
    expect(said()).toEqual(["1 0-8", "2 0-8"]);
    requests.answered();
    requests.ask(range);
    expect(said()).toEqual(["1 0-8", "2 0-8"]);
  });

  test("that reach nobody are repeated with the next attempt", () => {
    const { requests, said } = subject([]);
    for (let i = 0; i < 2; i++) {
      requests.ask({ start: 0, end: 8 });
      expect(said()).toHaveLength(3);
    }
    requests.ask({ start: 99, end: 100 });
    expect(said()).toEqual([]);
  });
});

describe("the quota of a peer", () => {
  const limited = (quota: DonationQuota, now: number) =>
    quota.limits({ now: () => now, wall: () => now }, (peer) => `<${peer.slice(-2)}>`);

  test("is no limit while it has got no more than is left, then 1/1024 of that a second, at least 1", () => {
    const quota = new DonationQuota();
    expect(quota.allowance(TWO, 100, 0)).toBe(Number.POSITIVE_INFINITY);
    quota.granted(TWO, 100, 0);
    expect(quota.allowance(TWO, 100, 0)).toBe(Number.POSITIVE_INFINITY);
    expect(limited(quota, 0)).toEqual([]);
    expect(quota.allowance(TWO, 99, 999)).toBe(0);
    expect(quota.allowance(TWO, 99, 1_000)).toBe(1);
    quota.granted(TWO, 5_000, 2_000);
    expect([quota.allowance(TWO, 2_047, 3_000), quota.allowance(TWO, 2_048, 3_000)]).toEqual([1, 2]);
    // Others have their own.
    expect(quota.allowance(THREE, 1, 3_000)).toBe(Number.POSITIVE_INFINITY);
    expect(limited(quota, 3_000)).toEqual([
      "peer <02> asks for more addresses than its share: 5100 granted since 1970-01-01T00:00:00Z; further ones are rate-limited",
    ]);
  });

  test("of requests is 32 at once, then 4 a second", () => {
    const quota = new DonationQuota();
    const granted = (now: number) => {
      let count = 0;
      while (quota.allowance(TWO, 10, now) > 0) count++;
      return count;
    };
    expect([granted(0), granted(249), granted(250), granted(2_250)]).toEqual([32, 0, 1, 8]);
    expect(granted(100_000)).toBe(32);
  });

  test("begins anew after 10 min; the status shows it as long", () => {
    const quota = new DonationQuota();
    quota.allowance(TWO, 10, 0);
    quota.granted(TWO, 20, 0);
    expect(quota.allowance(TWO, 10, 500)).toBe(0);
    const MINUTES = 10 * 60_000;
    expect(limited(quota, 500 + MINUTES - 1)).toHaveLength(1);
    expect(limited(quota, 500 + MINUTES)).toEqual([]);
    expect(quota.allowance(TWO, 10, MINUTES)).toBe(1);
    expect(quota.allowance(TWO, 10, MINUTES + 1)).toBe(Number.POSITIVE_INFINITY);
    // What is shown is not forgotten with the account.
    expect(limited(quota, MINUTES + 2)).toHaveLength(1);
  });

  test("is kept for the 1,024 peers that asked last", () => {
    const quota = new DonationQuota();
    const exceed = (i: number) => {
      quota.allowance(name(i), 10, 0);
      quota.granted(name(i), 20, 0);
    };
    for (let i = 1; i <= 1_024; i++) exceed(i);
    expect(quota.allowance(name(1), 10, 500)).toBe(0);
    exceed(1_025);
    expect([1, 2].map((i) => quota.allowance(name(i), 10, 600))).toEqual([0, Number.POSITIVE_INFINITY]);
  });
});

describe("nicknames", () => {
  test("are 4,096 at most: those of wanted peers take the place of others; what is known is updated", () => {
    const nicknames = new Nicknames();
    nicknames.learn([[ONE, "one"]]);
    nicknames.learn(Array.from({ length: 5_000 }, (_, i) => [name(100 + i), `h${i}`] as const));
    expect(nicknames.all.size).toBe(4_096);
    nicknames.learn([[ONE, "first"]], () => false);
    nicknames.learn([[TWO, "two"]], () => false);
    expect([nicknames.get(ONE), nicknames.get(TWO)]).toEqual(["first", undefined]);
    nicknames.learn([[TWO, "two"]], (peer) => peer === ONE || peer === TWO);
    expect([...nicknames.all]).toEqual([
      [ONE, "first"],
      [TWO, "two"],
    ]);
    let asked = 0;
    const isWanted = (peer: PeerName) => ++asked > 0 && peer > name(99);
    nicknames.learn(
      Array.from({ length: 20_000 }, (_, i) => [name(100 + i), "h"] as const),
      isWanted,
    );
    expect([nicknames.all.size, nicknames.get(ONE)]).toEqual([4_096, undefined]);
    // Each name that is new, and once each that is known.
    expect(asked).toBeLessThan(20_000 + 4_096);
    const wanted = new Nicknames();
    wanted.learn(Array.from({ length: 4_097 }, (_, i) => [name(100 + i), "h"] as const));
    expect([wanted.all.size, wanted.get(name(100 + 4_096))]).toEqual([4_096, undefined]);
  });

  test("are those that peers have now, whatever gossip tells of their past; told on, too", async () => {
    const now = new Map([
      [ONE, "renamed"],
      [TWO, "two"],
    ]);
    const reachable = [TWO];
    const { allocator, tell, said, sent } = onePeer({
      reachable,
      config: { nicknameOf: (peer) => now.get(peer) },
    });
    const nicknames = new Map([ONE, TWO, THREE].map((peer) => [peer, `old ${peer.slice(-1)}`]));
    tell(TWO, { nicknames });
    const shown = () => allocator.report(SUBNET).Entries?.map(({ Nickname }) => Nickname);
    expect(shown()).toEqual(["renamed", "two", "old 3"]);
    expect(sent.findLast(({ to }) => to === TWO)?.state?.nicknames).toEqual(
      new Map([...now, [THREE, "old 3"]]),
    );
    expect(said()).toContain(`ring ${TWO}`);
    // One that is gone keeps the last that is known.
    now.delete(TWO);
    reachable.pop();
    allocator.peersGone([{ name: TWO, nickName: "two" }]);
    expect(shown()).toEqual(["renamed", "two", "old 3"]);
    await expect(allocator.takeOver("old 2")).rejects.toThrow('no peer "old 2" owns addresses');
    expect(await Promise.race([allocator.takeOver("two"), "taken over"])).toBe("taken over");
    allocator.stop();
  });

  test("have 255 characters at most, stand behind the name, and find all peers that have one", () => {
    const nicknames = new Nicknames();
    nicknames.learn([
      [ONE, "x".repeat(300)],
      [TWO, "same"],
      [THREE, "same"],
    ]);
    expect(nicknames.get(ONE)).toHaveLength(255);
    expect([nicknames.annotate(TWO), nicknames.annotate(name(9))]).toEqual([`${TWO}(same)`, name(9)]);
    expect(["same", TWO, "::9", "nobody", ""].map((text) => nicknames.find(text))).toEqual([
      [TWO, THREE],
      [TWO],
      [name(9)],
      [],
      [],
    ]);
    nicknames.prune((peer) => peer !== TWO);
    expect(nicknames.find("same")).toEqual([THREE]);
    expect(nicknames.find(UNKNOWN_PEER)).toEqual([UNKNOWN_PEER]);
  });
});
