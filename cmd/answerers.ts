// What this host's router answers other routers: read-only, within seconds, and whatever a peer says in its question.
import type { Answerer } from "../lib/mesh/ask.ts";
import { VERSION } from "../lib/version.ts";

/** Answerers by subject. */
export const ANSWERERS: ReadonlyMap<string, Answerer> = new Map<string, Answerer>([
  ["version", async () => ({ version: VERSION })],
]);
