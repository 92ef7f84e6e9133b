// npm test [-- [--no-build] KIND|PATTERN|./FILE…]: lint, types and build, and the tests by kind beside them, or only those of some
// kinds, those whose path has a pattern in it, and files by their path. The last line sums up: "N passed, N failed, N skipped".
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Glob } from "bun";
import { ENGINE_OPTIONS } from "../../lib/sys/runtime.ts";
import { foreignRoot } from "../support/foreign.ts";
import { kubeTools } from "../support/kubetools.ts";
import { fetchKernel } from "../support/vm.ts";
import { runtimeOf } from "./build.ts";
import { type Job, runAll } from "./run/pool.ts";
import { type Finished, killPrograms, runProgram } from "./run/process.ts";
import { readTimings, writeTimings } from "./run/timings.ts";
import { enclosed, endsWithParent } from "./run/world.ts";

const root = join(import.meta.dir, "../..");
const processors = availableParallelism();

interface Kind {
  readonly about: string;
  /** Percent of one processor that a file keeps busy, unless it is known; undefined where one process runs all files. */
  readonly weight?: number;
  /** Whether its tests need root. */
  readonly root?: boolean;
  /** Whether its tests run the executables. */
  readonly built?: boolean;
  readonly onRequest?: boolean;
}

/** Kinds of tests, a folder each, from quick to thorough. */
const KINDS: Readonly<Record<string, Kind>> = {
  unit: { about: "pure rooms: tables, properties, bad input" },
  golden: { about: "bytes that the original and the kernel's own tools have sent" },
  model: { about: "random histories of a room, compared with a simple model" },
  fuzz: { about: "random changes of valid input, some for each decoder", weight: 100 },
  kernel: {
    about: "our code against the kernel, in the test's own process and network namespace",
    weight: 60,
    root: true,
  },
  simulation: { about: "many routers in one process" },
  namespace: {
    about: "compiled executables against the kernel, in network namespaces",
    weight: 40,
    root: true,
    built: true,
  },
  "namespace-long": {
    about: "the same at length, at random",
    weight: 40,
    root: true,
    built: true,
    onRequest: true,
  },
  vm: {
    about: "what this kernel may lack: a virtual machine with Debian's",
    weight: 100,
    root: true,
    built: true,
  },
  "vm-long": { about: "the same at length", weight: 100, root: true, built: true, onRequest: true },
};

/** What files need of the registries, by their paths. */
const FETCHED: readonly (readonly [RegExp, () => Promise<unknown>])[] = [
  [/\/vm(-long)?\//, fetchKernel],
  [/\/charts\.test/, kubeTools],
  [/\/arm64\.test/, () => Promise.all([foreignRoot("arm64"), runtimeOf("linux-arm64")])],
];

/** Assumed duration of a file without a known one: it starts early, as a long file that starts last would end alone. */
const EXPECTED_MS = 60_000;
/** What a file that mostly waits counts for, in percent of a processor: its programs start together with others'. */
const LEAST_WEIGHT = 15;
/** A test that hangs fails after this: one that waits for a condition gives up by itself, on a busy machine later. */
const TEST_TIMEOUT_MS = 5 * 60_000;
/** A file that hangs is ended after this. */
const PATIENCE_MS = 15 * 60_000;
const SHOWN = 8;
const SHOWN_OF_A_FAILURE = 12;

const isRoot = process.getuid?.() === 0;

/** The files to run of each kind: all of those kinds, and those that a pattern or a path names. */
function chosen(args: readonly string[]): Map<string, readonly string[]> {
  const kinds = Object.entries(KINDS).filter(([kind]) => existsSync(join(root, "test", kind)));
  const wanted =
    args.length > 0 ? args : kinds.filter(([, { onRequest }]) => !onRequest).map(([kind]) => kind);
  const unknown = new Set(wanted.filter((arg) => !(arg in KINDS)));
  const files = new Map(
    kinds.map(([kind]): [string, readonly string[]] => {
      const all = [...new Glob(`test/${kind}/**/*.test.ts`).scanSync(root)].sort();
      const named = (file: string, arg: string) => !(arg in KINDS) && file.includes(arg);
      for (const arg of [...unknown]) if (all.some((file) => named(file, arg))) unknown.delete(arg);
      return [kind, all.filter((file) => wanted.some((arg) => arg === kind || named(file, arg)))];
    }),
  );
  for (const arg of unknown) {
    if (!arg.startsWith("./") || !existsSync(join(root, arg)))
      usage(`${arg} is no kind of tests (${Object.keys(KINDS).join(", ")}) and in no test's path`);
    files.set("namespace", [...(files.get("namespace") ?? []), arg.slice(2)]);
  }
  return new Map([...files].filter(([, list]) => list.length > 0));
}

function usage(text: string): never {
  console.error(`error: ${text}`);
  process.exit(2);
}

const wanted = process.argv.slice(2).filter((arg) => arg !== "--no-build");
const seed = process.env["SEED"] ?? String(Math.floor(Math.random() * 2 ** 31));
console.log(`SEED=${seed} repeats the random tests of this run`);

const total = { pass: 0, fail: 0, skip: 0 };
/** What failed, and the lines that say how. */
const failures = new Map<string, readonly string[]>();

function heading(text: string): void {
  console.log(`\n## ${text}`);
}

function skip(kind: string, reason: string): void {
  heading(`${kind} tests`);
  console.log(`SKIPPED: ${reason}`);
  total.skip++;
}

/** Count what bun test says of its tests; a run that has failed in another way counts as a failed test. */
function count(name: string, code: number, output: string): void {
  const number = (word: string) => Number(new RegExp(`^ *(\\d+) ${word}$`, "m").exec(output)?.[1] ?? 0);
  total.pass += number("pass");
  total.skip += number("skip");
  total.fail += number("fail") || (code === 0 ? 0 : 1);
  if (code !== 0) failures.set(name, failureLines(output));
}

/** The lines that say what failed: they are repeated at the end, which is what a log that is cut still has. */
function failureLines(output: string): string[] {
  const lines = output.split("\n");
  const telling = /^(\(fail\)|error:|[A-Za-z]*Error:|Expected|Received|\s+at .*\.test\.ts|[-+] )/;
  return lines.filter((line) => telling.test(line)).slice(0, SHOWN_OF_A_FAILURE);
}

const env = {
  ...(process.env as Record<string, string>),
  FORCE_COLOR: "0",
  SEED: seed,
  // Tests end before code that the engine's last compiler has optimized pays for it: it took a third of a simulation's time.
  BUN_JSC_useFTLJIT: "0",
};
/** As well, where tests are all that runs: memory that is given back to the kernel is asked for again by the next test. */
const keepsMemory = { ...env, MIMALLOC_PURGE_DELAY: "-1" };
/**
 * As well, for executables, which get the environment of the tests that run them: calls of a function before it is compiled, as
 * daemons set them for themselves. Commands end soon, too: `weave doctor` takes a fifth less.
 */
const compilesLater = {
  ...env,
  BUN_JSC_thresholdForJITAfterWarmUp: ENGINE_OPTIONS.BUN_JSC_thresholdForJITAfterWarmUp,
  BUN_JSC_thresholdForOptimizeAfterWarmUp: ENGINE_OPTIONS.BUN_JSC_thresholdForOptimizeAfterWarmUp,
};
const bunTest = (...args: string[]) => [
  process.execPath,
  "test",
  "--timeout",
  String(TEST_TIMEOUT_MS),
  ...args,
];

/** Tests that one program runs. */
interface Program {
  /** Path of its file; of the files that share a program, their kind. */
  readonly name: string;
  readonly args: readonly string[];
  /** As of a kind. */
  readonly weight: number;
  readonly env: Record<string, string>;
  /** Of a kind that runs the executables. */
  readonly needsBuild: boolean;
}

/**
 * Return the programs for files of a kind: quick ones have one together, whose workers keep modules and compiled code from file
 * to file. No test may count on being the first to load a module, nor leave anything changed in one.
 */
function programsOf(kind: string, files: readonly string[]): Program[] {
  const { weight, root: isRooted, built: needsBuild = false } = KINDS[kind] ?? {};
  const rest = { env: needsBuild ? compilesLater : isRooted ? env : keepsMemory, needsBuild };
  if (weight !== undefined)
    return files.map((file) => ({ name: file, args: [`./${file}`], weight, ...rest }));
  // Each worker loads and compiles anew what the others have. The slowest start first, if their times are known.
  const timings = ["--update-timings", `--timings=node_modules/.cache/test-durations-${kind}.json`];
  const workers = [`--parallel=${processors}`, "--no-isolate"];
  const args = [...workers, ...timings, ...files.map((file) => `./${file}`)];
  return [{ name: `${kind} tests`, args, weight: 100, ...rest }];
}

/** Print what a program has printed, once it has ended: what runs beside it prints, too. */
function show(name: string, { wallMs, cpuMs, output }: Finished): void {
  heading(`${name}: ${seconds(wallMs)}, of processors ${seconds(cpuMs)}`);
  process.stdout.write(output);
}

/** A program of test/tools that goes before the tests: what it finds is seen first. */
function step(name: string, script: string): Job {
  const run = async () => {
    const command = endsWithParent([process.execPath, join(root, "test/tools", script)]);
    const done = await runProgram(command, { cwd: root, env, timeoutMs: PATIENCE_MS });
    show(name, done);
    console.log(done.code === 0 ? `${name}: ok` : `${name}: FAILED`);
    if (done.code === 0) total.pass++;
    else {
      total.fail++;
      failures.set(name, done.output.trimEnd().split("\n").slice(-SHOWN_OF_A_FAILURE));
    }
  };
  return { weight: 100, expectedMs: Number.POSITIVE_INFINITY, run };
}

/** Run steps and programs side by side; those that need the build, after it. */
async function testAll(
  selection: ReadonlyMap<string, readonly string[]>,
  steps: readonly Job[],
  build: Job | undefined,
): Promise<void> {
  const timings = readTimings();
  const start = performance.now();
  let cpuMs = 0;
  const took: { name: string; wallMs: number; cpuMs: number }[] = [];
  const programs = [...selection].flatMap(([kind, files]) => programsOf(kind, files));
  const jobs = programs.map(({ name, args, weight, env, needsBuild }): Job => {
    const timing = timings.get(name);
    const share = timing && Math.round((100 * timing.cpuMs) / timing.wallMs);
    const run = async () => {
      const options = { cwd: root, env, timeoutMs: PATIENCE_MS };
      const done = await runProgram(enclosed(bunTest(...args)), options);
      show(name, done);
      count(name, done.code, done.output);
      took.push({ name, ...done });
      cpuMs += done.cpuMs;
      // How long files together take depends on how many were chosen.
      if (done.code === 0 && args.length === 1) timings.set(name, { wallMs: done.wallMs, cpuMs: done.cpuMs });
    };
    return {
      weight: share === undefined ? weight : Math.min(Math.max(share, LEAST_WEIGHT), 100),
      expectedMs: timing?.wallMs ?? EXPECTED_MS,
      after: needsBuild ? build : undefined,
      run,
    };
  });
  await runAll([...(build ? [build] : []), ...steps, ...jobs], 100 * processors);
  writeTimings(timings);
  heading("where the time went");
  for (const { name, wallMs, cpuMs } of took.sort((a, b) => b.wallMs - a.wallMs).slice(0, SHOWN))
    console.log(`${seconds(wallMs).padStart(8)}, of processors ${seconds(cpuMs).padStart(8)}: ${name}`);
  const wallMs = performance.now() - start;
  console.log(`${took.length} programs in ${seconds(wallMs)}, of ${processors} processors ${seconds(cpuMs)}`);
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;

for (const [signal, number] of [
  ["SIGINT", 2],
  ["SIGTERM", 15],
  ["SIGHUP", 1],
] as const) {
  process.once(signal, async () => {
    await killPrograms();
    console.log(`\ninterrupted by ${signal}`);
    process.exit(128 + number);
  });
}

const selection = chosen(wanted);
for (const [kind] of [...selection]) {
  if (KINDS[kind]?.root && !isRoot) {
    skip(kind, "they make network namespaces, which needs root");
    selection.delete(kind);
  } else if (kind.startsWith("vm") && process.arch !== "x64") {
    skip(kind, "the virtual machine is an x86-64 one, which this machine would take too long for");
    selection.delete(kind);
  }
}
const runsExecutables = [...selection.keys()].some((kind) => KINDS[kind]?.built);
const build = runsExecutables && !process.argv.includes("--no-build") ? step("build", "build.ts") : undefined;
const steps = wanted.length === 0 ? [step("lint", "lint.ts"), step("types", "typecheck.ts")] : [];
// In a world of its own a file has no network to fetch it by.
for (const [needs, fetch] of FETCHED)
  if ([...selection.values()].flat().some((file) => needs.test(file))) await fetch();

await testAll(selection, steps, build);

for (const [name, lines] of failures) console.log([`FAILED: ${name}`, ...lines].join("\n  "));
console.log(`\n${total.pass} passed, ${total.fail} failed, ${total.skip} skipped`);
process.exitCode = total.fail === 0 ? 0 : 1;
