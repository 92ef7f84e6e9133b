// The exposed addresses of this host: saved before they are applied, and applied again after a reboot. A start removes none
// that the bridge has; it applies the others once they are claimed, since another host may own them by now.
import { type Cidr, cidrContains, formatCidr, type IPv4 } from "../address/ipv4.ts";
import { type Clock, every, type Timer } from "../clock/clock.ts";
import type { Exposed } from "../host/expose.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { reasonOf } from "../sys/reason.ts";
import type { ProblemReport } from "../sys/trouble.ts";
import type { ExposedState } from "./exposednames.ts";
import { type ExposuresStore, MAX_EXPOSURES, type SavedExposure } from "./savedexposures.ts";

/** Interval of claiming again an address that another peer owns. */
const CLAIM_AGAIN_MS = 10_000;

/** Bridge addresses and packet filter; see host/expose.ts. */
interface ExposureKernel {
  /** Apply these exposures and no others. */
  start(exposed: readonly Exposed[]): void;
  expose(cidr: Cidr, masquerade: boolean): void;
  /** Returns false if the address was not exposed. */
  hide(cidr: Cidr): boolean;
}

/** Claim an address of the network for this host; rejects if another holder has it. */
export type Claim = (cidr: Cidr) => Promise<void>;

export interface ExposuresHost {
  readonly store: ExposuresStore;
  readonly kernel: ExposureKernel;
  /** Allocation range of the network. */
  readonly range: Cidr;
  readonly clock: Clock;
  readonly log: Log;
}

export class Exposures {
  readonly #kept = new Map<string, SavedExposure>();
  readonly #inForce = new Set<string>();
  /** Why an address cannot be claimed. */
  readonly #refused = new Map<string, string>();
  readonly #claiming = new Set<string>();
  #again: Timer | undefined;
  #stopped = false;

  constructor(private readonly host: ExposuresHost) {}

  /** Load the saved exposures, adopt the addresses of the bridge, and apply the exposures that it has already. */
  start(present: readonly Exposed[]): void {
    const { store, kernel, log } = this.host;
    for (const exposure of store.load()) this.#kept.set(formatCidr(exposure.cidr), exposure);
    for (const { cidr, masquerade } of present) {
      const key = formatCidr(cidr);
      this.#inForce.add(key);
      if (this.#kept.has(key)) continue;
      log.info(`adopting an address of the bridge as exposed; 'weave hide ${key}' removes it`, {
        address: key,
      });
      const exposure = this.#exposure(cidr, masquerade);
      this.#kept.set(key, exposure);
      try {
        store.save(exposure);
      } catch (error) {
        log.error(`cannot save an exposed address, which is lost at the next reboot: ${reasonOf(error)}`, {
          address: key,
        });
      }
    }
    kernel.start([...this.#kept.values()].filter(({ cidr }) => this.#inForce.has(formatCidr(cidr))));
  }

  /**
   * Claim all addresses and apply the exposures that are not applied yet, with a call of `changed` after each, and after
   * each that is refused. Resolves once
   * the claims are done that need no answer of a peer; the others go on, and refused ones are retried.
   */
  async claim(claim: Claim, changed: () => Promise<void> | undefined): Promise<void> {
    const all = async (exposures: readonly SavedExposure[]) => {
      const one = async (exposure: SavedExposure) => {
        if (await this.#claim(exposure, claim)) await changed();
      };
      await Promise.all(exposures.map(one));
    };
    const claims = all([...this.#kept.values()]);
    detached("claiming the exposed addresses", claims);
    this.#again = every(this.host.clock, CLAIM_AGAIN_MS, () => {
      const refused = [...this.#kept].filter(([key]) => this.#refused.has(key));
      detached("claiming the exposed addresses again", all(refused.map(([, exposure]) => exposure)));
    });
    // A claim that asks no peer settles within this turn of the event loop.
    await Promise.race([claims, new Promise((resolve) => setImmediate(resolve))]);
  }

  stop(): void {
    this.#stopped = true;
    this.#again?.cancel();
  }

  /** Expose the host by an address that is claimed already. Throws StoreError or the kernel's error, with nothing changed. */
  expose(cidr: Cidr, masquerade: boolean): void {
    const { store, kernel } = this.host;
    const key = formatCidr(cidr);
    const before = this.#kept.get(key);
    if (!before && this.#kept.size >= MAX_EXPOSURES)
      throw new Error(
        `cannot expose ${key}: this host has ${MAX_EXPOSURES} exposed addresses; hide some first`,
      );
    const exposure = this.#exposure(cidr, masquerade);
    if (!Bun.deepEquals(before, exposure, true)) store.save(exposure);
    this.#orRestore(cidr, before, () => kernel.expose(cidr, masquerade));
    this.#kept.set(key, exposure);
    this.#inForce.add(key);
    this.#refused.delete(key);
  }

  /** Remove an exposure; returns false if there was none. Throws as `expose`, with nothing changed. */
  hide(cidr: Cidr): boolean {
    const { store, kernel } = this.host;
    const key = formatCidr(cidr);
    const before = this.#kept.get(key);
    if (before) store.remove(cidr);
    const hidden = this.#orRestore(cidr, before, () => kernel.hide(cidr));
    this.#kept.delete(key);
    this.#inForce.delete(key);
    this.#refused.delete(key);
    return before !== undefined || hidden;
  }

  /** Return the state of an exposed address; undefined for others. */
  stateOf(address: IPv4): ExposedState | undefined {
    const found = [...this.#kept].filter(([, { cidr }]) => cidr.address === address);
    if (found.length === 0) return undefined;
    if (found.some(([key]) => this.#inForce.has(key))) return "in force";
    return found.every(([key]) => this.#refused.has(key)) ? "refused" : "claiming";
  }

  /** Exposures that are not applied, or that are applied without a claim. */
  problems(): ProblemReport[] {
    return [...this.#kept.keys()].flatMap((key) => {
      const why = this.#refused.get(key);
      if (this.#inForce.has(key) && why === undefined) return [];
      const state = this.#inForce.has(key) ? "is in force nevertheless" : "is not in force";
      const cause = why ?? "being claimed; 'weave status ipam' names its owner";
      const Found = `exposed address ${key} ${state}: ${cause}`;
      return [{ Check: "expose", Found, Advice: `'weave hide ${key}' forgets it` }];
    });
  }

  #exposure(cidr: Cidr, masquerade: boolean): SavedExposure {
    const { range } = this.host;
    return { cidr, masquerade, range: cidrContains(range, cidr.address) ? range : undefined };
  }

  /** Claim one; resolves with true if it is applied, or refused, since. */
  async #claim(exposure: SavedExposure, claim: Claim): Promise<boolean> {
    const { cidr, masquerade } = exposure;
    const key = formatCidr(cidr);
    if (this.#claiming.has(key)) return false;
    this.#claiming.add(key);
    try {
      this.#requireRange(exposure);
      await claim(cidr);
      // The exposure may have been removed or replaced meanwhile.
      if (this.#kept.get(key) !== exposure || this.#stopped) return false;
      const late = !this.#inForce.has(key);
      if (late) this.host.kernel.expose(cidr, masquerade);
      this.#inForce.add(key);
      this.#refused.delete(key);
      return late;
    } catch (error) {
      if (this.#kept.get(key) !== exposure || this.#stopped) return false;
      return this.#refuse(key, reasonOf(error));
    } finally {
      this.#claiming.delete(key);
    }
  }

  #requireRange({ cidr, range: before }: SavedExposure): void {
    const { range } = this.host;
    if (before === undefined || cidrContains(range, cidr.address)) return;
    throw new Error(
      `it belongs to range ${formatCidr(before)}; the range of the network is now ${formatCidr(range)}`,
    );
  }

  /** Return whether that is new. */
  #refuse(key: string, why: string): boolean {
    if (this.#refused.get(key) === why) return false;
    this.#refused.set(key, why);
    this.host.log.warning(`cannot claim an exposed address: ${why}; trying again`, { address: key });
    return true;
  }

  /** Change the kernel; if that fails, restore the saved exposure. */
  #orRestore<T>(cidr: Cidr, before: SavedExposure | undefined, change: () => T): T {
    const { store, log } = this.host;
    try {
      return change();
    } catch (error) {
      try {
        if (before) store.save(before);
        else store.remove(cidr);
      } catch (failure) {
        log.error(`the saved state of an exposed address is wrong: ${reasonOf(failure)}`, {
          address: formatCidr(cidr),
        });
      }
      throw error;
    }
  }
}
