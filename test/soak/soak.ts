// npm run test:soak -- [--hours N] [--hosts H] [--seed N] [--interval SECONDS] [--folder DIR]: hosts with churn for hours, at a
// low rate; what each program uses is written to DIR/samples.jsonl, and at the end whether it is flat.
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { seededRandom } from "../../lib/clock/random.ts";
import { containersOf, type Model } from "../chaos/model.ts";
import { type Done, run } from "../chaos/run.ts";
import { type Chance, chanceOf } from "../chaos/step.ts";
import { stepNamed, type Taken } from "../chaos/table.ts";
import type { World } from "../chaos/world.ts";
import { inOwnWorld } from "../tools/run/world.ts";
import { report } from "./report.ts";
import { type Sample, sample } from "./sample.ts";
import { WARM_UP } from "./trend.ts";

const INSIDE = "WEAVE_SOAK_INSIDE";
const HOUR_MS = 3_600_000;
const SAMPLE_MS = 60_000;
/**
 * Number of STEPS steps that restart a program; never one of host 1, whose samples are one series. A router's memory grows over the
 * first 250 or so restarts of its peers, and over the first containers and policies (compilers, allocator). In the warm-up, half of
 * the steps therefore restart routers, and steps follow each other without a pause.
 */
const RESTARTS = { warmUp: 20, after: 1 } as const;
const STEPS = 40;
const USUAL: readonly string[] = ["add", "add", "add", "remove", "remove", "policy"];
const MAX_CONTAINERS = 10;

const { values } = parseArgs({
  options: {
    hours: { type: "string", default: "2" },
    hosts: { type: "string", default: "4" },
    seed: { type: "string", default: "1" },
    interval: { type: "string", default: "10" },
    folder: { type: "string" },
  },
});

function positive(name: "hours" | "hosts" | "interval" | "seed"): number {
  const value = Number(values[name]);
  if (value > 0) return value;
  console.error(`error: --${name} ${values[name]}: not a number above 0`);
  process.exit(2);
}

function choose(model: Model, chance: Chance, warmUp: boolean): Taken {
  const restarts = warmUp ? RESTARTS.warmUp : RESTARTS.after;
  for (;;) {
    const name = chance.below(STEPS) < restarts ? "crash" : (chance.pick(USUAL) ?? "add");
    if (name === "add" && model.containers.length >= MAX_CONTAINERS) continue;
    const args = stepNamed(name).choose(model, chance);
    if (args === undefined) continue;
    const { host, program } = args as { host?: number; program?: string };
    const isSpared = name === "crash" && (host === 1 || (warmUp && program !== "router"));
    if (!isSpared) return { step: name, args };
  }
}

/** Run the soak test. Returns the exit code: 0 flat, 1 growth or a violated invariant, 2 unclear. */
async function soak(folder: string): Promise<number> {
  const [hours, hosts, seed] = [positive("hours"), positive("hosts"), positive("seed")];
  const intervalMs = positive("interval") * 1_000;
  const chance = chanceOf(seededRandom(BigInt(seed)));
  const files = { samples: join(folder, "samples.jsonl"), steps: join(folder, "steps.jsonl") };
  writeFileSync(files.samples, "");
  writeFileSync(files.steps, "");
  console.log(`seed ${seed}, ${hosts} hosts, ${hours} h; ${files.samples}`);
  const start = performance.now();
  const samples: Sample[] = [];
  let sampled = Number.NEGATIVE_INFINITY;
  let stopped = false;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      stopped = true;
    });
  }

  const look = async (model: Model, world: World) => {
    if (performance.now() - sampled < SAMPLE_MS) return;
    sampled = performance.now();
    const seconds = Math.round((sampled - start) / 1_000);
    const taken = await sample(world, seconds, (host) => containersOf(model, host).length);
    samples.push(...taken);
    appendFileSync(files.samples, taken.map((each) => `${JSON.stringify(each)}\n`).join(""));
    writeFileSync(join(folder, "report.txt"), report(samples).text);
  };
  const { done, violation } = await run("soak", {
    hosts,
    encrypted: false,
    roundMs: 1_000,
    async next(model, world) {
      await look(model, world);
      const warmUp = performance.now() - start < WARM_UP * hours * HOUR_MS;
      // Without pauses, the warm-up takes less time.
      const due = performance.now() + (warmUp ? 0 : intervalMs);
      while (!stopped && performance.now() < due) await Bun.sleep(500);
      if (stopped || performance.now() - start > hours * HOUR_MS) return undefined;
      return choose(model, chance, warmUp);
    },
    tell: (step: Done) => appendFileSync(files.steps, `${JSON.stringify(step)}\n`),
  });
  const { text, result } = report(samples);
  console.log(text);
  console.log(`${done.length} steps`);
  if (violation) console.log(`FAILED: ${violation.kind}\n  ${violation.lines.join("\n  ")}`);
  return violation ? 1 : { flat: 0, grows: 1, unclear: 2 }[result];
}

async function enter(): Promise<number> {
  const folder = resolve(values.folder ?? join(tmpdir(), `weave-soak-${process.pid}`));
  mkdirSync(folder, { recursive: true });
  const command = [process.execPath, import.meta.path, ...process.argv.slice(2), `--folder=${folder}`];
  const child = Bun.spawn(inOwnWorld(command), {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, [INSIDE]: "1" },
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => child.kill("SIGKILL"));
  return child.exited;
}

process.exitCode = process.env[INSIDE] === "1" ? await soak(values.folder ?? ".") : await enter();
