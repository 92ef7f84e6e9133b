// The ring of this peer, the space that it gives us, and their record on disk.
import { type AddressRange, cidrRange, rangeSize, sameRanges } from "../address/ipv4.ts";
import { Slices, type Work } from "../clock/slices.ts";
import { Soon } from "../clock/soon.ts";
import type { PeerName } from "../mesh/name.ts";
import { reasonOf } from "../sys/reason.ts";
import type { AllocatorConfig, AllocatorDependencies } from "./config.ts";
import type { RingState } from "./ring/entry.ts";
import type { Dispute } from "./ring/merge.ts";
import { Ring, type RingDraft, type RingView } from "./ring/ring.ts";
import type { SavedRing } from "./saved.ts";
import type { Space } from "./space.ts";

/** The result of a merge into our ring, and whether it changes our ranges. */
export interface MergeDraft extends RingDraft {
  readonly changesOurs: boolean;
}

/** Delay of a save that nothing waits for. */
const SAVE_LATER_MS = 5_000;

export class PersistentRing {
  readonly #ring: Ring;
  #unshared = false;
  /** The ring on disk is older than ours. */
  #dirty = false;
  readonly #later: Soon;
  readonly #slices: Slices;

  constructor(
    private readonly config: Pick<AllocatorConfig, "ourName" | "universe">,
    private readonly dependencies: Pick<AllocatorDependencies, "clock" | "log" | "store" | "owns">,
    private readonly space: Space,
  ) {
    const { start, end } = cidrRange(config.universe);
    this.#ring = new Ring(start, end, config.ourName);
    this.#later = new Soon(dependencies.clock, () => this.#flush());
    this.#slices = new Slices(dependencies.clock);
  }

  get ring(): RingView {
    return this.#ring;
  }

  /** We made the ring for ourselves and no other peer has it: it can still give in to another. */
  get unshared(): boolean {
    return this.#unshared;
  }

  load(saved: SavedRing): void {
    this.#ring.restore(saved);
    this.#unshared = saved.alone ?? false;
    this.updateSpace();
  }

  /** Divide an empty ring among peers, sorted by name. */
  create(peers: readonly PeerName[], unshared: boolean): void {
    this.#unshared = unshared;
    this.#ring.claimForPeers(peers);
    this.save();
  }

  /** Note that another peer has our ring, or is about to: it stands. */
  share(): void {
    if (!this.#unshared) return;
    this.#unshared = false;
    this.save();
  }

  /** Put another ring in place of ours; no address is in use by it. */
  replace(other: RingState): void {
    this.#unshared = false;
    this.#ring.restore(other);
    this.save();
    this.space.clear();
    this.updateSpace();
  }

  /** Grant a range of ours to a peer, on disk; throws StoreError, with the range still ours. */
  grant({ start, end }: AddressRange, peer: PeerName): void {
    this.#unshared = false;
    this.#transact(() => this.#ring.grant(start, end, peer));
  }

  /** Make the space of another peer ours, on disk; return its ranges. Throws StoreError, with nothing changed. */
  takeOver(peer: PeerName): readonly AddressRange[] {
    return this.#transact(() => this.#ring.transfer(peer, this.config.ourName));
  }

  /** Make all our space another peer's. */
  handOver(heir: PeerName): void {
    this.#ring.transfer(this.config.ourName, heir);
    this.space.clear();
    this.save();
  }

  /** Return the result of a merge, in steps, and prepare its save. Throws RingError. */
  *merging(other: RingState): Work<MergeDraft> {
    const draft = yield* this.#ring.merging(other, (ranges) =>
      ranges.some((range) => this.space.freeCount(range) !== rangeSize(range)),
    );
    const changesOurs = draft.before.length === 0 || !sameRanges(this.#ring.ownedRanges(), draft.owned);
    yield;
    if (changesOurs) yield* this.#prepare({ ...this.#ring.state(), ...draft });
    return { ...draft, changesOurs };
  }

  /**
   * Replace our ring by the result of a merge. Return false if the ring has changed since the merge began, or if addresses
   * in use would no longer be ours.
   */
  adopt(draft: MergeDraft): boolean {
    return this.space.isUsedWithin(draft.owned) && this.#ring.adopt(draft);
  }

  /** See Ring.reassert(). */
  reassert(disputes: readonly Dispute[]): void {
    this.#ring.reassert(disputes);
    this.reportFree();
    this.save();
    this.updateSpace();
  }

  /** Report the free addresses in our ranges. */
  reportFree(): void {
    if (!this.#ring.empty && this.#ring.reportFree((range) => this.space.freeCount(range))) this.saveLater();
  }

  /** Bring the space in line with the ring. */
  updateSpace(): void {
    const ranges = this.#ring.ownedRanges();
    this.space.update(ranges);
    this.dependencies.owns?.(ranges);
  }

  #prepare(ring: RingState): Work {
    const nothing = function* () {};
    return this.dependencies.store.prepareRing?.(ring) ?? nothing();
  }

  /** Save within SAVE_LATER_MS: nothing that others rely on has changed, and they say it again. */
  saveLater(): void {
    this.#dirty = true;
    this.#later.within(SAVE_LATER_MS);
  }

  /** Save what has not been saved yet, and nothing later. */
  stop(): void {
    this.#later.stop();
    this.#slices.stop();
    if (this.#dirty) this.save();
  }

  /** Save the ring as it is now, in steps: peers can make it long. It may be changed or saved meanwhile. */
  #flush(): void {
    if (!this.#dirty) return;
    const ring = this.#saved();
    this.#slices.run(this.#prepare(ring), (error) => {
      if (!this.#dirty) return;
      this.#attempt(() => {
        if (error) throw error;
        this.dependencies.store.saveRing(ring, true);
        this.#dirty = false;
      });
      if (ring.entries !== this.#ring.entries) this.saveLater();
    });
  }

  /** Save, or try again later: what other peers have said can be had from them again. */
  save(): void {
    this.#attempt(() => this.#write());
  }

  #attempt(write: () => void): void {
    try {
      write();
    } catch (error) {
      if (!this.#dirty) this.dependencies.log.error(reasonOf(error));
      this.saveLater();
    }
  }

  /** Change the ring and save it, or neither; throws StoreError. */
  #transact<T>(change: () => T): T {
    const before = this.#ring.state();
    const result = change();
    try {
      this.#write();
      return result;
    } catch (error) {
      this.#ring.restore(before);
      throw error;
    }
  }

  #write(): void {
    this.dependencies.store.saveRing(this.#saved());
    this.#dirty = false;
  }

  #saved(): SavedRing {
    return { ...this.#ring.state(), peer: this.config.ourName, alone: this.#unshared };
  }
}
