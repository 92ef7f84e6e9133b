// Answers to other routers' questions: read-only, within seconds, whatever the question contains.
import type { ApiClient } from "../lib/api/client.ts";
import { HEALTH_SUBJECT, healthAnswerer } from "../lib/doctor/health.ts";
import type { Answerer } from "../lib/mesh/ask.ts";
import { TRACE_SUBJECT, traceAnswerer } from "../lib/trace/question.ts";
import { VERSION } from "../lib/version.ts";
import { runtimeSockets } from "./commands/target.ts";

/** Answerers by subject, with the API of the router itself. */
export function answerers(api: ApiClient): ReadonlyMap<string, Answerer> {
  return new Map<string, Answerer>([
    ["version", async () => ({ version: VERSION })],
    [HEALTH_SUBJECT, healthAnswerer(api)],
    [TRACE_SUBJECT, traceAnswerer(api, runtimeSockets())],
  ]);
}
