// What one peer sends others about the ring, and how often (weave: ipam/allocator.go).
import type { AddressRange } from "../address/ipv4.ts";
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

export class RingMessenger {
  #channel: GossipChannel | undefined;
  readonly #broadcasting: Soon;
  /** Peers that were corrected, and when. */
  readonly #corrected = new Map<PeerName, number>();

  /** `state` returns what to send, without the time. */
  constructor(
    private readonly dependencies: Pick<AllocatorDependencies, "clock" | "random">,
    private readonly state: () => Omit<IpamState, "now">,
  ) {
    this.#broadcasting = new Soon(dependencies.clock, () => this.broadcast());
  }

  open(channel: GossipChannel): void {
    this.#channel = channel;
  }

  stop(): void {
    this.#broadcasting.stop();
  }

  /** Return the state as gossip, encoded when it is sent. */
  gossip(): GossipData {
    const data: GossipData = {
      bytes: 0,
      join: () => data,
      encode: () => [this.#encode(this.state())],
      encodeSliced: () => this.#encodeSliced(),
    };
    return data;
  }

  *#encodeSliced(): Generator<Uint8Array | undefined, void, void> {
    const work = writeState({ now: this.#now(), ...this.state() });
    let step = work.next();
    for (; !step.done; step = work.next()) yield undefined;
    yield step.value;
  }

  /** Send the state to one peer; false where no route leads to it. */
  send(to: PeerName): boolean {
    return this.#unicast(to, this.#message(this.state()));
  }

  /** Send our ring to peers and ask for theirs. */
  exchange(...peers: readonly PeerName[]): void {
    if (peers.length === 0) return;
    const [ring, question] = [this.#message(this.state()), this.#question()];
    for (const peer of peers) if (this.#unicast(peer, ring)) this.#unicast(peer, question);
  }

  /** Ask a peer for its ring. */
  ask(peer: PeerName): void {
    this.#unicast(peer, this.#question());
  }

  /** A state without a ring, as peers send that wait for one. */
  #question(): Uint8Array {
    return this.#message({ nicknames: this.state().nicknames, consensus: undefined, ring: undefined });
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

  denySpace(peer: PeerName, range: AddressRange): void {
    this.#unicast(peer, encodeRangeMessage(MESSAGE.spaceRequestDenied, range));
  }

  #message(state: Omit<IpamState, "now">): Uint8Array {
    return encodeTagged(MESSAGE.ringUpdate, this.#encode(state));
  }

  #unicast(to: PeerName, message: Uint8Array): boolean {
    return this.#channel?.unicast(to, message) ?? false;
  }

  #encode(state: Omit<IpamState, "now">): Uint8Array {
    return encodeState({ now: this.#now(), ...state });
  }

  /** Seconds since the epoch. */
  #now(): bigint {
    return BigInt(Math.floor(this.dependencies.clock.wall() / 1000));
  }
}
