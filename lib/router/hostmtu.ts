// The MTU of the network applied to this host: to the bridge, to the overlay's links and to containers; kept in the state file,
// so that a restart changes nothing.

import { Soon } from "../clock/soon.ts";
import { findBridge } from "../host/bridge.ts";
import type { ContainerWork } from "../host/containerwork.ts";
import { mtuAlias, networkMtuOf } from "../host/mtu.ts";
import type { LimitedWarning } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { DEFAULT_MTU } from "../overlay/encapsulation.ts";
import { reasonOf } from "../sys/reason.ts";
import type { RouterContext } from "./context.ts";

/** The bridge of another version may have any MTU. */
const MAX_LINK_MTU = 9_600;
/** Pause after a change that containers could not be told. */
const RETRY_MS = 5_000;

/** What it acts on; known once these parts have started. */
export interface MtuParts {
  /** Reconcile the kernel state that depends on it, before it changes. */
  check(): void;
  /** Reconcile the kernel state that depends on it. Throws the kernel's error. */
  reconcile(): void;
  /** Note that links of containers with the MTU `from` get another; return a function to call once all have it. */
  raised(from: number, to: number): () => void;
}

/** Return container work that warns where a configuration wants a larger MTU than links have. */
export function warnOfMtu(work: ContainerWork, warn: LimitedWarning): ContainerWork {
  return {
    ...work,
    async attach(attachment) {
      const attached = await work.attach(attachment);
      const { mtu = 0 } = attachment;
      if (mtu > attached.mtu)
        warn(
          "mtu",
          `the CNI configuration wants an MTU of ${mtu}: links have ${attached.mtu}; leave it out there`,
        );
      return attached;
    },
  };
}

export class RouterMtu {
  /** --mtu; undefined for auto. */
  readonly fixed: number | undefined;
  /** MTU of the network that was agreed before, in bytes; undefined for a new router. */
  readonly agreed: number | undefined;
  #network: number;
  /** MTU of links. */
  #link: number;
  #parts: MtuParts | undefined;
  #work: Pick<ContainerWork, "applyMtu"> | undefined;
  readonly #log: Log;
  readonly #keep: (mtu: number) => void;
  /** Containers may not have been told yet: their links may have one of these MTUs. */
  readonly #due = new Set<number>();
  readonly #again: Soon;
  /** The host's kernel state may have a wrong MTU. A start creates it with ours. */
  #unapplied = false;
  /** The bridge has borne our alias. */
  #hasTold: boolean;

  constructor({ options, route, kept, name, log, clock, scope }: RouterContext) {
    this.#log = log.with({ component: "mtu" });
    this.#again = scope.use("telling containers the MTU again", new Soon(clock, () => this.#retry()));
    this.fixed = options.mtu === "auto" ? undefined : options.mtu;
    this.agreed = this.fixed ?? kept.mtu.get();
    this.#keep = (mtu) => kept.mtu.set(mtu);
    this.#network = this.agreed ?? DEFAULT_MTU;
    const bridge = findBridge(route, name);
    const before = bridge && bridge.mtu <= MAX_LINK_MTU ? bridge.mtu : 0;
    this.#link = this.fixed ?? Math.max(this.#network, before);
    const told = bridge && networkMtuOf(bridge);
    this.#hasTold = told !== undefined;
    const grows = this.fixed === undefined && before > 0 && before < this.#link;
    if (grows) this.#due.add(before);
    // A router that is killed may have told the bridge, and not all containers.
    else if (bridge && (this.fixed === undefined || told !== this.told)) this.#due.add(this.#link);
  }

  /** MTU of links, in bytes. */
  get link(): number {
    return this.#link;
  }

  /** What containers and the host are told: the MTU of the network; undefined where links have it. */
  get told(): number | undefined {
    return this.#network < this.#link ? this.#network : undefined;
  }

  /** The alias of the bridge that tells it; undefined for any. */
  get alias(): string | undefined {
    this.#hasTold ||= this.told !== undefined;
    return this.#hasTold ? mtuAlias(this.told) : undefined;
  }

  follow(parts: MtuParts): void {
    this.#parts = parts;
  }

  /** Containers can be told from now on. */
  async start(work: Pick<ContainerWork, "applyMtu">): Promise<void> {
    this.#work = work;
    const [from] = this.#due;
    if (from === undefined) return;
    await (from === this.#link ? this.#apply(from) : this.#raise(from));
  }

  /** Let links take packets of that size. Rejects where the kernel refuses; a later call tries again. */
  async accept(mtu: number): Promise<void> {
    if (mtu <= this.#link) return this.#work && this.#applyDue();
    this.#parts?.check();
    const from = this.#link;
    this.#link = mtu;
    await this.#raise(from);
  }

  /** Tell containers and the host the MTU of the network. */
  changed(mtu: number): void {
    this.#parts?.check();
    this.#network = mtu;
    try {
      this.#keep(mtu);
    } catch (error) {
      this.#log.error(reasonOf(error));
    }
    this.#unapplied = true;
    this.#apply(this.#link).catch((error) =>
      this.#log.error(`cannot set the MTU: ${reasonOf(error)}; trying again`),
    );
  }

  async #raise(from: number): Promise<void> {
    this.#unapplied = true;
    const done = this.#parts?.raised(from, this.#link);
    // Before containers can be told, reconciliation raises the links.
    if (!this.#work) done?.();
    try {
      await this.#apply(from);
    } finally {
      done?.();
    }
  }

  async #apply(from: number): Promise<void> {
    // Before there is anybody to tell, links have the MTU of the first change.
    if (this.#work || this.#due.size === 0) this.#due.add(from);
    await this.#applyDue();
  }

  async #applyDue(): Promise<void> {
    const due = [...this.#due];
    if (due.length === 0) return;
    try {
      // Before containers are looked at: new ones are told by the bridge.
      if (this.#unapplied) this.#parts?.reconcile();
      this.#unapplied = false;
      if (!this.#work) return;
      this.#due.clear();
      for (const from of due) await this.#work.applyMtu({ from, link: this.#link, network: this.told });
    } catch (error) {
      for (const from of due) this.#due.add(from);
      this.#unapplied = true;
      this.#again.within(RETRY_MS);
      throw error;
    }
  }

  #retry(): void {
    this.#applyDue().catch((error) =>
      this.#log.error(`cannot set the MTU: ${reasonOf(error)}; trying again`),
    );
  }
}
