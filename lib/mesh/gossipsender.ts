// Gossip and broadcasts to one neighbour: joined while the wire is full, encoded when there is room.
import type { Clock, Timer } from "../clock/clock.ts";
import type { Slices, Work } from "../clock/slices.ts";
import type { BufferBudget } from "./bufferbudget.ts";
import type { GossipData } from "./gossip.ts";
import { gossipPieces } from "./message.ts";
import type { PeerName } from "./name.ts";
import type { Pieces } from "./outbox.ts";
import { PendingGossip } from "./pending.ts";

export interface GossipSenderHost {
  readonly clock: Clock;
  readonly slices: Slices;
  readonly ourself: { readonly name: PeerName };
  readonly buffers: Pick<BufferBudget, "fits">;
}

export class GossipSender {
  readonly #pending: PendingGossip;
  #flush: Timer | undefined;
  /** Gives up the flush under way. */
  #giveUp: (() => void) | undefined;
  #blocked = false;
  #stopped = false;

  constructor(
    private readonly host: GossipSenderHost,
    private readonly send: (pieces: Pieces) => void,
    private readonly failed: (error: Error) => void,
  ) {
    this.#pending = new PendingGossip((bytes) => host.buffers.fits(bytes));
  }

  /** Bytes of messages that wait. */
  get bytes(): number {
    return this.#pending.bytes;
  }

  stop(): void {
    this.#stopped = true;
    this.#flush?.cancel();
    this.#giveUp?.();
    this.#pending.clear();
  }

  /** Add gossip or, with a source, a broadcast of that peer; returns false where there is no room for it. */
  add(channel: string, source: PeerName | undefined, data: GossipData): boolean {
    if (this.#stopped) return true;
    const added = this.#pending.add(channel, source, data);
    if (added) this.#schedule();
    return added;
  }

  /** The wire is full. */
  block(): void {
    this.#blocked = true;
  }

  /** The wire has room again. */
  unblock(): void {
    this.#blocked = false;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#stopped || this.#blocked || this.#flush || this.#giveUp) return;
    this.#flush = this.host.clock.after(0, () => {
      this.#flush = undefined;
      let ended = false;
      const giveUp = this.host.slices.run(this.#sendAll(), (error) => {
        ended = true;
        this.#giveUp = undefined;
        if (error) this.failed(error);
      });
      if (!ended) this.#giveUp = giveUp;
    });
  }

  *#sendAll(): Work {
    while (!this.#stopped && !this.#blocked) {
      const next = yield* this.#pending.next();
      if (!next || this.#stopped) return;
      const { channel, payload } = next;
      const source = next.source ?? this.host.ourself.name;
      this.send(gossipPieces({ kind: next.source ? "broadcast" : "gossip", channel, source, payload }));
      yield;
    }
  }
}
