// The records of other peers: what of a message is believed, and how much is kept. Pure: times are passed in.
import { MAX_PEERS } from "../../mesh/bounds.ts";
import type { PeerName } from "../../mesh/name.ts";
import type { Limit } from "../../sys/limit.ts";
import { LEAST_MTU } from "../encapsulation.ts";
import { GONE_MS } from "./participants.ts";
import { decodeRecords, type MtuRecord, type MtuRecords, newerRecord } from "./wire.ts";

/** The least that --mtu takes. */
const LEAST_FIXED = 576;
/** Records of peers that the topology does not have yet. */
export const MAX_STRANGERS = 256;

export interface RecordsParams {
  readonly self: PeerName;
  /** Return whether a neighbour takes part; undefined for peers that are no neighbours. */
  takesPart(peer: PeerName): boolean | undefined;
  /** Return whether a peer is in the mesh, or was lately. */
  counts(peer: PeerName): boolean;
}

export class PeerRecords {
  readonly #byPeer = new Map<PeerName, MtuRecord>();
  #strangersForgottenAt = Number.NEGATIVE_INFINITY;

  constructor(private readonly params: RecordsParams) {}

  get all(): MtuRecords {
    return this.#byPeer;
  }

  has(peer: PeerName): boolean {
    return this.#byPeer.has(peer);
  }

  delete(peer: PeerName): void {
    this.#byPeer.delete(peer);
  }

  limits(): Limit[] {
    return [{ name: "mtu-records", value: this.#byPeer.size, max: MAX_PEERS + MAX_STRANGERS }];
  }

  /**
   * Take records that `speaker` has sent; return the new ones, and what is said of ourself. Of a neighbour only its own word
   * counts, once there is any. Throws for a damaged message.
   */
  merge(
    message: Uint8Array,
    speaker: PeerName,
    now: number,
  ): { readonly changed: MtuRecords; readonly ofSelf: MtuRecord | undefined } {
    const { self, takesPart, counts } = this.params;
    this.#forgetStrangers(now);
    let strangers = this.#countStrangers();
    const changed = new Map<PeerName, MtuRecord>();
    const records = decodeRecords(message);
    for (const [peer, record] of records) {
      if (peer === self) continue;
      if (record.mtu < (record.fixed ? LEAST_FIXED : LEAST_MTU)) continue;
      const known = this.#byPeer.get(peer);
      if (known && peer === speaker ? isSame(known, record) : known && newerRecord(known, record) === known)
        continue;
      if (known && peer !== speaker && takesPart(peer) !== undefined) continue;
      if (!known && !counts(peer) && ++strangers > MAX_STRANGERS) continue;
      if (!known && this.#byPeer.size >= MAX_PEERS) continue;
      this.#byPeer.set(peer, record);
      changed.set(peer, record);
    }
    return { changed, ofSelf: records.get(self) };
  }

  #countStrangers(): number {
    let strangers = 0;
    for (const peer of this.#byPeer.keys()) if (!this.params.counts(peer)) strangers++;
    return strangers;
  }

  /** Forget records of peers that are not in the mesh, now and then: they come before the topology has the peer. */
  #forgetStrangers(now: number): void {
    if (now - this.#strangersForgottenAt < GONE_MS) return;
    this.#strangersForgottenAt = now;
    for (const peer of this.#byPeer.keys()) if (!this.params.counts(peer)) this.#byPeer.delete(peer);
  }
}

function isSame(a: MtuRecord, b: MtuRecord): boolean {
  return a.version === b.version && a.mtu === b.mtu && a.fixed === b.fixed && a.by === b.by;
}
