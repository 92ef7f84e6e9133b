// npm run test:mutation [-- ROOM|FILE… --sample N --seed S --jobs J --limit S]: changes the code in small ways, one at a
// time, and tells which changes no test notices. Without --sample all of them, which takes long.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { below, seededRandom } from "../../lib/clock/random.ts";
import { findMutants, type Mutant } from "./mutation/mutants.ts";
import { reasonFor } from "./mutation/survivors.ts";
import { roomOf, TestMap } from "./mutation/testsof.ts";
import { Workspace } from "./mutation/workspace.ts";

const root = join(import.meta.dir, "../..");
/** A mutant may make tests this many times slower, and so many seconds. */
const PATIENCE = { times: 3, seconds: 10 };

/** Killed by a test or by time; invalid: it does not compile; excused: a survivor with a reason. */
type Fate = "killed" | "timed out" | "survived" | "excused" | "invalid" | "untested";
const FATES: readonly Fate[] = ["killed", "timed out", "survived", "excused", "invalid", "untested"];

function options() {
  const { values, positionals } = parseArgs({
    args: process.argv.slice(2),
    allowPositionals: true,
    options: {
      sample: { type: "string" },
      seed: { type: "string" },
      jobs: { type: "string", default: "1" },
      limit: { type: "string", default: "60" },
    },
  });
  const seed = values.seed ?? String(Math.floor(Math.random() * 2 ** 32));
  return {
    wanted: positionals,
    seed: BigInt(seed),
    sample: values.sample === undefined ? undefined : Number(values.sample),
    jobs: Number(values.jobs),
    limitS: Number(values.limit),
  };
}

function draw(mutants: Mutant[], count: number, seed: bigint): Mutant[] {
  const random = seededRandom(seed);
  for (let i = 0; i < Math.min(count, mutants.length); i++) {
    const j = i + below(random, mutants.length - i);
    const [a, b] = [mutants[i], mutants[j]];
    if (a && b) [mutants[i], mutants[j]] = [b, a];
  }
  return mutants.slice(0, count);
}

const { wanted, seed, sample, jobs, limitS } = options();
const map = await TestMap.read(root);
const files = map.files.filter(
  (file) => wanted.length === 0 || wanted.includes(roomOf(file)) || wanted.includes(file),
);
if (files.length === 0) {
  console.error(`error: no such room or file: ${wanted.join(" ")}`);
  process.exit(2);
}
const all = await findMutants(root, files);
const mutants = sample === undefined ? all : draw(all, sample, seed);
console.log(`${mutants.length} of ${all.length} mutants in ${files.length} files; --seed ${seed}`);

/** Seconds that each test file takes with nothing changed; those that take longer than the limit are left out. */
const usual = new Map<string, number>();
const fates = new Map<string, Map<Fate, number>>();
const queue = [...mutants];
const spaces: Workspace[] = [];
const end = () => {
  for (const space of spaces) space[Symbol.dispose]();
};
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.once(signal, () => {
    end();
    process.exit(130);
  });

async function usualSeconds(space: Workspace, test: string): Promise<number> {
  const known = usual.get(test);
  if (known !== undefined) return known;
  const began = performance.now();
  const outcome = await space.test(test, limitS);
  if (outcome === "failed") throw new Error(`${test} fails with nothing changed`);
  const seconds = outcome === "passed" ? (performance.now() - began) / 1000 : Number.POSITIVE_INFINITY;
  usual.set(test, seconds);
  return seconds;
}

async function judge(space: Workspace, mutant: Mutant): Promise<readonly [Fate, string?]> {
  let judged = false;
  for (const test of map.of(mutant.file)) {
    const seconds = await usualSeconds(space, test);
    if (seconds > limitS) continue;
    judged = true;
    const limit = Math.ceil(PATIENCE.times * seconds + PATIENCE.seconds);
    const outcome = await space.with(mutant, () => space.test(test, limit));
    if (outcome === "failed") return ["killed", test];
    if (outcome === "timed out") return ["timed out", test];
  }
  if (!judged) return ["untested"];
  if (!(await space.with(mutant, () => space.typechecks()))) return ["invalid"];
  const reason = reasonFor(mutant);
  return reason === undefined ? ["survived"] : ["excused", reason];
}

async function work(space: Workspace): Promise<void> {
  for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
    const [fate, by = ""] = await judge(space, mutant);
    const room = roomOf(mutant.file);
    const counts = fates.get(room) ?? new Map<Fate, number>();
    counts.set(fate, (counts.get(fate) ?? 0) + 1);
    fates.set(room, counts);
    const { file, line, operator, before, text } = mutant;
    console.log(
      `${fate.padEnd(9)} ${file}:${line} ${operator}: ${before || "(nothing)"} -> ${text.trim() || "(nothing)"} ${by}`,
    );
  }
}

try {
  await Promise.all(Array.from({ length: jobs }, () => Workspace.make(root, (space) => spaces.push(space))));
  await Promise.all(spaces.map(work));
} finally {
  end();
}

const row = (name: string, counts: ReadonlyMap<Fate, number>) => {
  const of = (fate: Fate) => counts.get(fate) ?? 0;
  const noticed = of("killed") + of("timed out");
  const judged = noticed + of("survived") + of("untested");
  const score = judged === 0 ? "" : `${Math.round((100 * noticed) / judged)} %`;
  return [name, ...FATES.map(of), score]
    .map((cell) => String(cell).padEnd(11))
    .join("")
    .trimEnd();
};
const total = new Map<Fate, number>();
for (const counts of fates.values())
  for (const [fate, count] of counts) total.set(fate, (total.get(fate) ?? 0) + count);
console.log(
  `\n${["room", ...FATES, "score"]
    .map((cell) => cell.padEnd(11))
    .join("")
    .trimEnd()}`,
);
for (const [room, counts] of [...fates].sort()) console.log(row(room, counts));
console.log(row("all", total));
const left = [...usual].filter(([, seconds]) => seconds > limitS).map(([test]) => test);
if (left.length > 0) console.log(`left out, for they take over ${limitS} s: ${left.join(", ")}`);
process.exitCode = (total.get("survived") ?? 0) > 0 ? 1 : 0;
