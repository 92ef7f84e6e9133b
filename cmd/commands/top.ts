// weave top: traffic and drops of each container, from the kernel's counters.
import * as v from "valibot";
import { apiClient } from "../../lib/api/client.ts";
import { type Names, topOf } from "../../lib/api/rates.ts";
import { type Shape, Top } from "../../lib/api/shapes.ts";
import { TrafficSample } from "../../lib/api/traffic.ts";
import { containerNames } from "../../lib/container/runtime.ts";
import { PLAIN } from "../../lib/help/layout.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import type { Command } from "../arguments.ts";
import { intervalOf } from "../live/interval.ts";
import { topLines, topSummary } from "../live/toptable.ts";
import { watch } from "../live/watch.ts";
import { stdout } from "../output/stdout.ts";
import { runtimeSockets } from "./target.ts";

/** Between the two samples of one answer. */
const ONCE_MS = 1_000;
/** Runtimes are asked for names this often. */
const NAMES_MS = 10_000;

export const top: Command = {
  name: "top",
  group: "Troubleshooting",
  description: "Show traffic and drops of containers, busiest first",
  details: [
    "IN is what a container receives, OUT what it sends. DROPS counts frames that the kernel, anti-spoofing or storm control dropped, both ways, and behind + those since the line before.",
    "If the output is not a terminal, prints one table after 1 s.",
  ],
  options: {
    interval: {
      type: "string",
      alias: "n",
      default: "2",
      valueHint: "SECONDS",
      description: "Refresh every SECONDS until Ctrl-C",
    },
    once: { type: "boolean", default: false, description: "Measure for 1 s, print one table and exit" },
    ...JSON_OPTION,
  },
  examples: [
    { command: "weave top", does: "Watch containers" },
    { command: "weave top --json", does: "Measure for 1 s and print JSON" },
  ],
  async run(args) {
    const { options, style = PLAIN } = args;
    const everyMs = intervalOf(args, "interval");
    const next = sampler();
    if (options["json"] || options["once"] || !stdout.isTTY || everyMs === undefined) {
      await next();
      await Bun.sleep(ONCE_MS);
      const measured = await next();
      answer(args, Top, measured, [topSummary(measured), "", ...topLines(measured)].join("\n"));
      return;
    }
    await watch({
      command: "weave top",
      everyMs,
      style,
      marks: false,
      async look() {
        const measured = await next();
        return [topSummary(measured), "", ...topLines(measured)];
      },
    });
  },
};

/** Return a function that takes a sample, with rates since the one before; at first, rates are 0. */
function sampler(): () => Promise<Shape<typeof Top>> {
  let before: { sample: TrafficSample; at: number } | undefined;
  let names: { known: Names; at: number } | undefined;
  return async () => {
    const sample = v.parse(TrafficSample, JSON.parse(await apiClient()("GET", "/traffic")));
    const at = performance.now();
    const isNew = sample.links.some(({ id }) => !names?.known.has(id));
    if (!names || (isNew && at - names.at > NAMES_MS))
      names = { known: await containerNames(runtimeSockets()), at };
    const last = before ?? { sample, at };
    before = { sample, at };
    return topOf(sample, last.sample, (at - last.at) / 1_000, names.known);
  };
}
