// What routers ask each other for a trace, and the answers: read-only, one at a time for each host.
import * as v from "valibot";
import { formatIPv4, parseIPv4 } from "../address/ipv4.ts";
import type { ApiClient } from "../api/client.ts";
import { systemClock } from "../clock/clock.ts";
import { locate } from "./locate.ts";
import { look } from "./look.ts";
import { PROTOCOLS } from "./probe.ts";
import type { Side, saw } from "./side.ts";

export const TRACE_SUBJECT = "trace";

/** Time-outs of a look, in ms. */
export const LOOK_MS = 2_000;
const MAX_LOOK_MS = 5_000;

const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535));
const address = v.pipe(v.string(), v.ipv4());

export const TraceQuestion = v.variant("kind", [
  /** Which container of yours is this, by its address, id or name? */
  v.object({ kind: v.literal("locate"), name: v.pipe(v.string(), v.minLength(1), v.maxLength(256)) }),
  /** What do you see of this probe, to a container of yours? */
  v.object({
    kind: v.literal("look"),
    source: address,
    destination: address,
    protocol: v.picklist(PROTOCOLS),
    port,
    id: port,
    ms: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MAX_LOOK_MS)),
  }),
]);
export type TraceQuestion = v.InferInput<typeof TraceQuestion>;

export const Located = v.object({
  container: v.nullable(v.object({ id: v.pipe(v.string(), v.maxLength(256)), address })),
});
export type Located = v.InferOutput<typeof Located>;

/** Returns what answers a router's questions; `runtimes` are the sockets of Docker and podman. */
export function traceAnswerer(
  api: ApiClient,
  runtimes: readonly string[],
): (body: unknown) => Promise<Located | Side> {
  let busy = false;
  return async (body) => {
    const asked = v.safeParse(TraceQuestion, body);
    if (!asked.success) throw new Error("not a question of trace that this version knows");
    const question = asked.output;
    if (question.kind === "locate")
      return { container: (await locate(api, runtimes, question.name)) ?? null };
    if (busy) throw new Error("another trace is being answered; try again");
    busy = true;
    try {
      return await answerLook(question);
    } finally {
      busy = false;
    }
  };
}

function answerLook({ ms, ...asked }: Extract<TraceQuestion, { kind: "look" }>): Promise<Side> {
  const [source, destination] = [parseIPv4(asked.source), parseIPv4(asked.destination)];
  const { protocol, port: number, id } = asked;
  const probe = { source, destination, protocol, port: number, id };
  const done = (seen: Side["seen"]) => {
    const has = (...args: Parameters<typeof saw> extends [unknown, ...infer Rest] ? Rest : never) =>
      seen.some((each) => each.point === args[0] && each.sign === args[1] && each.out === args[2]);
    return (
      has("inside", "probe", false) && (has("overlay", "answer", true) || has("overlay", "refused", true))
    );
  };
  return look({ address: destination, probe, rules: true, done }, systemClock, ms);
}

/** The question about a probe to another host's container. */
export function lookQuestion(probe: Parameters<typeof look>[0]["probe"], ms: number): TraceQuestion {
  const { source, destination } = probe;
  return {
    ...probe,
    kind: "look",
    source: formatIPv4(source),
    destination: formatIPv4(destination),
    ms,
  };
}
