// Messages to one neighbour, from the end of the handshake: sent at once, dropped where the neighbour reads too slowly, or, for gossip,
// when there is room.
import { noteGarbage } from "../bytes/garbage.ts";
import { type Framing, LONG_FRAME, MAX_MESSAGE, totalOf } from "./framing.ts";
import type { GossipData } from "./gossip.ts";
import { GossipSender, type GossipSenderHost } from "./gossipsender.ts";
import type { PeerName } from "./name.ts";
import { Outbox, type Pieces } from "./outbox.ts";
import { MAX_WAITING_BYTES } from "./pending.ts";
import type { Stream } from "./transport.ts";

/** Bytes of the longest message sent: sealed and framed, the other end still accepts it. */
const MAX_SENT = MAX_MESSAGE - 1024;

export interface MessageSenderHost extends GossipSenderHost {
  /** Count bytes of gossip that were sent. */
  gossiped(bytes: number): void;
}

export interface MessageSenderEvents {
  /** `bytes` has changed, or the stream's. */
  changed(): void;
  warn(kind: string, text: string): void;
  failed(error: Error): void;
}

export class MessageSender {
  readonly #outbox: Outbox;
  readonly #gossip: GossipSender;
  #stopped = false;

  constructor(
    framing: Framing,
    private readonly stream: Pick<Stream, "write" | "unsent">,
    host: MessageSenderHost,
    private readonly events: MessageSenderEvents,
  ) {
    const failed = (error: Error) => events.failed(error);
    this.#outbox = new Outbox(framing, stream, {
      slices: host.slices,
      changed: () => events.changed(),
      emptied: () => this.#gossip.unblock(),
      failed,
    });
    const send = (pieces: Pieces) => {
      host.gossiped(totalOf(pieces));
      this.send(pieces);
    };
    this.#gossip = new GossipSender(host, send, failed);
  }

  /** Bytes that wait here. */
  get bytes(): number {
    return this.#gossip.bytes + this.#outbox.bytes;
  }

  /** Send a message, in pieces, its tag in front. A longer one than MAX_SENT is dropped: it would end the connection. */
  send(pieces: Pieces): void {
    if (this.#stopped) return;
    const length = totalOf(pieces);
    if (length > MAX_SENT) {
      const size = `${length} bytes, more than ${MAX_SENT}`;
      return this.events.warn("message size", `cannot send a message: ${size}`);
    }
    if (!this.#outbox.send(pieces)) this.#gossip.block();
    // The frames of long ones are freed.
    if (length <= LONG_FRAME) noteGarbage(length);
    this.events.changed();
  }

  /** Send a message of another peer, which must not end this connection: it is dropped while the peer reads too slowly. */
  relay(pieces: Pieces): void {
    if (this.#outbox.bytes + this.stream.unsent <= MAX_WAITING_BYTES) return this.send(pieces);
    this.events.warn(
      "relayed messages",
      "the peer reads too slowly: dropping messages of other peers for it",
    );
  }

  /** Send gossip or, with a source, a broadcast of that peer, when there is room on the wire. */
  gossip(channel: string, source: PeerName | undefined, data: GossipData): void {
    if (this.#gossip.add(channel, source, data)) this.events.changed();
    else this.events.warn("pending gossip", "the peer reads too slowly: dropping gossip for it");
  }

  /** The stream has room again. */
  drained(): void {
    const hasRoom = this.#outbox.drained();
    this.events.changed();
    if (hasRoom) this.#gossip.unblock();
  }

  stop(): void {
    this.#stopped = true;
    this.#gossip.stop();
    this.#outbox.stop();
  }
}
