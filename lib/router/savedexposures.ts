// The exposures of this host in the state file.
import * as v from "valibot";
import { type Cidr, formatCidr } from "../address/ipv4.ts";
import { AddressNumber, PrefixLength } from "../address/schema.ts";
import type { Exposed } from "../host/expose.ts";
import type { Store } from "../store/store.ts";

/** More addresses than a host has a use for. */
export const MAX_EXPOSURES = 256;

const ROOM = "exposures";

const CidrSchema = v.object({
  address: AddressNumber,
  prefix: PrefixLength,
});
const Schema = v.object({ cidr: CidrSchema, masquerade: v.boolean(), range: v.optional(CidrSchema) });

/** An exposure; `range` is that of the network when it was made, if the address is in it. */
export interface SavedExposure extends Exposed {
  readonly range: Cidr | undefined;
}

/** Saved exposures. `save` and `remove` throw StoreError. */
export interface ExposuresStore {
  load(): SavedExposure[];
  save(exposure: SavedExposure): void;
  remove(cidr: Cidr): void;
}

/** Open the exposures in a state file; `damaged` is told of rows that are skipped. */
export function exposuresStore(store: Store, damaged: (what: string) => void): ExposuresStore {
  const rows = store.rows(ROOM, Schema, { damaged, limit: MAX_EXPOSURES });
  // A power cut must not undo a command.
  return {
    load: () =>
      Array.from(rows.all().values(), ({ cidr, masquerade, range }) => ({ cidr, masquerade, range })),
    save: ({ cidr, masquerade, range }) =>
      store.durably(() => rows.set(formatCidr(cidr), { cidr, masquerade, range })),
    remove: (cidr) => store.durably(() => rows.delete(formatCidr(cidr))),
  };
}
