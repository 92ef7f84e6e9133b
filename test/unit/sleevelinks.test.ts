// What the sleeve engine keeps of each link: counters of its own, directions of nonces, and nothing of the link before it.
import { describe, expect, test } from "bun:test";
import { COUNTERS, Counters, MAX_LINKS } from "../../lib/overlay/sleeve/counters.ts";
import { Link } from "../../lib/overlay/sleeve/link.ts";

describe("counters", () => {
  test("of a link are its own, also those of the first and the last one", () => {
    const counters = new Counters();
    for (const [i, link] of [0, 1, MAX_LINKS - 1].entries()) {
      counters.noteHeard(link, 100 + i);
      counters.countSent(link, 200 + i, 1_000 + i);
      counters.countSent(link, 300 + i, 1);
      counters.countReceived(link, 10 + i);
      counters.noteSendResult(link, 90 + i);
    }
    const of = (link: number) => [
      ...[counters.lastHeard(link), counters.lastCarried(link), counters.refusal(link)],
      counters.frames(link),
    ];
    expect(of(0)).toEqual([100, 300, 90, { received: 10, sent: 1_001 }]);
    expect(of(1)).toEqual([101, 301, 91, { received: 11, sent: 1_002 }]);
    expect(of(MAX_LINKS - 1)).toEqual([102, 302, 92, { received: 12, sent: 1_003 }]);
    expect(of(2)).toEqual([0, 0, 0, { received: 0, sent: 0 }]);
  });

  test("of a number that is used again begin at 0, and those beside it stay", () => {
    const counters = new Counters();
    for (const link of [4, 5, 6]) {
      counters.noteHeard(link, link);
      counters.countSent(link, link + 10, link + 20);
      counters.countReceived(link, link + 30);
      counters.noteSendResult(link, link + 40);
    }
    counters.resetLink(5);
    const of = (link: number) => [
      ...[counters.lastHeard(link), counters.lastCarried(link), counters.refusal(link)],
      counters.frames(link),
    ];
    expect([4, 5, 6].map(of)).toEqual([
      [4, 14, 44, { received: 34, sent: 24 }],
      [0, 0, 0, { received: 0, sent: 0 }],
      [6, 16, 46, { received: 36, sent: 26 }],
    ]);
  });

  test("of the engine do not touch those of links, and are the same for the other thread", () => {
    const counters = new Counters();
    for (const counter of Object.values(COUNTERS)) counters.add(counter, counter + 1);
    expect(counters.lastHeard(0)).toBe(0);
    counters.noteHeard(0, 7);
    const other = new Counters(counters.memory);
    expect(other.lastHeard(0)).toBe(7);
    other.noteHeard(0, 8);
    expect(counters.lastHeard(0)).toBe(8);
  });
});

describe("a link", () => {
  const link = (outbound: boolean) => new Link({ peer: 9, outbound } as never);

  test("begins with its peer, and no limit of size", () => {
    expect(link(true)).toMatchObject({ peer: 9, settings: { mtu: 65_535, fragments: false } });
  });

  test("sends nonces with the first bit where it has dialled, and expects them without; the other end the other way", () => {
    const first = ({ sendNonce, receiveNonce }: Link) =>
      [sendNonce, receiveNonce].map((nonce) => nonce.toHex());
    const [marked, plain] = [`80${"00".repeat(23)}`, "00".repeat(24)];
    expect(first(link(true))).toEqual([marked, plain]);
    expect(first(link(false))).toEqual([plain, marked]);
  });
});
