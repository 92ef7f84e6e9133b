// npm run build [-- --target linux-arm64]: the four executables, into dist/.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { progress } from "../../cmd/waiting.ts";
import manifest from "../../package.json" with { type: "json" };
import { isX64, withEntry } from "./entry/elf.ts";
import { entryProgram, type Roles } from "./entry/program.ts";
import { x64 } from "./entry/x64.ts";
import { writeArtefacts } from "./supply/artefacts.ts";

const root = join(import.meta.dir, "../..");
export const EXECUTABLES = ["weave", "weave-net", "weave-router", "weave-npc"] as const;

/** Those that can be the router. */
const ROUTERS: readonly string[] = ["weave", "weave-router"];

/** What their entry programs do; nothing for those that are not listed. */
const ROLES: Record<string, Partial<Roles>> = {
  weave: { handsOver: "by name", router: "by name" },
  "weave-net": { handsOver: "always" },
  "weave-router": { router: "always" },
};

/** What its threads run. */
const THREADS = ["lib/overlay/sleeve/worker.ts", "lib/host/workworker.ts"];

/** Targets: the npm package that holds their runtime, and Bun's own name for them. */
const TARGETS: Record<string, { runtime: string; bun: string }> = {
  "linux-x64": { runtime: "@oven/bun-linux-x64", bun: "bun-linux-x64" },
  "linux-x64-baseline": { runtime: "@oven/bun-linux-x64-baseline", bun: "bun-linux-x64-baseline" },
  "linux-x64-musl": { runtime: "@oven/bun-linux-x64-musl", bun: "bun-linux-x64-musl" },
  "linux-arm64": { runtime: "@oven/bun-linux-aarch64", bun: "bun-linux-arm64" },
  "linux-arm64-musl": { runtime: "@oven/bun-linux-aarch64-musl", bun: "bun-linux-arm64-musl" },
};

function fail(text: string): never {
  console.error(`error: ${text}`);
  process.exit(1);
}

function run(command: string[], cwd = root): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd, stdout: "pipe", stderr: "pipe" });
  if (exitCode !== 0) fail(`${command.join(" ")}\n${stdout}${stderr}`);
  return stdout.toString();
}

/** The runtime of another target: fetched from npm once, kept beside the other packages. */
export function runtimeOf(target: string): string | undefined {
  const { runtime } = TARGETS[target] ?? fail(`unknown target ${target}: ${Object.keys(TARGETS).join(", ")}`);
  const here = `linux-${process.arch}`;
  if (target === here && !isMusl()) return undefined;
  const folder = join(root, "node_modules/.cache", runtime.replace("/", "+"));
  const executable = join(folder, "package/bin/bun");
  if (!Bun.file(executable).size) {
    mkdirSync(folder, { recursive: true });
    const file = run(
      ["npm", "pack", "--silent", `${runtime}@${manifest.devDependencies.bun}`],
      folder,
    ).trim();
    run(["tar", "xzf", file], folder);
    rmSync(join(folder, file));
  }
  return executable;
}

function isMusl(): boolean {
  return (
    !process.report?.getReport ||
    !("glibcVersionRuntime" in (process.report.getReport() as { header: object }).header)
  );
}

/** Options of the bundler for everything that runs on other people's machines. */
export const COMPILE = [
  "--compile",
  // Names are kept, for whoever reads where an error came from.
  "--minify-whitespace",
  "--minify-syntax",
  "--bytecode",
  // What is imported when it is needed is loaded when it is needed.
  "--format=esm",
  "--splitting",
  // Without these an executable run by root would take code from whatever directory it is run in.
  "--no-compile-autoload-dotenv",
  "--no-compile-autoload-bunfig",
  "--no-compile-autoload-tsconfig",
  "--no-compile-autoload-package-json",
  // Stacks name our sources; the map is read when the first one is asked for.
  "--sourcemap",
];

/** Builds one executable; returns the paths of the sources in it, from the root. */
export function build(name: string, target: string, outdir: string): string[] {
  const runtime = runtimeOf(target);
  // Maps are written beside the executable, too.
  const folder = join(outdir, `.${name}`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  run([
    process.execPath,
    "build",
    join(root, `cmd/${name}.ts`),
    // Threads are programs of their own.
    ...(ROUTERS.includes(name) ? THREADS.map((path) => join(root, path)) : []),
    ...COMPILE,
    ...(runtime ? [`--target=${TARGETS[target]?.bun}`, `--compile-executable-path=${runtime}`] : []),
    `--outfile=${join(folder, name)}`,
  ]);
  harden(join(folder, name), { handsOver: "never", router: "never", ...ROLES[name] });
  renameSync(join(folder, name), join(outdir, name));
  const sources = mappedSources(folder);
  rmSync(folder, { recursive: true });
  return sources;
}

/** Return the sources in the maps of a folder, from the root. */
function mappedSources(folder: string): string[] {
  const maps = readdirSync(folder).filter((name) => name.endsWith(".map"));
  const sources = maps.flatMap((name) => {
    const { sources } = JSON.parse(readFileSync(join(folder, name), "utf8")) as { sources: string[] };
    return sources;
  });
  return [...new Set(sources)].sort();
}

/** Fail where the bundler has left out the root of a dynamic import, which is loaded only when it is needed. */
function requireRoots(name: string, bytes: Buffer): void {
  const lost = /import\("\/(?!\$bunfs\/)[\w-]+\.js"\)/.exec(bytes.toString("latin1"));
  if (lost)
    fail(`${name}: ${lost[0]} would not be found: import it from one file that is no part of a shared chunk`);
}

/** Variables of the environment by which the runtime would run other code than ours, before ours. */
const SWITCHES = ["BUN_OPTIONS", "BUN_BE_BUN", "BUN_INSPECT", "BUN_INSPECT_PRELOAD"];

/** Takes those switches out of an executable: their names become empty, and nothing in the environment has that name. */
function harden(file: string, roles: Roles): void {
  const bytes = readFileSync(file);
  requireRoots(file, bytes);
  for (const name of SWITCHES) {
    const found: number[] = [];
    const wanted = Buffer.from(`\0${name}\0`);
    for (let at = bytes.indexOf(wanted); at >= 0; at = bytes.indexOf(wanted, at + 1)) found.push(at + 1);
    const [at] = found;
    if (at === undefined || found.length > 1)
      fail(`${file}: ${name} is there ${found.length} times, not once: look anew`);
    bytes[at] = 0;
  }
  writeFileSync(file, entered(bytes, roles));
}

/** Let an executable begin with the entry program, where we know the processor's code. */
function entered(elf: Buffer, roles: Roles): Buffer {
  if (!isX64(elf)) return elf;
  return withEntry(elf, (layout) => entryProgram(x64(), layout, roles));
}

if (import.meta.main) {
  const args = process.argv.slice(2);
  const at = args.findIndex((arg) => arg === "--target" || arg.startsWith("--target="));
  const given = at < 0 ? undefined : (args[at]?.split("=")[1] ?? args[at + 1]);
  if (at >= 0 && !given) fail("--target needs a value");
  if (at < 0 && args.length > 0) fail(`unknown argument ${args[0]}`);
  const target = given ?? `linux-${process.arch}`;
  const outdir = given ? join(root, "dist", target) : join(root, "dist");
  mkdirSync(outdir, { recursive: true });
  const started = performance.now();
  const shown = await progress({ options: {} });
  const sources: string[] = [];
  for (const [i, name] of EXECUTABLES.entries()) {
    shown.say(`building ${name} for ${target} (${i + 1} of ${EXECUTABLES.length})`);
    sources.push(...build(name, target, outdir));
  }
  writeArtefacts(root, outdir, EXECUTABLES, sources);
  shown.end();
  console.log(
    `built ${EXECUTABLES.join(", ")} in ${outdir.slice(root.length + 1)}/ (${((performance.now() - started) / 1000).toFixed(1)} s)`,
  );
}
