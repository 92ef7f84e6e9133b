// Where iptables drops forwarded packets by policy (Docker sets it), or firewalld rejects them, ours have to be accepted in
// their own chains: no other table can overrule a drop. iptables is either a front end of nftables or the older tables of
// the kernel; we write both as its programs do, without needing them.
import type { Cidr } from "../../address/ipv4.ts";
import { LegacyTables } from "../../netlink/iptables/socket.ts";
import type { IptablesMatch } from "../../netlink/iptables/table.ts";
import { rulesDifference } from "../../netlink/nftables/state.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { BRIDGE, FORWARDING_CHAIN } from "../names.ts";
import type { Change, Resource } from "../reconcile/resource.ts";
import { legacyForwarding, legacyState } from "./legacy.ts";
import { FIREWALLD, IPTABLES_NFT, nftForwarding } from "./nft.ts";
import type { Forwarding, ForwardingTable, Variant } from "./table.ts";

const tables = (nf: NetlinkSocket) => [
  nftForwarding(nf, IPTABLES_NFT),
  nftForwarding(nf, FIREWALLD),
  legacyForwarding(),
];

/** Return the packets that our chain accepts: all from containers, and those to exposed subnets. */
function matches(subnets: readonly Cidr[]): IptablesMatch[] {
  return [{ inLink: BRIDGE }, ...subnets.map((destination) => ({ outLink: BRIDGE, destination }))];
}

/** Return what is wrong, in words; undefined where our chain comes first and FORWARD drops, or neither. */
export function forwardingDifference(wanted: readonly string[], found: Forwarding): string | undefined {
  const { drops, jumps, rules } = found;
  if (!drops)
    return rules || jumps.length > 0 ? "in place, though FORWARD drops nothing any more" : undefined;
  if (!rules) return "missing";
  if (jumps.length === 0) return "not jumped to from FORWARD";
  if (jumps.length > 1 || jumps[0] !== 0) return "behind other rules of FORWARD";
  const changed = rulesDifference(wanted, rules);
  return changed && `with ${changed}`;
}

interface Wrong extends Change {
  readonly put: () => void;
}

type Found = readonly (readonly [ForwardingTable, Forwarding])[];

/** Packets of containers accepted by all tables that drop, as desired state. */
export class ForwardingResource implements Resource<readonly IptablesMatch[], Found, Wrong> {
  readonly name = "forwarding";
  readonly sources = ["nftables", "silent"] as const;
  readonly #tables: readonly ForwardingTable[];
  readonly #legacy = new LegacyTables();
  #dropping: readonly Variant[] = [];

  constructor(
    nf: NetlinkSocket,
    private readonly subnets: () => readonly Cidr[],
  ) {
    this.#tables = tables(nf);
  }

  /** The tables that dropped forwarded packets at the last check. */
  get dropping(): readonly Variant[] {
    return this.#dropping;
  }

  glance(): string {
    return legacyState(this.#legacy.names());
  }

  close(): void {
    this.#legacy.close();
  }

  desired(): readonly IptablesMatch[] {
    return matches(this.subnets());
  }

  observe(): Found {
    const found = this.#tables.map((table) => [table, table.observe()] as const);
    this.#dropping = found.flatMap(([{ variant }, { drops }]) => (drops ? [variant] : []));
    return found;
  }

  difference(wanted: readonly IptablesMatch[], found: Found): Wrong[] {
    return found.flatMap(([table, forwarding]) => {
      // Needed for the comparison only; building them takes 1 ms of a start.
      const wrong = forwardingDifference(forwarding.rules ? table.rules(wanted) : [], forwarding);
      const object = `chain ${FORWARDING_CHAIN} of ${table.name}`;
      const put = () => (forwarding.drops ? table.accept(wanted) : table.remove());
      return wrong === undefined ? [] : [{ object, wrong, put }];
    });
  }

  /** Apply all changes; throws the first error after the last one. */
  apply(changes: readonly Wrong[]): void {
    const errors: unknown[] = [];
    for (const { put } of changes) {
      try {
        put();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}

/** Return the tables that drop forwarded packets, and whether each accepts ours. */
export function forwardDrops(nf: NetlinkSocket): { variant: Variant; accepts: boolean }[] {
  return tables(nf).flatMap((table) => {
    const { drops, jumps, rules } = table.observe();
    return drops ? [{ variant: table.variant, accepts: jumps[0] === 0 && (rules ?? []).length > 0 }] : [];
  });
}

/** Return the tables that have our chain or a jump to it. */
export function installedForwarding(nf: NetlinkSocket): Variant[] {
  return tablesWithOurs(nf).map(({ variant }) => variant);
}

/** Remove our chain from all tables. */
export function removeForwarding(nf: NetlinkSocket): void {
  for (const table of tablesWithOurs(nf)) table.remove();
}

/** Whether any table has our chain; false, too, where the kernel refuses to say. */
export function hasForwarding(nf: NetlinkSocket): boolean {
  try {
    return tablesWithOurs(nf).length > 0;
  } catch {
    return false;
  }
}

function tablesWithOurs(nf: NetlinkSocket): ForwardingTable[] {
  return tables(nf).filter((table) => {
    const { jumps, rules } = table.observe();
    return rules || jumps.length > 0;
  });
}
