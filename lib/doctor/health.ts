// What a router tells other routers of its host's health, for weave doctor --cluster: what the doctor finds in its report,
// small, from memory; nothing of the host is looked at for a stranger's question.
import * as v from "valibot";
import type { ApiClient } from "../api/client.ts";
import { systemClock } from "../clock/clock.ts";
import { VERSION } from "../version.ts";
import { askRouter, routerFindings } from "./router.ts";

export const HEALTH_SUBJECT = "doctor";

const MAX_FINDINGS = 32;
/** Characters. */
const MAX_TEXT = 400;
/** Whoever asks gets the same answer for so long. */
const FRESH_MS = 2_000;

const text = v.pipe(v.string(), v.maxLength(MAX_TEXT));

/** The answer. Others' answers are a stranger's: what is not this is none. */
export const Health = v.object({
  version: v.pipe(v.string(), v.maxLength(64)),
  findings: v.pipe(
    v.array(v.object({ check: text, level: v.picklist(["warning", "problem"]), found: text, advice: text })),
    v.maxLength(MAX_FINDINGS),
  ),
  /** Findings that there was no room for. */
  more: v.pipe(v.number(), v.integer(), v.minValue(0)),
});
export type Health = v.InferOutput<typeof Health>;

/** Returns what answers other routers; `api` is the router's own. */
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
  // Problems first: they are not to be what there is no room for.
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
