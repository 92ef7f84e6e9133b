// The names of this host's containers, as they are kept on disk.
import * as v from "valibot";
import type { Store } from "../store/store.ts";
import { type EntryId, entryKey } from "./entry.ts";

const EntrySchema = v.object({
  hostname: v.string(),
  containerId: v.string(),
  address: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32 - 1)),
  version: v.pipe(v.number(), v.integer(), v.minValue(0)),
});

export type SavedEntry = v.InferOutput<typeof EntrySchema>;

/** Where a nameserver keeps its own names. What saves throws StoreError when it has not saved. */
export interface NamesStore {
  load(): SavedEntry[];
  save(id: EntryId, version: number): void;
  remove(id: EntryId): void;
}

export function namesStore(store: Store): NamesStore {
  const rows = store.rows("names", EntrySchema);
  return {
    load: () => [...rows.all().values()],
    save: (id, version) => {
      const { hostname, containerId, address } = id;
      rows.set(entryKey(id), { hostname, containerId, address, version });
    },
    remove: (id) => rows.delete(entryKey(id)),
  };
}
