// Reports of peers that became unreachable, in steps: a liar can make up thousands that go at once.
import type { Work } from "../clock/slices.ts";
import type { PeerName } from "./name.ts";
import type { Peer } from "./peer.ts";

/** Peers that are reported in one step. */
const STEP = 256;

export class GonePeers {
  readonly #waiting = new Map<PeerName, Peer>();
  #reporting = false;

  /** `run` runs work in slices; `report` is called with each peer once, unless it `isKnown` again by then. */
  constructor(
    private readonly run: (work: Work) => void,
    private readonly isKnown: (name: PeerName) => boolean,
    private readonly report: (peers: readonly Peer[]) => void,
  ) {}

  add(peers: readonly Peer[]): void {
    // One that was back meanwhile is still waiting.
    for (const peer of peers) this.#waiting.set(peer.name, peer);
    if (this.#reporting) return;
    this.#reporting = true;
    this.run(this.#reportAll());
  }

  *#reportAll(): Work {
    try {
      // To find a crowd has taken this turn of the event loop.
      if (this.#waiting.size > STEP) yield 0;
      while (this.#waiting.size > 0) {
        this.#reportSome();
        yield;
      }
    } finally {
      this.#reporting = false;
    }
  }

  #reportSome(): void {
    const peers: Peer[] = [];
    for (const [name, peer] of this.#waiting) {
      this.#waiting.delete(name);
      if (!this.isKnown(name) && peers.push(peer) === STEP) break;
    }
    if (peers.length > 0) this.report(peers);
  }
}
