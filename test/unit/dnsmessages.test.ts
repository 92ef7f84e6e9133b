// DNS messages as they come and go: what is a query, what belongs to it, what a reply repeats.
import { describe, expect, test } from "bun:test";
import packet from "dns-packet";
import { answers } from "../../lib/dns/exchange.ts";
import { Frames, frame } from "../../lib/dns/frames.ts";
import { inTurn } from "../../lib/dns/inturn.ts";
import { errorReply, questionEnd, RCODE, readQuery, writeReply } from "../../lib/dns/message.ts";
import { fc } from "../support/fastcheck.ts";

const RD = packet.RECURSION_DESIRED;
const query = (name: string, extra: object = {}) =>
  new Uint8Array(
    packet.encode({ id: 7, type: "query", flags: RD, questions: [{ name, type: "A" }], ...extra }),
  );
const opt = (ednsVersion: number, udpPayloadSize = 4096) => ({
  additionals: [
    {
      type: "OPT" as const,
      name: ".",
      udpPayloadSize,
      extendedRcode: 0,
      ednsVersion,
      flags: 0,
      flag_do: false,
      options: [],
    },
  ],
});
const changed = (bytes: Uint8Array, ...edits: [number, number][]) => {
  const copy = bytes.slice();
  for (const [at, value] of edits) copy[at] = value;
  return copy;
};

describe("a query", () => {
  const rcode = (bytes: Uint8Array) => {
    const read = readQuery(bytes);
    return read && "unreadable" in read ? read.unreadable.rcode : read && "query";
  };

  test("has one question, and little beside it", () => {
    const plain = query("a.b");
    expect(rcode(plain)).toBe("query");
    expect(rcode(query("a.b", opt(0)))).toBe("query");
    expect(rcode(changed(plain, [2, 0x80]))).toBeUndefined();
    expect(rcode(plain.subarray(0, 11))).toBeUndefined();
    expect(rcode(changed(plain, [2, 0x28]))).toBe(RCODE.notImplemented);
    for (const [at, value] of [
      [5, 0],
      [5, 2],
      [7, 4],
      [9, 255],
      [10, 1],
      [12, 0xc0],
      [12, 64],
    ] as const) {
      expect(rcode(changed(plain, [at, value]))).toBe(RCODE.formatError);
    }
    const txt = { type: "TXT" as const, name: "x", data: "1" };
    const beside = (count: number) => ({
      additionals: [...opt(0).additionals, ...Array.from({ length: count }, () => txt)],
    });
    expect([rcode(query("a.b", beside(2))), rcode(query("a.b", beside(3)))]).toEqual([
      "query",
      RCODE.formatError,
    ]);
    const two = { additionals: [...opt(0).additionals, ...opt(0).additionals] };
    expect(rcode(query("a.b", two))).toBe(RCODE.formatError);
  });

  test("of any bytes is read or refused, never more", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.boolean(), (bytes, looksLikeOne) => {
        const read = readQuery(looksLikeOne ? new Uint8Array([...query("").slice(0, 12), ...bytes]) : bytes);
        if (read && "query" in read)
          writeReply(read.query, { rcode: 3, authoritative: true, answers: [] }, true);
        else if (read) errorReply(read.unreadable);
      }),
    );
  });
});

describe("a reply", () => {
  const read = (bytes: Uint8Array) => {
    const found = readQuery(bytes);
    if (!found || !("query" in found)) throw new Error("no query");
    return found.query;
  };

  test("repeats the question to the byte, whatever is in it", () => {
    const asked = changed(query("WeB.x"), [13, 0xff], [14, 0x2e]);
    const reply = writeReply(read(asked), { rcode: 3, authoritative: true, answers: [] }, true);
    expect(reply.slice(12)).toEqual(asked.slice(12));
    expect(answers(reply, asked)).toBe(true);
  });

  test("has as many answers as fit", () => {
    const all = Array.from({ length: 200 }, (_, i) => ({
      type: "A" as const,
      name: "web.weave.local",
      ttl: 1,
      data: `10.0.0.${i}`,
    }));
    for (const [extra, most] of [
      [{}, 512],
      [opt(0, 700), 700],
      [opt(0, 65_535), 1232],
    ] as const) {
      const reply = writeReply(
        read(query("web.weave.local", extra)),
        { rcode: 0, authoritative: true, answers: all },
        true,
      );
      expect(reply.length).toBeLessThanOrEqual(most);
      expect(reply.length).toBeGreaterThan(most - 40);
      const { flag_tc, answers: sent } = packet.decode(Buffer.from(reply));
      expect([flag_tc, (sent?.length ?? 0) > 10]).toEqual([true, true]);
    }
  });

  test("to a version of EDNS that we do not know says so", () => {
    const reply = writeReply(
      read(query("a.b", opt(1))),
      { rcode: RCODE.badVersion, authoritative: false, answers: [] },
      true,
    );
    const { additionals } = packet.decode(Buffer.from(reply));
    expect([(reply[3] ?? 0) & 15, additionals]).toEqual([
      0,
      [expect.objectContaining({ type: "OPT", extendedRcode: 1, ednsVersion: 0 })],
    ]);
  });

  test("to what cannot be read repeats id, opcode and recursion desired", () => {
    const found = readQuery(changed(query("a.b"), [2, 0x29]));
    if (!found || !("unreadable" in found)) throw new Error("that can be read");
    expect([...errorReply(found.unreadable).slice(0, 4)]).toEqual([0, 7, 0x80 | 0x29, 0x84]);
  });
});

describe("an answer of another server", () => {
  const asked = query("Www.Example.com");
  const reply = changed(asked, [2, 0x81], [3, 0x80]);

  test("belongs to a query by id, opcode and question", () => {
    expect(answers(reply, asked)).toBe(true);
    expect(answers(changed(reply, [13, "w".charCodeAt(0)]), asked)).toBe(true);
    const end = questionEnd(asked) ?? 0;
    for (const forged of [
      asked,
      changed(reply, [0, 1]),
      changed(reply, [1, 8]),
      changed(reply, [2, 0x91]),
      changed(reply, [13, "v".charCodeAt(0)]),
      changed(reply, [end - 3, 28]),
      changed(reply, [end - 1, 3]),
      changed(reply, [5, 2]),
      reply.slice(0, end - 1),
      // Without the question: an error may be, an answer not.
      changed(reply, [5, 0]),
      changed(reply, [5, 0], [3, 0x83]),
    ]) {
      expect(answers(forged, asked)).toBe(false);
    }
    expect(answers(changed(reply, [5, 0], [3, 0x81]).slice(0, 12), asked)).toBe(true);
  });
});

describe("asking in turn", () => {
  const never = () => new Promise<undefined>(() => {});

  test("takes the first good answer, else the first poor one, else none", async () => {
    const good = async () => ({ good: "good" });
    const poor = (text: string) => async () => ({ poor: text });
    expect(await inTurn([poor("a"), poor("b"), good, never], 1e6)).toBe("good");
    expect(await inTurn([poor("a"), async () => undefined, poor("b")], 1e6)).toBe("a");
    expect(await inTurn([async () => undefined, () => Promise.reject(new Error("no"))], 1e6)).toBeUndefined();
    expect(await inTurn([], 1e6)).toBeUndefined();
  });

  test("does not wait for the silent, calls the others off, and takes a late answer", async () => {
    const aborted: string[] = [];
    const silent = (cancel: AbortSignal) => {
      cancel.addEventListener("abort", () => aborted.push("silent"));
      return never();
    };
    expect(await inTurn([silent, async () => ({ good: 1 })], 1)).toBe(1);
    expect(aborted).toEqual(["silent"]);
    const { promise, resolve } = Promise.withResolvers<{ good: number }>();
    const second = async () => {
      resolve({ good: 2 });
      return undefined;
    };
    expect(await inTurn([() => promise, second], 1)).toBe(2);
  });
});

test("messages over TCP come out whole, however they are cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 300 })),
      fc.integer({ min: 1, max: 700 }),
      (messages, size) => {
        const out: Uint8Array[] = [];
        const frames = new Frames();
        const stream = Buffer.concat(messages.map(frame));
        for (let at = 0; at < stream.length; at += size) {
          frames.push(stream.subarray(at, at + size));
          out.push(...frames);
        }
        expect(out.map((bytes) => Buffer.from(bytes))).toEqual(messages.map((bytes) => Buffer.from(bytes)));
      },
    ),
  );
});
