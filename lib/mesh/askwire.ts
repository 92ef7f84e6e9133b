// Messages of the ask channel, which the original does not have: one octet for the kind, eight for the id of the question
// (big endian), then for a question the length of its subject in one octet and the subject, for a refusal its code in one
// octet; the rest is JSON, or the reason of a refusal.
import { viewOf } from "../bytes/view.ts";
import { ProtocolError } from "./framing.ts";

/** Bytes of a question's and of an answer's JSON. */
export const MAX_QUESTION = 4 * 1024;
export const MAX_ANSWER = 64 * 1024;
/** Characters of a refusal's reason. */
const MAX_REASON = 256;
const SUBJECT = /^[a-z][a-z0-9-]{0,31}$/;

/** Why a peer refuses a question: for reasons of its own, because it knows no such subject, or has too much to do. */
const REFUSALS = ["refused", "unknown subject", "busy"] as const;
export type AskRefusal = (typeof REFUSALS)[number];

const KINDS = ["question", "answer", "refusal"] as const;
const HEADER = 9;

export type AskMessage =
  | { readonly kind: "question"; readonly id: bigint; readonly subject: string; readonly body: unknown }
  | { readonly kind: "answer"; readonly id: bigint; readonly body: unknown }
  | { readonly kind: "refusal"; readonly id: bigint; readonly code: AskRefusal; readonly reason: string };

/** A received message; its JSON is not parsed yet: that costs most, and is done last (parseBody). */
export type ReceivedAsk =
  | { readonly kind: "question"; readonly id: bigint; readonly subject: string; readonly json: Uint8Array }
  | { readonly kind: "answer"; readonly id: bigint; readonly json: Uint8Array }
  | { readonly kind: "refusal"; readonly id: bigint; readonly code: AskRefusal; readonly reason: string };

/** Throws ProtocolError for what the other end would not accept. */
export function encodeAsk(message: AskMessage): Uint8Array {
  const header = new Uint8Array(HEADER);
  header[0] = KINDS.indexOf(message.kind);
  new DataView(header.buffer).setBigUint64(1, message.id);
  if (message.kind === "refusal") {
    const code = Uint8Array.of(REFUSALS.indexOf(message.code));
    return Buffer.concat([header, code, Buffer.from(message.reason.slice(0, MAX_REASON))]);
  }
  const body = Buffer.from(JSON.stringify(message.body ?? null));
  if (message.kind === "answer") {
    if (body.length > MAX_ANSWER)
      throw new ProtocolError(`answer of ${body.length} bytes; ${MAX_ANSWER} is the limit`);
    return Buffer.concat([header, body]);
  }
  if (!SUBJECT.test(message.subject)) throw new ProtocolError(`invalid subject ${message.subject}`);
  if (body.length > MAX_QUESTION)
    throw new ProtocolError(`question of ${body.length} bytes; ${MAX_QUESTION} is the limit`);
  return Buffer.concat([
    header,
    Uint8Array.of(message.subject.length),
    Buffer.from(message.subject, "latin1"),
    body,
  ]);
}

/** Throws ProtocolError for what is no message of this channel, or too long. */
export function decodeAsk(bytes: Uint8Array): ReceivedAsk {
  const kind = KINDS[bytes[0] ?? KINDS.length];
  if (kind === undefined || bytes.length < HEADER) throw new ProtocolError("no message of the ask channel");
  const id = viewOf(bytes).getBigUint64(1);
  const rest = Buffer.from(bytes.buffer, bytes.byteOffset + HEADER, bytes.length - HEADER);
  if (kind === "refusal") {
    const reason = rest.subarray(1, 1 + 4 * MAX_REASON).toString();
    // An unknown code is that of a later version.
    return { kind, id, code: REFUSALS[rest[0] ?? 0] ?? "refused", reason: reason.slice(0, MAX_REASON) };
  }
  if (kind === "answer") return { kind, id, json: bounded(rest, MAX_ANSWER) };
  const length = rest[0] ?? 0;
  const subject = rest.toString("latin1", 1, 1 + length);
  if (!SUBJECT.test(subject)) throw new ProtocolError("question without a subject");
  return { kind, id, subject, json: bounded(rest.subarray(1 + length), MAX_QUESTION) };
}

/** Parse the JSON of a message; throws ProtocolError. */
export function parseBody(json: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(json).toString());
  } catch (cause) {
    throw new ProtocolError("not JSON", { cause });
  }
}

function bounded(json: Uint8Array, limit: number): Uint8Array {
  if (json.length > limit) throw new ProtocolError(`${json.length} bytes; ${limit} is the limit`);
  return json;
}
