// What the packet filter of a host, policies among it, does to the probe.
import type { Direction } from "../../npc/objects.ts";
import { TABLE } from "../../npc/tables.ts";
import type { Drop, Side } from "../side.ts";
import { destinationOf, type Evidence, fail, type Hop, ok, sourceOf } from "./hop.ts";

/** `directions` are those that policies of this host are asked for. */
export function rulesHop(
  evidence: Evidence,
  host: string,
  side: Side,
  directions: readonly Direction[],
): Hop {
  const drop = side.drops.find(({ forth }) => forth);
  if (drop?.table === TABLE.name && side.policies?.defaultDeny) {
    const found = "default deny: no policies are in force yet (weave launch --expect-npc)";
    return fail(host, "policy", found, "start weave-npc, or 'weave-npc apply', on this host");
  }
  if (drop) return dropped(evidence, host, drop);
  const { policies, unfiltered } = side;
  if (unfiltered !== null)
    return { host, name: "rules", state: "unknown", found: `rules cannot be traced: ${unfiltered}` };
  if (policies === null) return ok(host, "policy", "no policies here; no rule has dropped it");
  const isolated = directions.filter((direction) => policies[direction]);
  if (isolated.length === 0) return ok(host, "policy", "no policy isolates the container");
  return ok(host, "policy", `isolated for ${isolated.join(" and ")}, and allowed`);
}

/** Return the failed hop of a rule that dropped packets. */
function dropped(evidence: Evidence, host: string, drop: Drop): Hop {
  const { table, chain } = drop;
  const rule = ruleName(drop);
  if (table !== TABLE.name) {
    const found = `a rule of the host's firewall drops it: ${rule}`;
    return fail(host, "firewall", found, ruleAdvice(drop));
  }
  const direction: Direction | undefined = /^blocked-(ingress|egress)$/.exec(chain)?.[1] as
    | Direction
    | undefined;
  if (!direction) {
    const found = `weave-npc drops it because it does not know the sending pod: ${rule}`;
    return fail(
      host,
      "policy",
      found,
      "weave-npc has to learn of the pod first: its log, and 'weave status'",
    );
  }
  const opinion = evidence.policy?.[direction];
  const end = direction === "egress" ? sourceOf(evidence) : destinationOf(evidence);
  const found = `policies deny ${direction} of ${end}${opinion === undefined ? ` (${rule})` : `: ${opinion}`}`;
  const { protocol, port } = evidence.probe;
  const what = protocol === "icmp" ? "" : ` --port ${port}${protocol === "udp" ? " --protocol UDP" : ""}`;
  const explain = `weave-npc explain --from ${sourceOf(evidence)} --to ${destinationOf(evidence)}${what}`;
  return fail(
    host,
    "policy",
    found,
    opinion === undefined
      ? `'${explain}' names the policies; allow it by one more`
      : "allow it by a NetworkPolicy, or change that one",
  );
}

/** "table inet filter, chain forward, rule 5 ("no pods")". */
export function ruleName({ family, table, chain, handle, comment }: Drop): string {
  const rule = handle === null ? "policy" : `rule ${handle}`;
  return `table ${family} ${table}, chain ${chain}, ${rule}${comment === null ? "" : ` ("${comment}")`}`;
}

export function ruleAdvice({ family, table, chain, handle }: Drop): string {
  return handle === null
    ? `nft -a list chain ${family} ${table} ${chain}; accept it before the chain ends`
    : `nft -a list chain ${family} ${table} ${chain}; nft delete rule ${family} ${table} ${chain} handle ${handle}`;
}
