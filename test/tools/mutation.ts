// npm run test:mutation [-- ROOM|FILE… --sample N --per-file N --seed S --faults FILE.json --jobs J --limit S]: changes the
// code in small ways, one at a time, and lists the changes that no test detects. Without --sample and --per-file it makes all
// changes, about 1 s each: it runs only tests that run the changed line, the quickest first, several in one process. The lines
// that a test runs are kept between runs (mutation/traces.ts). --faults takes the changes from a file instead of the operators
// (mutation/faults.ts).
import { join } from "node:path";
import { parseArgs } from "node:util";
import { below, seededRandom } from "../../lib/clock/random.ts";
import { reasonOf } from "../../lib/sys/reason.ts";
import { Coverage } from "./mutation/coverage.ts";
import { readFaults } from "./mutation/faults.ts";
import { findMutants, type Mutant } from "./mutation/mutants.ts";
import { reasonFor } from "./mutation/survivors.ts";
import { movesProcess, roomOf, TestMap } from "./mutation/testsof.ts";
import { Workspace } from "./mutation/workspace.ts";

const root = join(import.meta.dir, "../..");
/** A mutant may make tests this many times slower, and so many seconds. */
const PATIENCE = { times: 3, seconds: 10 };
/** Test files that one process runs; those that move their process have one each. */
const TOGETHER = 5;

/** Killed by a test or by time; invalid: it does not compile; excused: a survivor with a reason; untested: its line is not run. */
type Fate = "killed" | "timed out" | "survived" | "excused" | "invalid" | "untested";
const FATES: readonly Fate[] = ["killed", "timed out", "survived", "excused", "invalid", "untested"];

function options() {
  const { values, positionals } = parseArgs({
    args: process.argv.slice(2),
    allowPositionals: true,
    options: {
      sample: { type: "string" },
      "per-file": { type: "string" },
      seed: { type: "string" },
      faults: { type: "string" },
      jobs: { type: "string", default: "1" },
      limit: { type: "string", default: "60" },
    },
  });
  const seed = values.seed ?? String(Math.floor(Math.random() * 2 ** 32));
  return {
    wanted: positionals,
    seed: BigInt(seed),
    sample: values.sample === undefined ? undefined : Number(values.sample),
    perFile: values["per-file"] === undefined ? undefined : Number(values["per-file"]),
    faults: values.faults,
    jobs: Number(values.jobs),
    limitS: Number(values.limit),
  };
}

/** Read the faults of a file; exit with 2 if one does not apply. */
function chosen(path: string): Mutant[] {
  try {
    return readFaults(root, path).filter(({ file }) => files.includes(file));
  } catch (error) {
    console.error(`error: ${reasonOf(error)}`);
    process.exit(2);
  }
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

const { wanted, seed, sample, perFile, faults, jobs, limitS } = options();
const map = await TestMap.read(root);
const files = map.files.filter(
  (file) => wanted.length === 0 || wanted.includes(roomOf(file)) || wanted.includes(file),
);
if (files.length === 0) {
  console.error(`error: no such room or file: ${wanted.join(" ")}`);
  process.exit(2);
}
const all = await (faults === undefined ? findMutants(root, files) : chosen(faults));
const some =
  perFile === undefined
    ? all
    : [...Map.groupBy(all, ({ file }) => file).values()].flatMap((mutants) => draw(mutants, perFile, seed));
const mutants = sample === undefined ? some : draw(some, sample, seed);
console.log(`${mutants.length} of ${all.length} mutants in ${files.length} files; --seed ${seed}`);

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

/** Return the test files as processes run them. */
function* processesOf(tests: readonly string[]): Generator<readonly string[]> {
  const together = tests.filter((test) => !movesProcess(test));
  for (let at = 0; at < together.length; at += TOGETHER) yield together.slice(at, at + TOGETHER);
  for (const test of tests.filter(movesProcess)) yield [test];
}

async function judge(
  space: Workspace,
  coverage: Coverage,
  mutant: Mutant,
): Promise<readonly [Fate, string?]> {
  const tests = coverage.of(mutant);
  for (const together of processesOf(tests)) {
    const limit = Math.ceil(PATIENCE.times * coverage.seconds(together) + PATIENCE.seconds);
    const outcome = await space.with(mutant, () => space.test(together, limit));
    if (outcome !== "passed") return [outcome === "failed" ? "killed" : "timed out", together.join(" ")];
  }
  const reason = reasonFor(mutant);
  if (reason !== undefined) return ["excused", reason];
  if (tests.length === 0) return ["untested"];
  return [(await space.with(mutant, () => space.typechecks())) ? "survived" : "invalid"];
}

async function work(space: Workspace, coverage: Coverage): Promise<void> {
  for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
    const [fate, by = ""] = await judge(space, coverage, mutant);
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

let leftOut: ReadonlyMap<string, string> = new Map();
try {
  await Promise.all(Array.from({ length: jobs }, () => Workspace.make(root, (space) => spaces.push(space))));
  const tests = [...new Set(mutants.flatMap(({ file }) => map.of(file)))].sort();
  const coverage = await Coverage.measure(
    spaces.map(({ path }) => path),
    tests,
    limitS,
  );
  leftOut = coverage.leftOut;
  await Promise.all(spaces.map((space) => work(space, coverage)));
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
for (const [test, why] of leftOut) console.log(`left out: ${test} ${why} on unchanged code`);
process.exitCode = (total.get("survived") ?? 0) > 0 ? 1 : 0;
