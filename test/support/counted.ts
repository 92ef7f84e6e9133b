// Run a daemon from source that reports its live objects: `bun counted.ts weave-router|weave-npc ARGUMENTS`. On SIGUSR2 it
// collects all garbage, and writes the number of objects by type, as JSON, to the file that COUNTS names.
import { heapStats } from "bun:jsc";
import { renameSync, writeFileSync } from "node:fs";
import { controller } from "../../cmd/commands/npc/controller.ts";
import { router } from "../../cmd/commands/router.ts";
import { run } from "../../cmd/main.ts";
import { EVENT_BOUNDS } from "../../lib/ui/events.ts";

const [program = "", ...argv] = process.argv.slice(2);
const file = process.env["COUNTS"] ?? "";

process.on("SIGUSR2", () => {
  Bun.gc(true);
  writeFileSync(`${file}.new`, JSON.stringify(heapStats().objectTypeCounts));
  renameSync(`${file}.new`, file);
});
// Events are kept for a day, up to this limit: a few rounds have to reach it.
EVENT_BOUNDS.entries = 20;
await run(program, program === "weave-npc" ? controller : router, argv);
