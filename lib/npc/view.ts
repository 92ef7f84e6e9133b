// What weave-npc shows on the host's status page: the latest blocked connections, and what isolates the pods of the node.
import * as v from "valibot";
import { LatestMap } from "../clock/latestmap.ts";
import type { Fields } from "../log/fields.ts";
import { isolating } from "./compiler.ts";
import { keyOf, type Model } from "./model.ts";
import { DIRECTIONS } from "./objects.ts";
import { Blocked, type PolicyView } from "./policyview.ts";

/** Blocked connections remembered. */
const MAX_BLOCKED = 200;
/** What isolates pods is looked up again not before this: with thousands of policies it takes a while. */
const PODS_MS = 5_000;

/** The latest blocked connections. */
export class LatestBlocked {
  readonly #latest = new LatestMap<string, Blocked>(MAX_BLOCKED);
  #count = 0;

  /** Remember one, by the fields of its log line. */
  add(at: number, fields: Fields): void {
    const { event, ...rest } = fields;
    const read = v.safeParse(Blocked, { ...rest, at, cut: event === "cut" });
    if (!read.success) return;
    this.#latest.set(String(++this.#count), read.output);
  }

  all(): PolicyView["blocked"] {
    return Object.fromEntries(this.#latest);
  }
}

/** Returns what tells which policies isolate the pods of a node; `now` is in ms. */
export function isolation(
  model: Model,
  node: string,
  legacy: boolean,
  now: () => number,
): () => PolicyView["pods"] {
  let known:
    | { readonly pods: PolicyView["pods"]; readonly at: number; readonly policies: number }
    | undefined;
  return () => {
    const policies = model.policyCount;
    if (known && known.policies === policies && now() - known.at < PODS_MS) return known.pods;
    const pods = Object.fromEntries(
      [...model.pods.values()]
        .filter((pod) => pod.node === node && !pod.hostNetwork && !pod.ended)
        .flatMap((pod) => {
          const [ingress = [], egress = []] = DIRECTIONS.map((direction) =>
            (isolating(model, pod, direction, legacy) ?? []).map(keyOf),
          );
          return model
            .addressesOf(pod)
            .map((address) => [address, { pod: keyOf(pod), ingress, egress }] as const);
        }),
    );
    known = { pods, at: now(), policies };
    return pods;
  };
}
