// DNS over TCP, on loopback: a client that does not keep up has all of its questions answered in the end.
import { heapStats } from "bun:jsc";
import { afterEach, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import type { Handler } from "../../lib/dns/listener.ts";
import { listenTcp } from "../../lib/dns/tcp.ts";
import { silentLog } from "../../lib/log/log.ts";
import { freePort } from "../support/freeport.ts";
import { eventually } from "../support/hosts.ts";

const ends: (() => unknown)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A client of a listener with this handler; it does not read before it is told to. */
async function clientOf(handle: Handler): Promise<Socket> {
  const port = freePort();
  const listener = listenTcp("127.0.0.1", port, handle, silentLog);
  ends.push(() => listener.close());
  const socket = connect({ host: "127.0.0.1", port });
  ends.push(() => socket.destroy());
  const connected = Promise.withResolvers<void>();
  socket.once("connect", () => connected.resolve());
  socket.once("error", (error) => connected.reject(error));
  await connected.promise;
  return socket;
}

/** A framed question of this number. */
const question = (id: number) => Uint8Array.of(0, 2, id >> 8, id & 255);

/** Numbers of the replies in a stream of framed ones. */
function numbersIn(stream: Buffer): number[] {
  const found: number[] = [];
  for (let at = 0; at + 4 <= stream.length; at += 2 + stream.readUInt16BE(at))
    found.push(stream.readUInt16BE(at + 2));
  return found;
}

const REPLY = 65_000;
/** More than the sockets of both ends take (tcp_wmem, tcp_rmem), and 256 KiB. */
const QUESTIONS = 220;

test("a client that asks much, and reads only after its replies have piled up, gets every one, in order", async () => {
  let asked = 0;
  const client = await clientOf((bytes, _transport, _from, answer) => {
    asked++;
    const reply = Buffer.alloc(REPLY);
    reply.set(bytes.subarray(0, 2));
    answer(reply);
  });
  client.write(Buffer.concat(Array.from({ length: QUESTIONS }, (_, i) => question(i))));
  let before = -1;
  await eventually(
    "no more questions are taken up",
    () => {
      const isStill = asked > 0 && asked === before;
      before = asked;
      return isStill;
    },
    (isStill) => isStill,
  );
  // The rest waits in the sockets, not as replies.
  expect(asked).toBeLessThan(QUESTIONS);
  const chunks: Buffer[] = [];
  let length = 0;
  client.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    length += chunk.length;
  });
  const whole = QUESTIONS * (REPLY + 2);
  await eventually(
    "all replies are there",
    () => length,
    (found) => found >= whole,
  );
  expect(numbersIn(Buffer.concat(chunks))).toEqual(Array.from({ length: QUESTIONS }, (_, i) => i));
}, 300_000);

test("questions that wait are the bytes that they came in: a container that sends empty ones takes no more memory", async () => {
  const EMPTY = 20_000;
  const held: (() => void)[] = [];
  let asked = 0;
  let holding = true;
  const client = await clientOf((_bytes, _transport, _from, answer) => {
    asked++;
    if (holding) held.push(() => answer(undefined));
    else answer(undefined);
  });
  const arrays = () => {
    Bun.gc(true);
    return heapStats().objectTypeCounts["Uint8Array"] ?? 0;
  };
  const before = arrays();
  client.write(Buffer.alloc(2 * EMPTY));
  await eventually(
    "as many as may be open are",
    () => held.length,
    (open) => open === 32,
  );
  expect(arrays() - before).toBeLessThan(1_000);
  holding = false;
  for (const answer of held) answer();
  await eventually(
    "all are taken up in the end",
    () => asked,
    (all) => all === EMPTY,
  );
}, 300_000);
