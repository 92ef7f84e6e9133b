// Answers to other routers' questions: read-only, within seconds, whatever the question contains. What answers is loaded with
// the first question: a start need not wait for it.
import type { ApiClient } from "../lib/api/client.ts";
import type { Answerer } from "../lib/mesh/ask.ts";
import { VERSION } from "../lib/version.ts";

const HEALTH: typeof import("../lib/doctor/health.ts").HEALTH_SUBJECT = "doctor";
const TRACE: typeof import("../lib/trace/question.ts").TRACE_SUBJECT = "trace";

/** Answerers by subject, with the API of the router itself. */
export function answerers(api: ApiClient): ReadonlyMap<string, Answerer> {
  return new Map<string, Answerer>([
    ["version", async () => ({ version: VERSION })],
    [HEALTH, loaded(async () => (await import("../lib/doctor/health.ts")).healthAnswerer(api))],
    [TRACE, loaded(() => loadTrace(api))],
  ]);
}

async function loadTrace(api: ApiClient): Promise<Answerer> {
  const { traceAnswerer } = await import("../lib/trace/question.ts");
  const { runtimeSockets } = await import("./commands/target.ts");
  return traceAnswerer(api, runtimeSockets());
}

/** Return an answerer that is loaded when it is first asked. */
function loaded(load: () => Promise<Answerer>): Answerer {
  let answerer: Promise<Answerer> | undefined;
  return async (body, source) => {
    answerer ??= load();
    return (await answerer)(body, source);
  };
}
