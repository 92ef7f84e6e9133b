// A netlink socket for requests. They are synchronous: the kernel has answered before send returns, so there is nothing to
// wait for, and whole exchanges can run inside inNetns. The socket stays in the network namespace that it was opened in,
// whatever the thread does later.

import { closeSync } from "node:fs";
import { timedCall } from "../clock/eventloop.ts";
import { closeOnce } from "../sys/closeonce.ts";
import { EBUSY, unlessErrno } from "../sys/errno.ts";
import {
  AF_NETLINK,
  bindSocket,
  netnsCookie,
  openSocket,
  receiveDatagram,
  SOCK_NONBLOCK,
  SOCK_RAW,
  sendDatagram,
  setOption,
  setReceiveBuffer,
} from "../sys/socket.ts";
import {
  decodeError,
  decodeMessages,
  encodeMessage,
  type Message,
  NetlinkError,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
  NLMSG_OVERRUN,
} from "./message.ts";

const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
/** Bytes of events and answers that the kernel keeps for a busy reader: those of a few thousand links at once. */
const RECEIVE_BUFFER = 1 << 20;
/** Bytes that the send buffer of any socket has room for. */
const SMALL_BATCH = 64 << 10;

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

export const SOCKADDR_KERNEL = new Uint8Array(12);
SOCKADDR_KERNEL[0] = AF_NETLINK;

// An interrupted dump (NLM_F_DUMP_INTR) missed a change and has to be taken again; it cannot go on for ever.
const DUMP_ATTEMPTS = 10;

/** Open and bind a netlink socket, as a member of these multicast groups; non-blocking where it listens. Throws SysError. */
export function openNetlink(
  what: string,
  family: number,
  groups: readonly number[] = [],
  listening = groups.length > 0,
): number {
  const nonblock = listening ? SOCK_NONBLOCK : 0;
  const fd = openSocket(`${what} socket`, AF_NETLINK, SOCK_RAW | nonblock, family);
  try {
    setOption(`${what}: NETLINK_EXT_ACK`, fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
    setOption(`${what}: NETLINK_CAP_ACK`, fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
    setReceiveBuffer(`${what}: size of the receive buffer`, fd, RECEIVE_BUFFER);
    if (family === NETLINK_ROUTE) {
      setOption(`${what}: NETLINK_GET_STRICT_CHK`, fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
    }
    bindSocket(`${what}: bind`, fd, SOCKADDR_KERNEL);
    for (const group of groups) {
      setOption(`${what}: joining group ${group}`, fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
    }
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** A request; `operation` names it in errors, e.g. "link add weave". */
export interface Request {
  readonly operation: string;
  readonly type: number;
  readonly flags?: number;
  readonly body: Uint8Array;
}

/** Carries datagrams to the kernel and back; tests script it. */
export interface Wire {
  send(what: string, datagram: Uint8Array): void;
  /** Return the next datagram, in `buffer`; undefined where there is none and `wait` is false. */
  receive(what: string, buffer: Uint8Array, wait: boolean): Uint8Array | undefined;
  /** See NetlinkSocket. */
  netnsCookie(): bigint | undefined;
  close(): void;
}

function kernelWire(family: number): Wire {
  const fd = openNetlink("netlink", family);
  return {
    send(what, datagram) {
      if (datagram.length > SMALL_BATCH)
        setOption("netlink: SO_SNDBUFFORCE", fd, SOL_SOCKET, SO_SNDBUFFORCE, 2 * datagram.length);
      timedCall(what, () => sendDatagram(what, fd, datagram, SOCKADDR_KERNEL));
    },
    receive: (what, buffer, wait) => receiveDatagram(what, fd, buffer, wait),
    netnsCookie: () => netnsCookie(fd),
    close: closeOnce(fd),
  };
}

/** Return the sequence number that many messages later. */
const following = (sequence: number, messages = 1) => (sequence + messages) >>> 0;

/** Where answers arrive, of all sockets of a thread: each is copied before the next. */
const RECEIVED = new Uint8Array(1 << 16);

/** A socket for requests of one netlink family. */
export class NetlinkSocket implements Disposable {
  readonly #wire: Wire;
  /** Of the last request: a u32, as in messages, which a router uses up within months. */
  #sequence: number;
  #port = 0;

  constructor(family: number, wire = kernelWire(family), sequence = 0) {
    this.#wire = wire;
    this.#sequence = sequence;
  }

  /** The netlink port that the kernel has given it; 0 before the first answer. */
  get port(): number {
    return this.#port;
  }

  /** Tell its network namespace from all others, also from later ones; undefined before Linux 5.14. */
  get netnsCookie(): bigint | undefined {
    return this.#wire.netnsCookie();
  }

  close(): void {
    this.#wire.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Send one request; return the messages before its acknowledgement. Throws NetlinkError, SysError. */
  request({ operation, type, flags = 0, body }: Request): Message[] {
    const sequence = this.#send(operation, type, flags | NLM_F_ACK, body);
    return this.#answers(operation, sequence).messages;
  }

  /**
   * Send requests as one datagram; rtnetlink does each, also where one before it failed. Throws the first refusal as
   * NetlinkError.
   */
  requests(requests: readonly Request[]): void {
    this.attempts(requests);
  }

  /**
   * Send requests as requests() does; return for each whether the kernel has done it: false where it refuses it with one of
   * these errnos. Throws the first other refusal as NetlinkError.
   */
  attempts(requests: readonly Request[], ...errnos: number[]): boolean[] {
    // A refusal is always told; that of the last one, or its acknowledgement, ends the answers.
    const last = requests.length - 1;
    const refused = this.batch(
      requests.map((request, i) =>
        i < last ? request : { ...request, flags: (request.flags ?? 0) | NLM_F_ACK },
      ),
      errnos,
    );
    return requests.map((_, i) => !refused.has(i));
  }

  /** Dump all objects of a kind, again where something changed meanwhile. Throws NetlinkError, SysError. */
  dump({ operation, type, flags = 0, body }: Request): Message[] {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      const sequence = this.#send(operation, type, flags | NLM_F_DUMP, body);
      const { messages, interrupted } = this.#answers(operation, sequence);
      if (!interrupted) return messages;
    }
    throw new NetlinkError(operation, EBUSY, "the dump kept being interrupted by changes");
  }

  /**
   * Send messages as one datagram (a batch: the kernel takes all of them or none) and wait for the acknowledgements
   * that they ask for. Throws the first refusal as NetlinkError, named by its request; returns the places of those that are
   * refused with one of the given errnos.
   */
  batch(requests: readonly Request[], errnos: readonly number[] = []): ReadonlySet<number> {
    const first = following(this.#sequence);
    const parts = requests.map((request) => this.#frame(request.type, request.flags ?? 0, request.body));
    this.#wire.send("netlink batch", Buffer.concat(parts));
    const waiting = new Set<number>();
    requests.forEach((request, i) => {
      if ((request.flags ?? 0) & NLM_F_ACK) waiting.add(following(first, i));
    });
    let refused: NetlinkError | undefined;
    const expected = new Set<number>();
    while (waiting.size > 0) {
      for (const message of this.#receive("netlink batch")) {
        const place = (message.sequence - first) >>> 0;
        const request = requests[place];
        if (message.type !== NLMSG_ERROR || !request) continue;
        waiting.delete(message.sequence);
        const error = decodeError(message, request.operation);
        if (!error) continue;
        if (errnos.includes(error.errno)) {
          expected.add(place);
          continue;
        }
        refused ??= error;
        // A batch that the kernel cannot parse is answered once, for its first message.
        if (message.sequence === first) waiting.clear();
      }
    }
    if (refused) {
      this.#drain();
      throw refused;
    }
    return expected;
  }

  #frame(type: number, flags: number, body: Uint8Array): Uint8Array {
    this.#sequence = following(this.#sequence);
    return encodeMessage({ type, flags: flags | NLM_F_REQUEST, sequence: this.#sequence, body });
  }

  #send(operation: string, type: number, flags: number, body: Uint8Array): number {
    this.#wire.send(operation, this.#frame(type, flags, body));
    return this.#sequence;
  }

  #receive(operation: string): Message[] {
    const datagram = this.#wire.receive(operation, RECEIVED, true);
    const messages = datagram ? decodeMessages(datagram.slice()) : [];
    this.#port ||= messages[0]?.port ?? 0;
    return messages;
  }

  #drain(): void {
    while (this.#wire.receive("netlink", RECEIVED, false));
  }

  #answers(operation: string, sequence: number): { messages: Message[]; interrupted: boolean } {
    const messages: Message[] = [];
    let interrupted = false;
    for (;;) {
      for (const message of this.#receive(operation)) {
        // Left over from a request that was abandoned: an error before the end of its dump.
        if (message.sequence !== sequence) continue;
        if (message.flags & NLM_F_DUMP_INTR) interrupted = true;
        switch (message.type) {
          case NLMSG_NOOP:
          case NLMSG_OVERRUN:
            break;
          case NLMSG_ERROR:
          case NLMSG_DONE: {
            const error = decodeError(message, operation);
            if (error) throw error;
            return { messages, interrupted };
          }
          default:
            messages.push(message);
        }
      }
    }
  }
}

/** Send a request; false where the kernel refuses it with one of these errnos. */
export function attempt(nl: NetlinkSocket, request: Request, ...errnos: number[]): boolean {
  return unlessErrno(errnos, () => nl.request(request)) !== undefined;
}
