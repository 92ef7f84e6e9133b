// Health of this host for other routers' weave doctor --cluster: findings from its report,
// bounded and from memory; a remote question never examines the host.
import * as v from "valibot";
import type { ApiClient } from "../api/client.ts";
import { systemClock } from "../clock/clock.ts";
import { VERSION } from "../version.ts";
import { askRouter, routerFindings } from "./router.ts";

export const HEALTH_SUBJECT = "doctor";

const MAX_FINDINGS = 32;
/** Characters. */
const MAX_TEXT = 400;
/** Lifetime of a cached answer. */
const FRESH_MS = 2_000;

const text = v.pipe(v.string(), v.maxLength(MAX_TEXT));

/** The answer. Answers of other routers are validated against it. */
export const Health = v.object({
  version: v.pipe(v.string(), v.maxLength(64)),
  findings: v.pipe(
    v.array(v.object({ check: text, level: v.picklist(["warning", "problem"]), found: text, advice: text })),
    v.maxLength(MAX_FINDINGS),
  ),
  /** Number of findings left out. */
  more: v.pipe(v.number(), v.integer(), v.minValue(0)),
});
export type Health = v.InferOutput<typeof Health>;

/** Return what answers other routers; `api` is the router's own. */
export function healthAnswerer(api: ApiClient): () => Promise<Health> {
  let last: { readonly at: number; readonly answer: Promise<Health> } | undefined;
  return () => {
    const now = systemClock.now();
    if (!last || now - last.at > FRESH_MS) last = { at: now, answer: health(api) };
    return last.answer;
  };
}

async function health(api: ApiClient): Promise<Health> {
  const findings = routerFindings(await askRouter(api)).flatMap(({ check, level, found, advice = "" }) =>
    level === "ok" ? [] : [{ check, level, found: cut(found), advice: cut(advice) }],
  );
  // Problems first, so that warnings are left out before them.
  const ordered = [
    ...findings.filter(({ level }) => level === "problem"),
    ...findings.filter(({ level }) => level === "warning"),
  ];
  return {
    version: VERSION,
    findings: ordered.slice(0, MAX_FINDINGS),
    more: Math.max(0, ordered.length - MAX_FINDINGS),
  };
}

const cut = (long: string) => (long.length > MAX_TEXT ? `${long.slice(0, MAX_TEXT - 1)}…` : long);
