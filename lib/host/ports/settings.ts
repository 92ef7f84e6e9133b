// Desired settings of ports, saved: the next router repairs what changes while none runs.
import * as v from "valibot";
import { NEW_PORT } from "../../netlink/link/bridgeport.ts";
import type { Link } from "../../netlink/link.ts";
import { StoreError } from "../../store/error.ts";
import type { Rows, Store } from "../../store/store.ts";

/** A bridge has at most 1,024 ports. */
const MAX_PORTS = 2_048;

const Settings = v.object({
  alias: v.string(),
  name: v.string(),
  /** Bytes. */
  mtu: v.number(),
  /** Ethernet address. */
  address: v.string(),
  hairpin: v.boolean(),
});
type Settings = v.InferOutput<typeof Settings>;

/** By ifindex. */
export class KeptSettings {
  readonly #rows: Rows<Settings>;

  /** `damaged` is called with what cannot be read. */
  constructor(store: Store, damaged: (what: string) => void) {
    this.#rows = store.rows("ports", Settings, { damaged, limit: MAX_PORTS });
  }

  /** Return a port with its saved settings, if it has any. */
  known(link: Link): Link {
    const kept = this.#rows.get(String(link.index));
    if (!kept) return link;
    const { alias, name, mtu, address, hairpin } = kept;
    const isIt = alias === link.alias || (name === link.name && address === link.address);
    if (!isIt) return link;
    return { ...link, alias: alias || undefined, name, mtu, address, bridgePort: { ...NEW_PORT, hairpin } };
  }

  save({ index, alias = "", name, mtu, address = "", bridgePort }: Link): void {
    const settings = { alias, name, mtu, address, hairpin: bridgePort?.hairpin ?? false };
    unlessFull(() => this.#rows.set(String(index), settings));
  }

  forget(index: number): void {
    unlessFull(() => this.#rows.delete(String(index)));
  }

  /** Forget all ports but these. */
  keepOnly(indexes: ReadonlySet<number>): void {
    for (const index of this.#rows.all().keys()) if (!indexes.has(Number(index))) this.forget(Number(index));
  }
}

/** Ignore a full store, which reports that in status. */
function unlessFull(change: () => void): void {
  try {
    change();
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
  }
}
