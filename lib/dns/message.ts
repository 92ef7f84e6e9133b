// DNS messages (RFC 1035, EDNS: RFC 6891), read and written by the dns-packet package: what of a query matters to us,
// and replies that fit.
import packet, {
  type Answer,
  type DecodedPacket,
  type OptAnswer,
  type Packet,
  type Question,
} from "dns-packet";
import { be16, readBe16 } from "../bytes/bigendian.ts";
import { viewOf } from "../bytes/view.ts";

/** Response codes. */
export const RCODE = {
  ok: 0,
  formatError: 1,
  serverFailure: 2,
  nameError: 3,
  notImplemented: 4,
  refused: 5,
  /** An EDNS version that we do not know (RFC 6891); its upper bits are in the OPT record. */
  badVersion: 16,
} as const;
export type Rcode = (typeof RCODE)[keyof typeof RCODE];

export const HEADER = 12;
/** Bytes of a question behind its name. */
export const TYPE_AND_CLASS = 4;
const QR = 0x8000;
const OPCODE = 0x7800;
const RD = 0x0100;
/** What a client that does not say takes over UDP (RFC 1035, 4.2.1). */
const MIN_UDP_SIZE = 512;
/** More than this is fragmented somewhere, whatever a client says it takes (RFC 9715). */
const MAX_UDP_SIZE = 1232;
/** What the length in front of a message over TCP counts (RFC 1035, 4.2.2). */
const MAX_TCP_SIZE = 65_535;
const MAX_NAME = 255;
/** Bytes of the smallest answer: a name, type, class, time to live, length, an address. */
const MIN_ANSWER = 16;
/** Records beside the question that a query may have: EDNS, a signature, the SOA of an IXFR. */
const MAX_RECORDS = 3;

/** A question that was asked of us. */
export interface Query {
  readonly id: number;
  readonly recursionDesired: boolean;
  readonly question: Question;
  /** The question as it came, to be repeated to the byte: clients compare it, case included. */
  readonly asked: Uint8Array;
  /** Bytes that the client takes over UDP. */
  readonly udpSize: number;
  readonly edns: Edns | undefined;
}

/** What an OPT record says (RFC 6891). */
interface Edns {
  readonly version: number;
  /** DNSSEC records are welcome: repeated in the reply (RFC 3225). */
  readonly dnssecOk: boolean;
}

/** A message that is no query we understand, and what to say to it. */
export interface Unreadable {
  readonly id: number;
  /** Opcode and RD of the query, to be repeated. */
  readonly flags: number;
  readonly rcode: Rcode;
}

/** The id of a message, in its first two bytes. */
export function messageId(bytes: Uint8Array): number {
  return readBe16(bytes, 0);
}

/** The same message under another id. */
export function withId(bytes: Uint8Array, id: number): Uint8Array {
  // Not slice(): a Buffer's is no copy.
  const copy = new Uint8Array(bytes);
  copy.set(be16(id));
  return copy;
}

/** The response code in a message's header. */
export function rcodeOf(message: Uint8Array): number {
  return (message[3] ?? 0) & 15;
}

/**
 * Where the question of a message ends, its type and class included; undefined where its name is malformed. A name that
 * comes first has nothing before it to point to.
 */
export function questionEnd(message: Uint8Array): number | undefined {
  let at = HEADER;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > 63) return undefined;
    at += length + 1;
    if (at - HEADER > MAX_NAME) return undefined;
    if (length === 0) break;
  }
  const end = at + TYPE_AND_CLASS;
  return end <= message.length ? end : undefined;
}

/** Reads a query; undefined for what is not to be answered at all. */
export function readQuery(bytes: Uint8Array): { query: Query } | { unreadable: Unreadable } | undefined {
  if (bytes.length < HEADER) return undefined;
  const view = viewOf(bytes);
  const id = messageId(bytes);
  const flags = view.getUint16(2);
  // Answers to answers would go on for ever.
  if (flags & QR) return undefined;
  const unreadable = (rcode: Rcode) => ({ unreadable: { id, flags: flags & (OPCODE | RD), rcode } });
  if (flags & OPCODE) return unreadable(RCODE.notImplemented);
  const records = view.getUint16(6) + view.getUint16(8) + view.getUint16(10);
  const end = questionEnd(bytes);
  // What has more in it costs more to read than a client may ask for.
  if (view.getUint16(4) !== 1 || records > MAX_RECORDS || end === undefined) {
    return unreadable(RCODE.formatError);
  }
  let message: DecodedPacket;
  try {
    message = packet.decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  } catch {
    return unreadable(RCODE.formatError);
  }
  const [question] = message.questions ?? [];
  const options = (message.additionals ?? []).filter(({ type }) => type === "OPT");
  if (!question || options.length > 1) return unreadable(RCODE.formatError);
  const [opt] = options;
  const edns = opt && "ednsVersion" in opt ? { version: opt.ednsVersion, dnssecOk: opt.flag_do } : undefined;
  const size = opt && "udpPayloadSize" in opt ? opt.udpPayloadSize : MIN_UDP_SIZE;
  return {
    query: {
      id,
      recursionDesired: (flags & RD) !== 0,
      question,
      asked: bytes.slice(HEADER, end),
      udpSize: Math.min(MAX_UDP_SIZE, Math.max(MIN_UDP_SIZE, size)),
      edns,
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

/** A reply to what could not be read: an error and nothing else. */
export function errorReply({ id, flags, rcode }: Unreadable): Uint8Array {
  return packet.encode({ id, type: "response", flags: packet.RECURSION_AVAILABLE | flags | rcode });
}

/** Writes a reply with as many answers as fit; marked as truncated where that is not all, and TCP takes more. */
export function writeReply(query: Query, reply: Reply, overUdp: boolean): Uint8Array {
  const most = overUdp ? query.udpSize : MAX_TCP_SIZE;
  const message: Packet & { answers: Answer[]; flags: number } = {
    id: query.id,
    type: "response",
    flags:
      packet.RECURSION_AVAILABLE |
      (query.recursionDesired ? packet.RECURSION_DESIRED : 0) |
      (reply.authoritative ? packet.AUTHORITATIVE_ANSWER : 0) |
      (reply.rcode & 15),
    answers: [...reply.answers],
    authorities: [...(reply.authorities ?? [])],
    additionals: query.edns ? [optRecord(query.edns, reply.rcode)] : [],
  };
  if (message.answers.length > 0) {
    // No more are looked at than could fit: a name may have thousands.
    message.answers.length = Math.min(message.answers.length, Math.floor(most / MIN_ANSWER));
    const whole = packet.encodingLength(message) + query.asked.length;
    if (whole > most) {
      // All answers of one reply are of one size.
      const bare = packet.encodingLength({ ...message, answers: [] }) + query.asked.length;
      const each = (whole - bare) / message.answers.length;
      const excess = Math.ceil((whole - most) / each);
      message.answers.length = Math.max(0, message.answers.length - excess);
    }
    if (overUdp && message.answers.length < reply.answers.length) message.flags |= packet.TRUNCATED_RESPONSE;
  }
  return withQuestion(packet.encode(message), query.asked);
}

function optRecord({ dnssecOk }: Edns, rcode: Rcode): OptAnswer {
  return {
    type: "OPT",
    name: ".",
    udpPayloadSize: MAX_UDP_SIZE,
    extendedRcode: rcode >> 4,
    ednsVersion: 0,
    flags: dnssecOk ? packet.DNSSEC_OK : 0,
    flag_do: dnssecOk,
    options: [],
  };
}

/** Puts the one question into a message that was written without: names in it point nowhere, so all may move. */
function withQuestion(bytes: Uint8Array, asked: Uint8Array): Uint8Array {
  const message = new Uint8Array(bytes.length + asked.length);
  message.set(bytes.subarray(0, HEADER));
  message.set(asked, HEADER);
  message.set(bytes.subarray(HEADER), HEADER + asked.length);
  message.set(be16(1), 4);
  return message;
}
