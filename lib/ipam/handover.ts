// Hand-over of all our space to another peer before this host leaves the network. The heir has to be alive, run an
// allocator and acknowledge: each step waits until it has sent its ring.
import { type Clock, sleep, type Timer } from "../clock/clock.ts";
import { type PeerName, UNKNOWN_PEER } from "../mesh/name.ts";
import { IpamError } from "./errors.ts";
import type { RingState } from "./ring/entry.ts";
import type { RingView } from "./ring/ring.ts";

/** Timeout for the answer to the question for the ring, and for the acknowledgement. */
const STEP_MS = 3_000;
/** Interval at which the question is repeated. */
const REPEAT_MS = 500;
/** Time for a first connection that is being made. */
const CONNECT_MS = 1_000;
const CONNECT_INTERVAL_MS = 100;
/** Peers that are asked at once. */
const MAX_CANDIDATES = 16;

/** The peer that leaves. */
export interface LeavingPeer {
  readonly ring: RingView;
  readonly clock: Clock;
  /** Reachable peers, those first that are known to run an allocator. */
  candidates(): readonly PeerName[];
  /** Send our ring to a peer and ask for its own. */
  exchange(peer: PeerName): void;
  /** Make our space the heir's, save and broadcast that. */
  transfer(heir: PeerName): void;
}

export class Handover {
  #heir: PeerName | undefined;
  #running: Promise<PeerName | undefined> | undefined;
  #heard: ((peer: PeerName, ring: RingState) => void) | undefined;

  constructor(private readonly peer: LeavingPeer) {}

  /** A peer has sent its ring. */
  heard(peer: PeerName, ring: RingState): void {
    this.#heard?.(peer, ring);
  }

  /**
   * Hand our space over. Resolves with the heir once it has acknowledged, with undefined where there is nothing to hand
   * over or no other peer. Rejects with IpamError; before an heir was found, with nothing changed. Can be repeated; calls
   * meanwhile are the same hand-over, as one answer would not do for two.
   */
  run(): Promise<PeerName | undefined> {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #run(): Promise<PeerName | undefined> {
    const { ring } = this.peer;
    if (ring.empty || (!this.#heir && ring.ownedRanges().length === 0)) return undefined;
    this.#heir ??= await this.#findHeir();
    if (!this.#heir) return undefined;
    const heir = this.#heir;
    this.peer.transfer(heir);
    const done = await this.#await([heir], (state) => !state.entries.some(({ peer }) => peer === ring.peer));
    if (!done) {
      throw new IpamError(
        `peer ${heir} has not acknowledged the addresses of this host within ${STEP_MS / 1000} s; try again, or ` +
          `use --force and run 'weave rmpeer ${ring.peer}' on another host`,
      );
    }
    return heir;
  }

  async #findHeir(): Promise<PeerName | undefined> {
    const { ring } = this.peer;
    for (
      let waited = 0;
      waited < CONNECT_MS && this.peer.candidates().length === 0;
      waited += CONNECT_INTERVAL_MS
    ) {
      await sleep(this.peer.clock, CONNECT_INTERVAL_MS);
    }
    const candidates = this.peer.candidates().slice(0, MAX_CANDIDATES);
    const heir = candidates.length > 0 ? await this.#await(candidates, () => true) : undefined;
    if (heir) return heir;
    const others = [...ring.peerNames()].filter((name) => name !== ring.peer && name !== UNKNOWN_PEER);
    if (candidates.length === 0 && others.length === 0) return undefined;
    const cause =
      candidates.length > 0 ? `no peer has answered within ${STEP_MS / 1000} s` : "no peer can be reached";
    throw new IpamError(
      `cannot hand the addresses of this host to another peer: ${cause}; use --force to leave without a hand-over, and ` +
        `run 'weave rmpeer ${ring.peer}' on another host`,
    );
  }

  /** Exchange rings with these peers until one sends a ring that is `right`; undefined where none does in time. */
  #await(peers: readonly PeerName[], right: (ring: RingState) => boolean): Promise<PeerName | undefined> {
    const { clock } = this.peer;
    const end = clock.now() + STEP_MS;
    return new Promise((resolve) => {
      const finish = (peer: PeerName | undefined) => {
        this.#heard = undefined;
        timer?.cancel();
        resolve(peer);
      };
      let timer: Timer | undefined;
      this.#heard = (peer, ring) => {
        if (peers.includes(peer) && right(ring)) finish(peer);
      };
      const ask = () => {
        if (clock.now() >= end) return finish(undefined);
        for (const peer of peers) this.peer.exchange(peer);
        timer = clock.after(REPEAT_MS, ask);
      };
      ask();
    });
  }
}
