// ESP of the fast datapath as desired state: others (strongSwan, an administrator) flush policies and associations. A policy
// is restored. An association is not: its sequence numbers would start over, and repeat nonces of AES-GCM under the same
// key; its connection is renewed instead, with other keys.
import type { IPv4 } from "../../address/ipv4.ts";
import { type Change, type Keeper, keeper, type Resource } from "../../host/reconcile/resource.ts";
import { pathText } from "../../netlink/xfrm/message.ts";
import { policySet, type SecurityPolicy } from "../../netlink/xfrm/policy.ts";
import { type Association, type Esp, type SecuredPath, selectorOf } from "./esp.ts";

interface PolicyChange extends Change {
  readonly policy: SecurityPolicy;
}

/** Return the policies that are missing or wrong among those found. */
export function policyDifference(
  desired: readonly SecurityPolicy[],
  found: ReturnType<Esp["found"]>["policies"],
): PolicyChange[] {
  const bySelector = new Map(found.map((policy) => [selectorOf(policy), policy]));
  return desired.flatMap((policy) => {
    const { direction, source, destination, action } = policy;
    const object = `ESP policy ${direction} ${pathText(source, destination)}`;
    const present = bySelector.get(selectorOf(policy));
    if (!present) return { object, wrong: "missing", policy };
    const blocks = action === "block";
    const same = present.blocks === blocks && (blocks || present.spi === action.spi);
    return same && present.priority === policy.priority ? [] : { object, wrong: "a different one", policy };
  });
}

/** Return the neighbours to and from which nothing goes in clear: those with policies in both directions. */
export function securedNeighbours(found: ReturnType<Esp["found"]>["policies"]): ReadonlySet<IPv4> {
  const sources = new Set(
    found.flatMap(({ direction, source }) => (direction === "in" && source !== undefined ? source : [])),
  );
  return new Set(
    found.flatMap(({ direction, destination }) =>
      direction === "out" && destination !== undefined && sources.has(destination) ? destination : [],
    ),
  );
}

interface AssociationChange extends Change {
  readonly path: SecuredPath;
}

/** Return the associations that are missing among those found. */
export function associationDifference(
  desired: Esp["associations"],
  found: readonly Association[],
): AssociationChange[] {
  const key = ({ destination, spi }: Association) => `${destination} ${spi}`;
  const present = new Set(found.map(key));
  return desired.flatMap(({ path, association }) => {
    if (present.has(key(association))) return [];
    const object = `ESP association ${pathText(association.source, association.destination)}`;
    return { object, wrong: "missing", path };
  });
}

/** Return the keepers of both; none where this kernel has no ESP. */
export function espKeepers(esp: Esp): Keeper[] {
  if (esp.unavailable !== undefined) return [];
  const policies: Resource<readonly SecurityPolicy[], ReturnType<Esp["found"]>["policies"], PolicyChange> = {
    name: "ESP policies",
    sources: ["xfrm"],
    desired: () => esp.policies,
    observe: () => esp.found().policies,
    difference: policyDifference,
    apply(changes) {
      for (const { policy } of changes) policySet(esp.kernel, policy);
    },
    trouble(reason) {
      if (reason === esp.trouble) return;
      esp.trouble = reason;
      esp.onTrouble();
    },
  };
  const associations: Resource<Esp["associations"], readonly Association[], AssociationChange> = {
    name: "ESP associations",
    sources: ["xfrm"],
    desired: () => esp.associations,
    observe: () => esp.found().associations,
    difference: associationDifference,
    apply(changes) {
      for (const path of new Set(changes.map((change) => change.path))) {
        esp.forget(path);
        path.lost();
      }
    },
  };
  return [keeper(policies), keeper(associations)];
}
