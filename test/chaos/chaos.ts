// npm run test:chaos -- [--seed N] [--minutes M] [--hosts H] [--encrypted] [--old DIR] [--replay FILE] [--shrink FILE]
// [--history FILE]: steps chosen by a seed until the time is over, or those of a file; and the shortest history that still fails.
// --old has executables of another version, between which and ours hosts change.
import { appendFileSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { seededRandom } from "../../lib/clock/random.ts";
import { inOwnWorld } from "../tools/run/world.ts";
import { formatHistory, type Head, parseHistory } from "./history.ts";
import { type Done, type Outcome, type RunOptions, run } from "./run.ts";
import { shrink } from "./shrink.ts";
import { chanceOf } from "./step.ts";
import { summary } from "./summary.ts";
import { chooseStep, type Taken } from "./table.ts";
import type { World } from "./world.ts";

const INSIDE = "WEAVE_CHAOS_INSIDE";
const MINUTE_MS = 60_000;

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    minutes: { type: "string", default: "5" },
    hosts: { type: "string", default: "5" },
    encrypted: { type: "boolean" },
    old: { type: "string" },
    history: { type: "string" },
    replay: { type: "string" },
    shrink: { type: "string" },
  },
});

function number(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (text !== "" && value >= min && value <= max) return value;
  console.error(`error: --${name} ${text}: not a number of ${min} to ${max}`);
  process.exit(2);
}

const minutes = number("minutes", values.minutes, 0, 100_000);

async function chaos(): Promise<boolean> {
  const seed = number("seed", values.seed ?? String(Math.floor(Math.random() * 2 ** 31)), 0, 2 ** 31);
  const hosts = number("hosts", values.hosts, 3, 20);
  const random = seededRandom(BigInt(seed));
  const chance = chanceOf(random);
  const { old } = values;
  const head = { seed, hosts, encrypted: values.encrypted ?? chance.below(3) === 0, ...(old && { old }) };
  const file = values.history ?? join(tmpdir(), `weave-chaos-${seed}.jsonl`);
  console.log(`seed ${seed}, ${hosts} hosts, ${head.encrypted ? "encrypted" : "plain"}; history in ${file}`);
  writeFileSync(file, `${JSON.stringify(head)}\n`);
  let end: number | undefined;
  const outcome = await run("chs", {
    ...head,
    next(model) {
      end ??= performance.now() + minutes * MINUTE_MS;
      return performance.now() < end ? chooseStep(model, chance) : undefined;
    },
    say: console.log,
    failed: keepLogs(file),
    tell(done) {
      appendFileSync(file, `${JSON.stringify(done)}\n`);
      console.log(line(done));
    },
  });
  return report(head, outcome);
}

/** Copies the logs of all hosts beside a history. */
const keepLogs = (file: string) => (world: World) => {
  const folder = `${file}.logs`;
  mkdirSync(folder, { recursive: true });
  for (const i of world.numbers) {
    const { folder: from } = world.host(i);
    for (const [name, log] of [
      ["router", "run/weave.log"],
      ["npc", "npc.log"],
    ] as const)
      if (existsSync(join(from, log))) copyFileSync(join(from, log), join(folder, `host${i}-${name}.log`));
  }
  console.log(`logs are in ${folder}`);
};

const line = ({ step, facts, tookMs, settledMs }: Done) =>
  `  ${facts && step !== "exhaust" ? `${JSON.stringify(facts)}, ` : ""}took ${tookMs} ms, waited ${settledMs} ms`;

function report(head: Head, { done, violation }: Outcome): boolean {
  for (const text of summary(done)) console.log(text);
  if (!violation) {
    console.log(`${done.length} steps, all has held`);
    return true;
  }
  console.log(`FAILED after ${done.length} steps (seed ${head.seed}): ${violation.kind}`);
  for (const text of violation.lines) console.log(`  ${text}`);
  console.log("history:");
  console.log(formatHistory({ head, steps: done.map(({ step, args }) => ({ step, args })) }));
  return false;
}

const replaying = (head: Head, steps: readonly Taken[], more: Partial<RunOptions> = {}) => {
  const left = [...steps];
  return run("chs", { ...head, next: () => left.shift(), ...more });
};

async function replay(file: string): Promise<boolean> {
  const { head, steps } = parseHistory(readFileSync(file, "utf8"));
  const tell = (done: Done) => console.log(line(done));
  return report(head, await replaying(head, steps, { tell, say: console.log, failed: keepLogs(file) }));
}

/** Tries parts of a history for some minutes; writes the shortest so far beside it. */
async function shorten(file: string): Promise<boolean> {
  const { head, steps } = parseHistory(readFileSync(file, "utf8"));
  const end = performance.now() + minutes * MINUTE_MS;
  const { violation } = await replaying(head, steps);
  if (!violation) {
    console.log("this history does not fail");
    return false;
  }
  const fails = async (part: readonly Taken[]) => {
    const outcome = await replaying(head, part);
    const same = outcome.violation?.kind === violation.kind;
    console.log(`${part.length} steps: ${outcome.violation?.kind ?? "all has held"}`);
    if (same) writeFileSync(`${file}.short`, formatHistory({ head, steps: part }));
    return same;
  };
  const shortest = await shrink(steps, fails, () => performance.now() < end);
  console.log(`${violation.kind}, by ${shortest.length} of ${steps.length} steps (${file}.short):`);
  console.log(formatHistory({ head, steps: shortest }));
  return true;
}

/** Everything happens in namespaces of its own, with a /tmp beside that of the machine. */
async function enter(): Promise<number> {
  const files = ["history", "replay", "shrink", "old"] as const;
  const absolute = files.flatMap((name) => (values[name] ? [`--${name}=${resolve(values[name])}`] : []));
  const history = values.history
    ? []
    : [`--history=${join(tmpdir(), `weave-chaos-${values.seed ?? process.pid}.jsonl`)}`];
  const child = Bun.spawn(
    inOwnWorld([process.execPath, import.meta.path, ...process.argv.slice(2), ...absolute, ...history]),
    { stdio: ["inherit", "inherit", "inherit"], env: { ...process.env, [INSIDE]: "1" } },
  );
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => child.kill("SIGKILL"));
  return child.exited;
}

if (process.env[INSIDE] !== "1") process.exitCode = await enter();
else {
  const { replay: repeated, shrink: shortened } = values;
  const ok = await (repeated ? replay(repeated) : shortened ? shorten(shortened) : chaos());
  process.exitCode = ok ? 0 : 1;
}
