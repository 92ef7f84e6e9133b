// Handing all of our space to another peer before this host leaves the network. The heir has to be alive, to run an
// allocator, and to acknowledge: each step waits for its own ring to come back.
import { type Clock, sleep, type Timer } from "../clock/clock.ts";
import { type PeerName, UNKNOWN_PEER } from "../mesh/name.ts";
import { IpamError } from "./errors.ts";
import type { Ring, RingState } from "./ring.ts";

/** Timeout for a step: an answer to the question for the ring, and the acknowledgement. */
const STEP_MS = 3_000;
/** Interval at which a peer that has not answered is asked again. */
const REPEAT_MS = 500;
/** Time for a connection that is just being made, where there is none yet. */
const CONNECT_MS = 1_000;
const LOOK_MS = 100;
/** Peers that are asked at the same time. */
const MAX_CANDIDATES = 16;

/** What the hand-over needs of the peer that leaves. */
export interface LeavingPeer {
  readonly ring: Ring;
  readonly clock: Clock;
  /** Peers that can be reached, those first that are known to run an allocator. */
  candidates(): readonly PeerName[];
  /** Sends our ring to a peer and asks for its own. */
  exchange(peer: PeerName): void;
  /** Makes our space the heir's, saves that and broadcasts it. */
  transfer(heir: PeerName): void;
}

export class HandOver {
  #heir: PeerName | undefined;
  #heard: ((peer: PeerName, ring: RingState) => void) | undefined;

  constructor(private readonly peer: LeavingPeer) {}

  /** Takes the ring that a peer has sent. */
  heard(peer: PeerName, ring: RingState): void {
    this.#heard?.(peer, ring);
  }

  /**
   * Hands our space over; resolves with the heir once it has acknowledged, with undefined where there is nothing to
   * hand over or nobody who shares the range. Rejects with IpamError where that fails; before an heir was found, with
   * nothing changed. May be tried again.
   */
  async run(): Promise<PeerName | undefined> {
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
    for (let waited = 0; waited < CONNECT_MS && this.peer.candidates().length === 0; waited += LOOK_MS) {
      await sleep(this.peer.clock, LOOK_MS);
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

  /** Exchanges rings with these peers until one sends one that is right; undefined when none does in time. */
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
