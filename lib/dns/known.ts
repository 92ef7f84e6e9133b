// Replies that are the same as long as no name changes, by the bytes of their queries: most clients ask the same again and
// again. Only the id is exchanged.
import { HEADER } from "./message.ts";

/** Replies that are kept; where a query makes one more, all are given up. */
const MAX_REPLIES = 1_024;
/** Bytes of a query whose reply is kept: a question with the longest name, and EDNS with a cookie. */
const MAX_QUERY = 320;

export class KnownReplies {
  readonly #replies = new Map<string, Uint8Array>();
  #version = -1;

  constructor(
    /** Another number whenever a reply may be another one. */
    private readonly version: () => number,
  ) {}

  /** Return the reply to a query, under its id; undefined where it is not known. It is good until the next call. */
  get(query: Uint8Array): Uint8Array | undefined {
    if (this.#version !== this.version()) return undefined;
    const reply = this.#replies.get(keyOf(query));
    if (!reply) return undefined;
    reply[0] = query[0] ?? 0;
    reply[1] = query[1] ?? 0;
    return reply;
  }

  /** Keep the reply to a query, which owns its bytes from now on. */
  set(query: Uint8Array, reply: Uint8Array): void {
    if (query.length < HEADER || query.length > MAX_QUERY) return;
    if (this.#version !== this.version() || this.#replies.size >= MAX_REPLIES) {
      this.#replies.clear();
      this.#version = this.version();
    }
    this.#replies.set(keyOf(query), reply);
  }
}

/** All of a query but its id, a character for each byte. */
function keyOf(query: Uint8Array): string {
  return Buffer.prototype.latin1Slice.call(query, 2, Math.min(query.length, MAX_QUERY + 1));
}
