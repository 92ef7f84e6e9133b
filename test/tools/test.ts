// npm test [-- KIND|PATTERN…]: lint, types, build, then the tests by kind, or only those of some kinds and those whose
// path has a pattern in it. The last line sums up: "N passed, N failed, N skipped".
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { Glob } from "bun";
import { leftNamespaces, removeNamespace } from "../support/leftovers.ts";
import { lint } from "./lint.ts";
import { typecheck } from "./typecheck.ts";

const root = join(import.meta.dir, "../..");

/** Kinds of tests, a folder each, from quick to thorough. */
const KINDS: Record<string, string> = {
  unit: "pure rooms: tables, properties, bad input",
  golden: "bytes that the original and the kernel's own tools have sent",
  simulation: "many routers in one process",
  namespace: "compiled executables against the kernel, in network namespaces",
  vm: "what this kernel may lack: a virtual machine with Debian's",
  "vm-long": "the same at length",
};
/** Only when they are asked for. */
const ON_REQUEST = ["vm-long"];
/** Those that have to be root. */
const ROOT = ["namespace", "vm", "vm-long"];

/** Those whose files share nothing, and so run side by side. */
const PARALLEL = ["unit", "golden", "simulation"];
/** How long files took the last time: the slowest begin first. */
const TIMINGS = join(root, "node_modules/.cache/test-timings.json");
const SHOWN = 5;

const isRoot = process.getuid?.() === 0;

/** The files to run of each kind: all of those kinds, and those whose path has one of the patterns in it. */
function chosen(args: readonly string[]): Map<string, readonly string[]> {
  const kinds = Object.keys(KINDS).filter((kind) => existsSync(join(root, "test", kind)));
  if (args.length === 0) args = kinds.filter((kind) => !ON_REQUEST.includes(kind));
  const files = kinds.map((kind) => {
    const all = [...new Glob(`test/${kind}/**/*.test.ts`).scanSync(root)].sort();
    return [
      kind,
      all.filter((file) => args.some((arg) => arg === kind || (!(arg in KINDS) && file.includes(arg)))),
    ] as const;
  });
  const unknown = args.find(
    (arg) => !(arg in KINDS) && !files.some(([, list]) => list.some((file) => file.includes(arg))),
  );
  if (unknown) {
    console.error(
      `error: ${unknown} is no kind of tests (${Object.keys(KINDS).join(", ")}) and in no test's path`,
    );
    process.exit(2);
  }
  return new Map(files.filter(([, list]) => list.length > 0));
}

const wanted = process.argv.slice(2);
const seed = process.env["SEED"] ?? String(Math.floor(Math.random() * 2 ** 31));
console.log(`SEED=${seed} repeats the random tests of this run`);

let passed = 0;
let failed = 0;
let skipped = 0;

function heading(text: string): void {
  console.log(`\n## ${text}`);
}

async function step(name: string, run: () => boolean | Promise<boolean>): Promise<void> {
  heading(name);
  const ok = await run();
  console.log(ok ? `${name}: ok` : `${name}: FAILED`);
  if (ok) passed++;
  else failed++;
}

async function testKind(kind: string, files: readonly string[]): Promise<void> {
  heading(`${kind} tests (${KINDS[kind]})`);
  if (ROOT.includes(kind) && !isRoot) {
    console.log("SKIPPED: they make network namespaces, which needs root");
    skipped++;
    return;
  }
  if (kind.startsWith("vm") && process.arch !== "x64") {
    console.log("SKIPPED: the virtual machine is an x86-64 one, which this machine would take too long for");
    skipped++;
    return;
  }
  const timings = [`--timings=${TIMINGS}`, "--update-timings"];
  const how = PARALLEL.includes(kind) ? [`--parallel=${availableParallelism()}`, ...timings] : timings;
  const paths = files.map((file) => `./${file}`);
  const child = Bun.spawn([process.execPath, "test", "--timeout", "120000", ...how, ...paths], {
    cwd: root,
    stdout: "inherit",
    stderr: "pipe",
    env: { ...process.env, FORCE_COLOR: "0", SEED: seed },
  });
  let text = "";
  for await (const chunk of child.stderr) {
    process.stdout.write(chunk);
    text += new TextDecoder().decode(chunk);
  }
  const code = await child.exited;
  const count = (word: string) => Number(new RegExp(`^ *(\\d+) ${word}$`, "m").exec(text)?.[1] ?? 0);
  passed += count("pass");
  failed += count("fail");
  skipped += count("skip");
  if (code !== 0 && count("fail") === 0) failed++;
  console.log(`${kind}: ${count("pass")} passed, ${count("fail")} failed, ${count("skip")} skipped`);
  showSlowest(kind);
  if (ROOT.includes(kind)) findLeftovers();
}

function showSlowest(kind: string): void {
  if (!existsSync(TIMINGS)) return;
  const took = Object.entries(
    (JSON.parse(readFileSync(TIMINGS, "utf8")) as { files: Record<string, number> }).files,
  )
    .filter(([file]) => file.includes(`test/${kind}/`))
    .sort(([, a], [, b]) => b - a);
  const shown = took
    .slice(0, SHOWN)
    .map(([file, ms]) => `${basename(file, ".test.ts")} ${(ms / 1000).toFixed(1)} s`);
  console.log(`slowest: ${shown.join(", ")}`);
}

/** A test that leaves something behind has failed. */
function findLeftovers(): void {
  for (const name of leftNamespaces()) {
    console.log(`network namespace ${name} was left behind`);
    removeNamespace(name);
    failed++;
  }
}

const run = (name: string) =>
  Bun.spawnSync([process.execPath, join(root, name)], { stdout: "inherit", stderr: "inherit" });

if (wanted.length === 0) {
  await step("lint", lint);
  await step("types", typecheck);
}
const selection = chosen(wanted);
if ([...selection.keys()].some((kind) => ROOT.includes(kind)))
  await step("build", () => run("test/tools/build.ts").exitCode === 0);
for (const [kind, files] of selection) await testKind(kind, files);

console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 ? 0 : 1;
