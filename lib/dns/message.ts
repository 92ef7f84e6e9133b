// DNS messages (RFC 1035, EDNS: RFC 6891), read and written by the dns-packet package: what of a query matters to us,
// and replies that fit.
import packet, { type Answer, type DecodedPacket, type Packet, type Question } from "dns-packet";

/** Response codes. */
export const RCODE = {
  ok: 0,
  formatError: 1,
  serverFailure: 2,
  nameError: 3,
  notImplemented: 4,
  refused: 5,
} as const;
export type Rcode = (typeof RCODE)[keyof typeof RCODE];

const HEADER = 12;
const QR = 0x8000;
const OPCODE = 0x7800;
const RD = 0x0100;
/** What a client that does not say takes over UDP (RFC 1035, 4.2.1). */
const MIN_UDP_SIZE = 512;
/** More than this is cut into fragments nearly everywhere, whatever a client says it takes. */
const MAX_UDP_SIZE = 4096;

/** A question that was asked of us. */
export interface Query {
  readonly id: number;
  readonly recursionDesired: boolean;
  readonly question: Question;
  /** Bytes that the client takes over UDP. */
  readonly udpSize: number;
  readonly edns: boolean;
}

/** What to say to a message that is no query we understand; undefined: nothing at all. */
export type Unreadable = { readonly id: number; readonly rcode: Rcode } | undefined;

/** The id of a message, in its first two bytes. */
export function messageId(bytes: Uint8Array): number {
  return ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0);
}

/** The same message under another id. */
export function withId(bytes: Uint8Array, id: number): Uint8Array {
  // Not slice(): a Buffer's is no copy.
  const copy = new Uint8Array(bytes);
  copy[0] = id >> 8;
  copy[1] = id & 255;
  return copy;
}

/** Reads a query. */
export function readQuery(bytes: Uint8Array): { query: Query } | { unreadable: Unreadable } {
  if (bytes.length < HEADER) return { unreadable: undefined };
  const id = messageId(bytes);
  const flags = ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0);
  // Answers to answers would go on for ever.
  if (flags & QR) return { unreadable: undefined };
  if (flags & OPCODE) return { unreadable: { id, rcode: RCODE.notImplemented } };
  let message: DecodedPacket;
  try {
    message = packet.decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  } catch {
    return { unreadable: { id, rcode: RCODE.formatError } };
  }
  const [question, another] = message.questions ?? [];
  if (!question || another) return { unreadable: { id, rcode: RCODE.formatError } };
  const opt = message.additionals?.find(({ type }) => type === "OPT");
  const size = opt && "udpPayloadSize" in opt ? opt.udpPayloadSize : MIN_UDP_SIZE;
  return {
    query: {
      id,
      recursionDesired: (flags & RD) !== 0,
      question,
      udpSize: Math.min(MAX_UDP_SIZE, Math.max(MIN_UDP_SIZE, size)),
      edns: opt !== undefined,
    },
  };
}

/** What is said in a reply. */
export interface Reply {
  readonly rcode: Rcode;
  readonly authoritative: boolean;
  readonly answers: readonly Answer[];
  readonly authorities?: readonly Answer[];
}

/** A reply with an error and nothing else. */
export function errorReply(id: number, rcode: Rcode): Uint8Array {
  return packet.encode({ id, type: "response", flags: packet.RECURSION_AVAILABLE | rcode });
}

/** Writes a reply; over UDP with as many answers as fit, and marked as truncated where that is not all. */
export function writeReply(query: Query, reply: Reply, overUdp: boolean): Uint8Array {
  const flags =
    packet.RECURSION_AVAILABLE |
    (query.recursionDesired ? packet.RECURSION_DESIRED : 0) |
    (reply.authoritative ? packet.AUTHORITATIVE_ANSWER : 0) |
    reply.rcode;
  const message: Packet & { answers: Answer[]; flags: number } = {
    id: query.id,
    type: "response",
    flags,
    questions: [query.question],
    answers: [...reply.answers],
    authorities: [...(reply.authorities ?? [])],
    additionals: query.edns
      ? [
          {
            type: "OPT",
            name: ".",
            udpPayloadSize: MAX_UDP_SIZE,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
      : [],
  };
  if (overUdp && message.answers.length > 0) {
    const whole = packet.encodingLength(message);
    if (whole > query.udpSize) {
      // All answers of one reply are of one size.
      const bare = packet.encodingLength({ ...message, answers: [] });
      const each = (whole - bare) / message.answers.length;
      const excess = Math.ceil((whole - query.udpSize) / each);
      message.answers.length = Math.max(0, message.answers.length - excess);
      message.flags |= packet.TRUNCATED_RESPONSE;
    }
  }
  return packet.encode(message);
}
