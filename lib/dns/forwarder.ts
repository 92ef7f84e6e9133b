// Asks other nameservers what we do not know: one after the other until one answers, over the transport that the client
// has used, so that an answer cut short for UDP is asked for again over TCP by whoever wants all of it.
import { randomInt } from "node:crypto";
import { ReceiveBuffer } from "../mesh/receivebuffer.ts";
import { messageId, withId } from "./message.ts";

const PORT = 53;
/** Questions that may be on their way at a time. */
const MAX_IN_FLIGHT = 1_000;

export type TransportName = "udp" | "tcp";

/** A question that comes back from the very server that it was passed on to. */
export class LoopError extends Error {
  override readonly name = "LoopError";
}

export class Forwarder {
  /** Answers on their way, by transport and question. */
  readonly #inFlight = new Map<string, Promise<Uint8Array | undefined>>();

  constructor(
    /** Servers to ask, in order; without our own addresses. */
    private readonly servers: () => readonly string[],
    private readonly timeoutMs: number,
    private readonly port = PORT,
  ) {}

  /**
   * The answer to a query, under the query's id; undefined where nobody gives one. The same question is asked once at a
   * time: a loop of servers that ask each other ends with the first round. Rejects with LoopError where one of the
   * servers asks back what it is being asked.
   */
  async ask(query: Uint8Array, transport: TransportName, from: string): Promise<Uint8Array | undefined> {
    const key = `${transport} ${query.subarray(2).toBase64()}`;
    let answer = this.#inFlight.get(key);
    if (answer && this.servers().includes(from)) throw new LoopError(`${from} asks what it is being asked`);
    if (!answer) {
      if (this.#inFlight.size >= MAX_IN_FLIGHT) return undefined;
      answer = this.#askAll(query, transport).finally(() => this.#inFlight.delete(key));
      this.#inFlight.set(key, answer);
    }
    const bytes = await answer;
    return bytes && withId(bytes, messageId(query));
  }

  async #askAll(query: Uint8Array, transport: TransportName): Promise<Uint8Array | undefined> {
    for (const hostname of this.servers()) {
      const server = { hostname, port: this.port };
      const asked = withId(query, randomInt(65_536));
      const answer = await exchange(transport === "udp" ? overUdp : overTcp, server, asked, this.timeoutMs);
      if (answer) return answer;
    }
    return undefined;
  }
}

/** True for a reply to this very query: same id, same question, byte by byte. */
function answers(reply: Uint8Array, query: Uint8Array): boolean {
  if (reply.length < 12 || messageId(reply) !== messageId(query) || !((reply[2] ?? 0) & 0x80)) return false;
  const end = questionEnd(query);
  // A server that could not read the question may leave it away.
  if (reply[4] === 0 && reply[5] === 0) return true;
  return Buffer.compare(reply.subarray(12, end), query.subarray(12, end)) === 0;
}

/** Where the one question of a query that was read already ends. */
function questionEnd(query: Uint8Array): number {
  let at = 12;
  while (at < query.length && query[at] !== 0) at += (query[at] ?? 0) + 1;
  return at + 5;
}

type Exchange = (
  server: { readonly hostname: string; readonly port: number },
  query: Uint8Array,
  done: (reply: Uint8Array | undefined) => void,
) => Promise<{ close(): unknown }>;

/** One question to one server; undefined where it does not answer. */
async function exchange(
  run: Exchange,
  server: { readonly hostname: string; readonly port: number },
  query: Uint8Array,
  timeoutMs: number,
): Promise<Uint8Array | undefined> {
  const { promise, resolve } = Promise.withResolvers<Uint8Array | undefined>();
  const timer = setTimeout(() => resolve(undefined), timeoutMs);
  const opening = run(server, query, (reply) => {
    if (reply === undefined || answers(reply, query)) resolve(reply);
  });
  // To some there is no way; to others the kernel looks for one much longer than we wait.
  opening.catch(() => resolve(undefined));
  const answer = await promise;
  clearTimeout(timer);
  opening.then(
    (socket) => socket.close(),
    () => {},
  );
  return answer;
}

/** A socket of its own for each question: its port is one more thing that a forger has to guess. */
const overUdp: Exchange = async (server, query, done) => {
  const socket = await Bun.udpSocket({
    connect: server,
    socket: {
      data: (_socket, reply) => done(new Uint8Array(reply)),
      error: () => done(undefined),
    },
  });
  socket.send(query);
  return socket;
};

const overTcp: Exchange = async (server, query, done) => {
  const received = new Frames(done);
  const socket = await Bun.connect({
    ...server,
    socket: {
      open(opened) {
        opened.write(frame(query));
      },
      data: (_socket, chunk) => received.push(chunk),
      close: () => done(undefined),
      error: () => done(undefined),
    },
  });
  return { close: () => socket.end() };
};

/** A message as it goes over TCP: with its length in front (RFC 1035, 4.2.2). */
export function frame(message: Uint8Array): Uint8Array {
  const framed = new Uint8Array(message.length + 2);
  framed[0] = message.length >> 8;
  framed[1] = message.length & 255;
  framed.set(message, 2);
  return framed;
}

/** Puts messages together that come over TCP in pieces. */
export class Frames {
  readonly #received = new ReceiveBuffer();

  constructor(private readonly message: (bytes: Uint8Array) => void) {}

  push(chunk: Uint8Array): void {
    this.#received.push(chunk);
    for (;;) {
      const { waiting } = this.#received;
      const end = 2 + messageId(waiting);
      if (waiting.length < 2 || waiting.length < end) return;
      this.message(waiting.slice(2, end));
      this.#received.take(end);
    }
  }
}
