// The answer of weave-npc to the status page. Apart from what makes it: the router reads it, and needs no compiler for that.
import * as v from "valibot";

const names = v.array(v.string());

export const Blocked = v.object({
  /** ms since the epoch. */
  at: v.number(),
  /** It was allowed when it began. */
  cut: v.boolean(),
  protocol: v.string(),
  source: v.string(),
  sourcePort: v.number(),
  /** "namespace/name". */
  sourcePod: v.optional(v.string()),
  destination: v.string(),
  destinationPort: v.number(),
  destinationPod: v.optional(v.string()),
  /** "ingress" or "egress", or what else blocks it. */
  direction: v.string(),
  /** Policies, as "namespace/name". */
  isolatedBy: names,
});
export type Blocked = v.InferOutput<typeof Blocked>;

/** Answer of GET /view. */
export const PolicyView = v.object({
  node: v.string(),
  inSync: v.boolean(),
  policies: v.number(),
  /** By a number that grows. */
  blocked: v.record(v.string(), Blocked),
  /** Pods of this node by address: which policies isolate them. */
  pods: v.record(v.string(), v.object({ pod: v.string(), ingress: names, egress: names })),
});
export type PolicyView = v.InferOutput<typeof PolicyView>;
