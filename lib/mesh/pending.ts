// Gossip that waits to be sent to one peer, joined while the peer reads too slowly.
import type { Work } from "../clock/slices.ts";
import { type GossipData, slicedMessages } from "./gossip.ts";
import type { PeerName } from "./name.ts";

/** Bytes of messages that cannot be joined into fewer; further ones are dropped. */
export const MAX_WAITING_BYTES = 4 * 1024 * 1024;
/** Sources of a channel whose broadcasts wait apart; those of others wait with the gossip. */
export const MAX_WAITING_SOURCES = 64;
/** Overhead of a piece, about. */
const OVERHEAD_BYTES = 100;
/** Pieces that are joined together, so that each piece is joined few times. */
const JOIN_AT = 64;

export interface PendingMessage {
  readonly channel: string;
  /** The source of a broadcast; undefined for gossip. */
  readonly source: PeerName | undefined;
  readonly payload: Uint8Array;
}

/** Data of one channel and, for broadcasts, one source. */
class Waiting {
  #pieces: GossipData[] = [];
  bytes = 0;

  add(data: GossipData, bytes: number): void {
    this.bytes += bytes;
    this.#pieces.push(data);
    if (this.#pieces.length >= JOIN_AT) this.#pieces = this.joined();
  }

  /** Return all pieces as one. */
  joined(): GossipData[] {
    const [first, ...others] = this.#pieces;
    return first ? [others.length > 0 ? first.join(others) : first] : [];
  }
}

interface Sending {
  readonly channel: string;
  readonly source: PeerName | undefined;
  readonly messages: Iterator<Uint8Array | undefined>;
  /** Bytes of messages that have not been taken. */
  bytes: number;
}

const GOSSIP = undefined;

export class PendingGossip {
  /** By channel and source; gossip has none. */
  readonly #channels = new Map<string, Map<PeerName | undefined, Waiting>>();
  #bytes = 0;
  #sending: Sending | undefined;

  /** `fits` returns whether there is memory for so many more bytes. */
  constructor(private readonly fits: (bytes: number) => boolean = () => true) {}

  /** Bytes of messages that wait and cannot be joined into fewer. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Add gossip, or a broadcast of a source; returns false where there is no room for it. */
  add(channel: string, source: PeerName | undefined, data: GossipData): boolean {
    const bytes = data.bytes === 0 ? 0 : data.bytes + channel.length + OVERHEAD_BYTES;
    // A message that need not wait may have any length.
    if (bytes > 0 && this.#bytes > 0 && this.#bytes + bytes > MAX_WAITING_BYTES) return false;
    if (bytes > 0 && !this.fits(bytes)) return false;
    this.#bytes += bytes;
    const waiting = this.#channels.get(channel) ?? new Map<PeerName | undefined, Waiting>();
    this.#channels.set(channel, waiting);
    const key = waiting.has(source) || waiting.size < MAX_WAITING_SOURCES ? source : GOSSIP;
    const place = waiting.get(key) ?? new Waiting();
    waiting.set(key, place);
    place.add(data, bytes);
    return true;
  }

  /** Take the message to send next; gossip of a channel goes before its broadcasts. */
  *next(): Work<PendingMessage | undefined> {
    for (;;) {
      this.#sending ??= this.#take();
      if (!this.#sending) return undefined;
      const { channel, source, messages } = this.#sending;
      const { done, value } = messages.next();
      const released = Math.min(this.#sending.bytes, value?.length ?? 0);
      this.#sending.bytes -= released;
      this.#bytes -= released;
      if (done) this.#sending = undefined;
      else if (value) return { channel, source, payload: value };
      else yield;
    }
  }

  /** Forget all that waits. */
  clear(): void {
    this.#channels.clear();
    this.#sending = undefined;
    this.#bytes = 0;
  }

  #take(): Sending | undefined {
    for (const [channel, waiting] of this.#channels) {
      const source = waiting.has(GOSSIP) ? GOSSIP : waiting.keys().next().value;
      const place = waiting.get(source);
      const [data] = place?.joined() ?? [];
      waiting.delete(source);
      if (waiting.size === 0) this.#channels.delete(channel);
      if (!place || !data) continue;
      this.#bytes -= place.bytes - data.bytes;
      return { channel, source, messages: slicedMessages(data)[Symbol.iterator](), bytes: data.bytes };
    }
    return undefined;
  }
}
