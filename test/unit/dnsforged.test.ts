// Replies that are not the answer to what was asked: forged, late, or of another question (RFC 5452).

import { dlopen, FFIType } from "bun:ffi";
import { describe, expect, spyOn, test } from "bun:test";
import { closeSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { answers, exchange } from "../../lib/dns/exchange.ts";
import { Forwarder } from "../../lib/dns/forwarder.ts";
import * as causes from "../../lib/sys/connectcause.ts";
import { AF_INET, bindSocket, openSocket, sockaddrIn } from "../../lib/sys/socket.ts";
import { freePort } from "../support/freeport.ts";
import { randomOf } from "../support/seed.ts";

const random = randomOf("forged replies");
const label = (text: string) => [text.length, ...Buffer.from(text)];

/** A message with one question: an A record of www.example.com, unless told otherwise. */
function message({
  id = 0x1234,
  flags = 0x0100,
  name = "www.example.com",
  type = 1,
  klass = 1,
} = {}): Uint8Array {
  const question = [...name.split(".").flatMap(label), 0, 0, type, 0, klass];
  return Uint8Array.from([id >> 8, id & 255, flags >> 8, flags & 255, 0, 1, 0, 0, 0, 0, 0, 0, ...question]);
}
const REPLY = 0x8180;
const query = message();
const answer = Uint8Array.from([192, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 1]);
const withAnswer = (reply: Uint8Array, bytes = answer) => {
  const whole = Uint8Array.from([...reply, ...bytes]);
  whole[7] = 1;
  return whole;
};

describe("a reply is taken for the answer", () => {
  test.each<[string, boolean, Uint8Array]>([
    ["to this query", true, message({ flags: REPLY })],
    ["with records", true, withAnswer(message({ flags: REPLY }))],
    ["to the name in another case", true, message({ flags: REPLY, name: "WwW.eXample.COM" })],
    ["but not with another id", false, message({ flags: REPLY, id: 0x1235 })],
    ["but not with the id's bytes swapped", false, message({ flags: REPLY, id: 0x3412 })],
    ["but not of another name", false, message({ flags: REPLY, name: "wwx.example.com" })],
    ["but not of a name of another length", false, message({ flags: REPLY, name: "www.example.co" })],
    ["but not of the name's parent", false, message({ flags: REPLY, name: "example.com" })],
    ["but not of another type", false, message({ flags: REPLY, type: 28 })],
    ["but not of another class", false, message({ flags: REPLY, klass: 3 })],
    ["but not where labels are cut elsewhere", false, message({ flags: REPLY, name: "www-example.com" })],
    ["but not a query", false, query],
    ["but not of another opcode", false, message({ flags: REPLY | 0x2800 })],
    [
      "but not without a question, saying that all is well",
      false,
      Uint8Array.from([0x12, 0x34, 0x81, 0x80, ...Array(8).fill(0)]),
    ],
    [
      "without a question where the server could not read it",
      true,
      Uint8Array.from([0x12, 0x34, 0x81, 0x81, ...Array(8).fill(0)]),
    ],
    [
      "but not with two questions",
      false,
      Uint8Array.from([0x12, 0x34, 0x81, 0x80, 0, 2, ...message().slice(6)]),
    ],
  ])("%s", (_what, taken, reply) => {
    expect(answers(reply, query)).toBe(taken);
  });

  test("in any case of each of the 26 letters, and with no other byte changed in that bit", () => {
    const bytes = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)).filter(
      (char) => char !== ".",
    );
    const taken = bytes.filter((char) => {
      const flipped = String.fromCharCode(char.charCodeAt(0) ^ 0x20);
      if (flipped === ".") return false;
      const named = (name: string, flags: number) => {
        const encoded = message({ name: "x", flags });
        encoded[13] = name.charCodeAt(0);
        return encoded;
      };
      return answers(named(flipped, REPLY), named(char, 0x0100));
    });
    expect(taken.join("")).toBe("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
  });

  test("only whole: cut anywhere before the question's end it is none", () => {
    const reply = message({ flags: REPLY });
    for (let length = 0; length < reply.length; length++)
      expect(answers(reply.slice(0, length), query)).toBe(false);
  });

  test("with no byte of id, question, type and class changed but a letter's case", () => {
    const reply = message({ flags: REPLY });
    for (const at of [0, 1, ...reply.keys()].filter((i) => i < 2 || i >= 12)) {
      for (let bit = 0; bit < 8; bit++) {
        const forged = reply.slice();
        forged[at] = (forged[at] ?? 0) ^ (1 << bit);
        const byte = reply[at] ?? 0;
        const letter = at >= 12 && bit === 5 && /[a-z]/i.test(String.fromCharCode(byte));
        expect(`${at} ${bit} ${answers(forged, query)}`).toBe(`${at} ${bit} ${letter}`);
      }
    }
  });
});

describe.each(["udp", "tcp"] as const)("over %s", (transport) => {
  /** A server that says what it is told to for each query; over TCP it closes then where `closed` is given, and calls that. */
  async function server(replies: (query: Uint8Array) => readonly Uint8Array[], closed?: () => void) {
    if (transport === "udp") {
      const socket = await Bun.udpSocket({
        hostname: "127.0.0.1",
        socket: {
          data(self, data, port, address) {
            for (const reply of replies(new Uint8Array(data))) self.send(reply, port, address);
          },
        },
      });
      return { port: socket.port, stop: () => socket.close() };
    }
    const listener = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(self, data) {
          for (const reply of replies(new Uint8Array(data).slice(2)))
            self.write(Uint8Array.from([reply.length >> 8, reply.length & 255, ...reply]));
          if (closed) self.end();
        },
        close: () => closed?.(),
      },
    });
    return { port: listener.port, stop: () => listener.stop(true) };
  }

  test("an end of the connection is a failure before the answer, and none after it", async () => {
    if (transport === "udp") return;
    for (const answering of [true, false]) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const { port, stop } = await server((asked) => (answering ? [reply(asked, 1)] : []), resolve);
      using cause = spyOn(causes, "causeOfFailedConnect");
      const address = { hostname: "127.0.0.1", port };
      const got = await exchange(transport, address, query, 60_000, new AbortController().signal);
      await promise;
      // What the end of our side leads to.
      for (let i = 0; i < 3; i++) await new Promise((turn) => setImmediate(turn));
      expect([got !== undefined, cause.mock.calls.length]).toEqual([answering, answering ? 0 : 1]);
      stop();
    }
  });

  const reply = (asked: Uint8Array, last: number) => {
    const bytes = withAnswer(asked, answer.with(-1, last));
    bytes[2] = 0x81;
    return bytes;
  };
  /** As a forger sends them who does not see the query: everything right but the id, or the question. */
  const forged = (asked: Uint8Array) => {
    const wrongId = reply(asked, 66);
    wrongId.set([(asked[0] ?? 0) ^ (1 + random.below(255))]);
    const wrongName = reply(asked, 66);
    wrongName.set([(asked[13] ?? 0) ^ 1], 13);
    return [wrongId, wrongName, asked];
  };

  test("forged replies in front of the right one are passed over, and alone are no answer", async () => {
    let honest = true;
    const { port, stop } = await server((asked) => [...forged(asked), ...(honest ? [reply(asked, 1)] : [])]);
    try {
      const ask = (ms: number) =>
        exchange(transport, { hostname: "127.0.0.1", port }, query, ms, new AbortController().signal);
      expect((await ask(10_000))?.at(-1)).toBe(1);
      honest = false;
      expect(await ask(150)).toBeUndefined();
      honest = true;
      const forwarder = new Forwarder(() => ["127.0.0.1"], 10_000, port);
      const got = await forwarder.ask(query, transport, "10.0.0.1");
      expect([got?.at(-1), got?.[0], got?.[1]]).toEqual([1, 0x12, 0x34]);
    } finally {
      stop();
    }
  });
});

test("a server that answers no SYN takes no file any more, once it is given up", async () => {
  const SOCK_STREAM = 1;
  const { symbols, close } = dlopen("libc.so.6", {
    listen: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  });
  const port = freePort();
  const listener = openSocket("a full listener", AF_INET, SOCK_STREAM, 0);
  bindSocket("a full listener", listener, sockaddrIn(Uint8Array.of(127, 0, 0, 1), port));
  symbols.listen(listener, 0);
  const SYN_SENT = "02";
  const waiting = () =>
    readFileSync("/proc/net/tcp", "latin1")
      .split("\n")
      .filter((line) => line.includes(`:${port.toString(16).toUpperCase().padStart(4, "0")} ${SYN_SENT} `))
      .length;
  const until = async (count: number) => {
    while (waiting() !== count) await Bun.sleep(5);
  };
  // There is room for one, which nobody accepts.
  const fillers = [0, 1].map(() => connect(port, "127.0.0.1").on("error", () => {}));
  await until(1);
  const giveUp = new AbortController();
  const asked = [0, 1, 2].map(() =>
    exchange("tcp", { hostname: "127.0.0.1", port }, query, 60_000, giveUp.signal),
  );
  await until(4);
  giveUp.abort();
  expect(await Promise.all(asked)).toEqual([undefined, undefined, undefined]);
  await until(1);
  for (const filler of fillers) filler.destroy();
  closeSync(listener);
  close();
});
