// The exposed addresses of this host: claimed from the allocator, and told to DNS, which answers at them.
import type { Cidr } from "../address/ipv4.ts";
import { EXPOSE_ID } from "../host/names.ts";
import type { Allocator } from "../ipam/allocator.ts";
import { reasonOf } from "../sys/reason.ts";
import type { RouterContext } from "./context.ts";
import type { RunningDns } from "./dns.ts";
import { ExposedNames, MAX_WITHDRAWN, WithdrawnSchema } from "./exposednames.ts";
import type { HostNetwork } from "./hostnetwork.ts";

/** How exposures change while the router runs. */
export interface Exposing {
  expose(cidr: Cidr, masquerade: boolean): Promise<void>;
  /** Resolves with false for an address that was not exposed. */
  hide(cidr: Cidr): Promise<boolean>;
}

/** Claim the exposed addresses; those that need an answer of a peer are claimed in the background. */
export async function startExposing(
  { scope, store, damaged, log }: RouterContext,
  { exposure, exposures }: HostNetwork,
  allocator: Allocator,
  dns: RunningDns | undefined,
): Promise<Exposing> {
  const names =
    dns &&
    new ExposedNames(
      dns.nameserver,
      store.rows("withdrawn names", WithdrawnSchema, { damaged, limit: MAX_WITHDRAWN }),
    );
  const changed = () => {
    try {
      names?.follow((address) => exposures.stateOf(address));
    } catch (error) {
      log.error(`cannot adapt the names of exposed addresses: ${reasonOf(error)}`);
    }
    return dns?.bridgeHas(exposure.addresses);
  };
  scope.use("exposures", exposures);
  await exposures.claim((cidr) => allocator.claim(EXPOSE_ID, cidr), changed);
  await changed();
  return {
    async expose(cidr, masquerade) {
      exposures.expose(cidr, masquerade);
      await changed();
    },
    async hide(cidr) {
      const hidden = exposures.hide(cidr);
      await changed();
      return hidden;
    },
  };
}
