// The whole path: hop by hop as far as it goes.
import { answerHops } from "./answer.ts";
import { betweenHops } from "./between.ts";
import { destinationHops } from "./destination.ts";
import type { Evidence, Hop } from "./hop.ts";
import { rulesHop } from "./rules.ts";
import { sourceHops } from "./source.ts";

/** The hops up to the one where the path ends: the first that failed, or the answer. */
export function pathOf(evidence: Evidence): Hop[] {
  const { here, near, target } = evidence;
  const source = sourceHops(evidence);
  if (!near.end) return source;
  const rules = rulesHop(evidence, here, near, target.kind === "here" ? ["egress", "ingress"] : ["egress"]);
  const before = [...source, rules, ...betweenHops(evidence), ...destinationHops(evidence)];
  const stops = before.findIndex(({ state, soft }) => state === "fail" && soft !== true);
  if (stops >= 0) return softened(before.slice(0, stops + 1));
  const soft = before.findIndex(({ state }) => state === "fail");
  if (soft >= 0) return before.slice(0, soft + 1);
  return [...before, ...answerHops(evidence)];
}

/** A failure caused by a later one does not count. */
function softened(hops: readonly Hop[]): Hop[] {
  return hops.map((hop) =>
    hop.soft === true
      ? { host: hop.host, name: hop.name, state: "unknown", found: `${hop.found}: see below` }
      : hop,
  );
}

/** Whether the destination was reached. */
export const reached = (hops: readonly Hop[]) => hops.every(({ state }) => state !== "fail");
