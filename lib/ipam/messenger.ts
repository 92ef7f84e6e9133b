// What one peer sends others about the ring, and how often (weave: ipam/allocator.go).
import type { AddressRange } from "../address/ipv4.ts";
import { Slices, type Work } from "../clock/slices.ts";
import { Soon } from "../clock/soon.ts";
import type { GossipChannel, GossipData } from "../mesh/gossip.ts";
import { encodeTagged } from "../mesh/message.ts";
import type { PeerName } from "../mesh/name.ts";
import type { AllocatorDependencies } from "./config.ts";
import { encodeRangeMessage, encodeState, type IpamState, MESSAGE, writeState } from "./wire.ts";

/** A grant is sent to its peer at once, and broadcast within this. */
const BROADCAST_DELAY_MS = 1_000;
/** A peer whose ring contradicts ours is sent ours at most this often. */
const CORRECTION_INTERVAL_MS = 1_000;
const MAX_CORRECTED = 1_024;

/** Messages that wait for one peer, in the order of sending. */
interface Waiting {
  ring: boolean;
  question: boolean;
  denials: Uint8Array[];
}

export class RingMessenger {
  #channel: GossipChannel | undefined;
  readonly #broadcasting: Soon;
  /** Peers that were corrected, and when. */
  readonly #corrected = new Map<PeerName, number>();
  readonly #waiting = new Map<PeerName, Waiting>();
  readonly #slices: Slices;
  #sending = false;

  /** `state` returns what to send, without the time. */
  constructor(
    private readonly dependencies: Pick<AllocatorDependencies, "clock" | "random">,
    private readonly state: () => Omit<IpamState, "now">,
  ) {
    this.#broadcasting = new Soon(dependencies.clock, () => this.broadcast());
    this.#slices = new Slices(dependencies.clock);
  }

  open(channel: GossipChannel): void {
    this.#channel = channel;
  }

  stop(): void {
    this.#broadcasting.stop();
    this.#slices.stop();
  }

  /** Return the state as gossip, encoded when it is sent. */
  gossip(): GossipData {
    const data: GossipData = {
      bytes: 0,
      join: () => data,
      encode: () => [encodeState(this.#stamped(this.state()))],
      encodeSliced: () => this.#encodeSliced(),
    };
    return data;
  }

  *#encodeSliced(): Generator<Uint8Array | undefined, void, void> {
    const work = writeState(this.#stamped(this.state()));
    let step = work.next();
    for (; !step.done; step = work.next()) yield undefined;
    yield step.value;
  }

  /** Send a vote to one peer at once; return false if there is no route to it. */
  vote(to: PeerName): boolean {
    return this.#unicast(to, encodeTagged(MESSAGE.ringUpdate, encodeState(this.#stamped(this.state()))));
  }

  /** Send the state to one peer, once it is encoded. */
  send(to: PeerName): void {
    this.#waitingOf(to).ring = true;
    this.#schedule();
  }

  /** Send our ring to peers and ask for theirs. */
  exchange(...peers: readonly PeerName[]): void {
    for (const peer of peers) Object.assign(this.#waitingOf(peer), { ring: true, question: true });
    this.#schedule();
  }

  /** Ask a peer for its ring, by a state without one, as peers send that wait for it. */
  ask(peer: PeerName): void {
    this.#waitingOf(peer).question = true;
    this.#schedule();
  }

  /** Send our ring to a peer whose ring contradicts it; not at once again, or two that insist would never stop. */
  correct(peer: PeerName): void {
    const now = this.dependencies.clock.now();
    for (const [name, at] of this.#corrected)
      if (now - at >= CORRECTION_INTERVAL_MS) this.#corrected.delete(name);
    if (this.#corrected.has(peer) || this.#corrected.size >= MAX_CORRECTED) return;
    this.#corrected.set(peer, now);
    this.send(peer);
  }

  broadcast(): void {
    this.#channel?.broadcast(this.gossip());
  }

  /** Broadcast within BROADCAST_DELAY_MS: several changes together. */
  broadcastSoon(): void {
    this.#broadcasting.within(BROADCAST_DELAY_MS * this.dependencies.random.float());
  }

  /** Ask a peer for space in a range; false where no route leads to it. */
  requestSpace(peer: PeerName, range: AddressRange): boolean {
    return this.#unicast(peer, encodeRangeMessage(MESSAGE.spaceRequest, range));
  }

  /** Deny space, behind our ring where that waits. */
  denySpace(peer: PeerName, range: AddressRange): void {
    this.#waitingOf(peer).denials.push(encodeRangeMessage(MESSAGE.spaceRequestDenied, range));
    this.#schedule();
  }

  #waitingOf(peer: PeerName): Waiting {
    const waiting = this.#waiting.get(peer) ?? { ring: false, question: false, denials: [] };
    this.#waiting.set(peer, waiting);
    return waiting;
  }

  #schedule(): void {
    if (this.#sending || this.#waiting.size === 0) return;
    this.#sending = true;
    this.#slices.run(this.#sendAll(), (error) => {
      this.#sending = false;
      if (error) throw error;
    });
  }

  /** Peers can make the ring so long that to encode it takes 50 ms: it is encoded in slices, and once for all that wait. */
  *#sendAll(): Work {
    while (this.#waiting.size > 0) {
      const waiting = [...this.#waiting];
      this.#waiting.clear();
      const state = this.state();
      const ring = waiting.some(([, each]) => each.ring) ? yield* this.#update(state) : undefined;
      const question = waiting.some(([, each]) => each.question)
        ? yield* this.#update({ nicknames: state.nicknames, consensus: undefined, ring: undefined })
        : undefined;
      for (const [peer, each] of waiting) {
        const reached = !(each.ring && ring) || this.#unicast(peer, ring);
        if (reached && each.question && question) this.#unicast(peer, question);
        if (reached) for (const denial of each.denials) this.#unicast(peer, denial);
        yield;
      }
    }
  }

  *#update(state: Omit<IpamState, "now">): Work<Uint8Array> {
    return encodeTagged(MESSAGE.ringUpdate, yield* writeState(this.#stamped(state)));
  }

  #unicast(to: PeerName, message: Uint8Array): boolean {
    return this.#channel?.unicast(to, message) ?? false;
  }

  /** Add the seconds since the epoch. */
  #stamped(state: Omit<IpamState, "now">): IpamState {
    return { now: BigInt(Math.floor(this.dependencies.clock.wall() / 1000)), ...state };
  }
}
