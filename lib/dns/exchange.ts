// One question to one nameserver, and the answer that belongs to it (RFC 5452: a forger has to guess the id, the port
// and the question; a socket of its own for each question draws the port anew).
import { connect, isIPv6 } from "node:net";
import { readBe16 } from "../bytes/bigendian.ts";
import { detached } from "../log/unexpected.ts";
import { causeOfFailedConnect } from "../sys/connectcause.ts";
import { reasonOf } from "../sys/reason.ts";
import { Frames, frame } from "./frames.ts";
import { HEADER, messageId, questionEnd, RCODE, rcodeOf, TYPE_AND_CLASS } from "./message.ts";

export type TransportName = "udp" | "tcp";

export interface ServerAddress {
  /** An IPv4 or IPv6 address, link-local ones with their link: "fe80::1%eth0". */
  readonly hostname: string;
  readonly port: number;
}

/**
 * Ask one server; undefined where it does not answer within `timeoutMs`, cannot be reached, or `cancel` is aborted. `failed` is
 * called with the reason, unless it was cancelled, and later where the kernel has to be asked.
 */
export async function exchange(
  transport: TransportName,
  server: ServerAddress,
  query: Uint8Array,
  timeoutMs: number,
  cancel: AbortSignal,
  failed: (why: string) => void = () => {},
): Promise<Uint8Array | undefined> {
  const { promise, resolve } = Promise.withResolvers<Uint8Array | undefined>();
  let settled = false;
  const none = (error: unknown) => {
    resolve(undefined);
    if (settled || cancel.aborted) return;
    settled = true;
    const asking = causeOfFailedConnect(error, { host: server.hostname, port: server.port });
    detached(
      `asking why ${server.hostname} does not answer`,
      asking.then((why) => failed(why?.cause ?? reasonOf(error))),
    );
  };
  const timer = setTimeout(() => none(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
  const cancelled = () => resolve(undefined);
  cancel.addEventListener("abort", cancelled);
  const received = (reply: Uint8Array) => {
    if (!answers(reply, query)) return;
    settled = true;
    resolve(reply);
  };
  // The kernel may look for a way much longer than we wait; the socket is closed whenever it comes.
  const opening = (transport === "udp" ? overUdp : overTcp)(server, query, received, none);
  const closed = opening.then(async (close) => {
    await promise;
    close();
  }, none);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    cancel.removeEventListener("abort", cancelled);
    closed.catch(() => {});
  }
}

/** True for a reply to this very query: same id, same opcode, same question but for case, one that is a reply at all. */
export function answers(reply: Uint8Array, query: Uint8Array): boolean {
  if (reply.length < HEADER || messageId(reply) !== messageId(query)) return false;
  const [flags = 0, asked = 0] = [reply[2], query[2]];
  if (!(flags & 0x80) || (flags & 0x78) !== (asked & 0x78)) return false;
  const questions = readBe16(reply, 4);
  // A server that could not read the question may leave it away; it has nothing else to say then.
  if (questions === 0) return rcodeOf(reply) !== RCODE.ok && rcodeOf(reply) !== RCODE.nameError;
  if (questions !== 1) return false;
  const end = questionEnd(query);
  if (end === undefined || reply.length < end) return false;
  const nameEnd = end - TYPE_AND_CLASS;
  for (let at = HEADER; at < end; at++) {
    const [ours = 0, theirs = 0] = [query[at], reply[at]];
    if (ours === theirs) continue;
    // Not every server keeps the case of a name.
    if (at >= nameEnd || lower(ours) !== lower(theirs)) return false;
  }
  return true;
}

const lower = (byte: number) => (byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte);

const CLOSED = new Error("connection closed without an answer");

type Opening = (
  server: ServerAddress,
  query: Uint8Array,
  received: (reply: Uint8Array) => void,
  failed: (error: unknown) => void,
) => Promise<() => void>;

const overUdp: Opening = async (server, query, received, failed) => {
  const socket = await Bun.udpSocket({
    connect: server,
    // Without it the socket would be one of IPv4.
    ...(isIPv6(server.hostname.replace(/%.*$/, "")) && { hostname: "::" }),
    socket: {
      data: (_socket, reply) => received(new Uint8Array(reply)),
      error: (...args: unknown[]) => failed(args.at(-1)),
    },
  });
  const close = () => socket.close();
  try {
    // A full send buffer is no answer either.
    if (!socket.send(query)) failed(new Error("the send buffer is full"));
  } catch (error) {
    failed(error);
  }
  return close;
};

// Not Bun.connect: what that opens cannot be closed before it is connected, which the kernel tries for 2 min, with a file
// for each question, where a firewall drops TCP port 53.
const overTcp: Opening = async ({ hostname, port }, query, received, failed) => {
  const frames = new Frames();
  const socket = connect({ host: hostname, port });
  socket.on("connect", () => socket.write(frame(query)));
  socket.on("data", (chunk: Buffer) => {
    frames.push(chunk);
    for (const reply of frames) received(reply);
  });
  socket.on("end", () => failed(CLOSED));
  socket.on("close", () => failed(CLOSED));
  socket.on("error", failed);
  return () => socket.destroy();
};
