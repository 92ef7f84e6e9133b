// The names of this host's containers, as they are kept on disk.
import * as v from "valibot";
import { AddressNumber } from "../address/schema.ts";
import type { Store } from "../store/store.ts";
import { type EntryId, entryKey, MAX_CONTAINER_ID, MAX_ENTRIES_PER_PEER } from "./entry.ts";
import { isFullyQualified } from "./name.ts";

/** Ids that are no containers' have this before them: the names of the host itself, and of hosts elsewhere. */
const LASTING = "weave:";

/** A fully qualified name; the nameserver throws on any other. */
export const HostnameSchema = v.pipe(v.string(), v.check(isFullyQualified, "not a domain name"));

const EntrySchema = v.object({
  hostname: HostnameSchema,
  containerId: v.pipe(v.string(), v.maxLength(MAX_CONTAINER_ID)),
  address: AddressNumber,
  version: v.pipe(v.number(), v.integer(), v.minValue(0)),
});

export type SavedEntry = v.InferOutput<typeof EntrySchema>;

/** Where a nameserver keeps its own names. What saves throws StoreError when it has not saved. */
export interface NamesStore {
  load(): SavedEntry[];
  save(id: EntryId, version: number): void;
  remove(id: EntryId): void;
}

/** Calls `damaged` with what is wrong with a row that is skipped. */
export function namesStore(store: Store, damaged: (what: string) => void): NamesStore {
  const rows = store.rows("names", EntrySchema, { damaged, limit: MAX_ENTRIES_PER_PEER });
  // Names of containers go with a power cut, as they do; what people said of other hosts stays.
  const change = (id: EntryId, act: () => void) =>
    id.containerId.startsWith(LASTING) ? store.durably(act) : act();
  return {
    load: () => [...rows.all().values()],
    save: (id, version) => {
      const { hostname, containerId, address } = id;
      change(id, () => rows.set(entryKey(id), { hostname, containerId, address, version }));
    },
    remove: (id) => change(id, () => rows.delete(entryKey(id))),
  };
}
