// The exposures of this host, as they are kept on disk.
import * as v from "valibot";
import { type Cidr, formatCidr } from "../address/ipv4.ts";
import type { Exposed } from "../host/expose.ts";
import type { Store } from "../store/store.ts";

/** More addresses than a host has a use for. */
export const MAX_EXPOSURES = 256;

const ROOM = "exposures";

const CidrSchema = v.object({
  address: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32 - 1)),
  prefix: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(32)),
});
const Schema = v.object({ cidr: CidrSchema, masquerade: v.boolean(), range: v.optional(CidrSchema) });

/** An exposure; `range`: that of the network when it was given, where the address is of it. */
export interface SavedExposure extends Exposed {
  readonly range: Cidr | undefined;
}

/** Where exposures are kept. What saves throws StoreError when it has not saved. */
export interface ExposuresStore {
  load(): SavedExposure[];
  save(exposure: SavedExposure): void;
  remove(cidr: Cidr): void;
}

/** Calls `damaged` with what is wrong with a row that is skipped. */
export function exposuresStore(store: Store, damaged: (what: string) => void): ExposuresStore {
  const rows = store.rows(ROOM, Schema, { damaged, limit: MAX_EXPOSURES });
  // People rely on them: a power cut must not take them back.
  return {
    load: () =>
      Array.from(rows.all().values(), ({ cidr, masquerade, range }) => ({ cidr, masquerade, range })),
    save: ({ cidr, masquerade, range }) =>
      store.durably(() => rows.set(formatCidr(cidr), { cidr, masquerade, range })),
    remove: (cidr) => store.durably(() => rows.delete(formatCidr(cidr))),
  };
}

/** Forgets all exposures. */
export function forgetExposures(store: Store): void {
  store.rows(ROOM, v.unknown()).clear();
}
