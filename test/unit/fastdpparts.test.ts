// Parts of a fast datapath's connection: the health of its path, and the heartbeats of its peer.
import { describe, expect, test } from "bun:test";
import { PathHealth, silence } from "../../lib/overlay/fastdp/health.ts";
import { PeerHeartbeats } from "../../lib/overlay/fastdp/peerheartbeats.ts";

describe("the health of a path", () => {
  function subject() {
    const told: (string | undefined)[] = [];
    const state = { link: undefined as string | undefined };
    const health = new PathHealth({
      port: 6784,
      linkTrouble: () => state.link,
      health: (trouble) => told.push(trouble?.cause),
    });
    return { health, told, state };
  }

  test("is told when it changes, with trouble of links before that of heartbeats", () => {
    const { health, told, state } = subject();
    health.tell();
    health.set(silence("nothing came", 6784));
    health.set(silence("nothing came", 6784));
    expect([told, health.isTroubled, health.works]).toEqual([["silent"], true, false]);
    state.link = "down";
    health.tell();
    health.set(undefined);
    expect([told, health.isTroubled, health.works]).toEqual([["silent", "links"], false, false]);
    state.link = undefined;
    health.tell();
    expect([told, health.works]).toEqual([["silent", "links", undefined], true]);
    health.stop();
    health.set(silence("nothing came", 6784));
    expect(told).toHaveLength(3);
  });

  test("is told again of a path that is established: that implied none", () => {
    const { health, told, state } = subject();
    state.link = "down";
    health.set(silence("nothing came", 6784));
    health.established();
    expect([told, health.isTroubled]).toEqual([["links", "links"], false]);
  });

  test("recovers by three acknowledgements in a row, since the trouble is what it is", () => {
    const { health } = subject();
    const acknowledge = (count: number) => {
      for (let i = 0; i < count; i++) health.acknowledged();
      return health.isRecovered;
    };
    expect([acknowledge(2), acknowledge(1)]).toEqual([false, true]);
    health.unacknowledged();
    expect([acknowledge(2), acknowledge(1)]).toEqual([false, true]);
    health.set(silence("nothing came", 6784));
    expect([acknowledge(2), acknowledge(1)]).toEqual([false, true]);
  });
});

describe("heartbeats of a peer", () => {
  test("are acknowledged: the first, and those within 5 s after another", () => {
    const theirs = new PeerHeartbeats(true);
    expect(theirs.any).toBe(false);
    expect([0, 5_000, 9_999, 14_999].map((at) => theirs.take(at))).toEqual([true, false, true, false]);
    expect(theirs.any).toBe(true);
    const original = new PeerHeartbeats(false);
    expect([0, 1_000, 2_000].map((at) => original.take(at))).toEqual([true, false, false]);
  });

  test("are acknowledged once when the peer asks, if one came lately that was not", () => {
    const theirs = new PeerHeartbeats(true);
    expect([theirs.answersQuestion(0), theirs.take(0), theirs.answersQuestion(1)]).toEqual([
      false,
      true,
      false,
    ]);
    theirs.take(10_000);
    expect([theirs.answersQuestion(14_999), theirs.answersQuestion(14_999)]).toEqual([true, false]);
    theirs.take(30_000);
    expect(theirs.answersQuestion(35_000)).toBe(false);
  });

  test("are missing 12.5 s after the last, which counts once", () => {
    const theirs = new PeerHeartbeats(true);
    theirs.take(0);
    expect([12_499, 12_500, 12_501, 25_000].map((at) => theirs.misses(at))).toEqual([
      false,
      true,
      false,
      true,
    ]);
  });
});
