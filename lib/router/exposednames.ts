// Names of exposed addresses: withdrawn while the address is not in force here, as another host may have it, and given back
// with it, also after restarts.
import * as v from "valibot";
import type { IPv4 } from "../address/ipv4.ts";
import { AddressNumber } from "../address/schema.ts";
import type { Nameserver } from "../dns/nameserver.ts";
import { HostnameSchema } from "../dns/saved.ts";
import { EXPOSE_ID } from "../host/names.ts";
import type { Rows } from "../store/store.ts";

/** More names than exposed addresses have. */
export const MAX_WITHDRAWN = 1_000;

export const WithdrawnSchema = v.object({
  hostname: HostnameSchema,
  address: AddressNumber,
});
type Withdrawn = v.InferOutput<typeof WithdrawnSchema>;

export type ExposedState = "in force" | "refused" | "claiming";

export class ExposedNames {
  constructor(
    private readonly nameserver: Pick<Nameserver, "entries" | "config" | "add" | "delete">,
    private readonly withdrawn: Rows<Withdrawn>,
  ) {}

  /** Adapt the names to the exposures; `stateOf` is undefined for an address that is exposed no more. Throws StoreError. */
  follow(stateOf: (address: IPv4) => ExposedState | undefined): void {
    const { nameserver, withdrawn } = this;
    for (const [key, { hostname, address }] of withdrawn.all()) {
      const state = stateOf(address);
      if (state === "refused" || state === "claiming") continue;
      if (state === "in force") nameserver.add(hostname, EXPOSE_ID, address);
      withdrawn.delete(key);
    }
    const refused = [...nameserver.entries.all()].filter(
      ({ origin, containerId, address, tombstone }) =>
        origin === nameserver.config.ourName &&
        containerId === EXPOSE_ID &&
        tombstone === 0 &&
        stateOf(address) === "refused",
    );
    for (const { hostname, address } of refused) {
      withdrawn.set(`${address} ${hostname}`, { hostname, address });
      nameserver.delete({ hostname, containerId: EXPOSE_ID, address });
    }
  }
}
