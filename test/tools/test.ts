// npm test: lint, types, build, then the tests by kind. The last line sums up: "N passed, N failed, N skipped".
import { existsSync } from "node:fs";
import { join } from "node:path";
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

const everyTime = Object.keys(KINDS).filter((kind) => !ON_REQUEST.includes(kind));

const isRoot = process.getuid?.() === 0;
const wanted = process.argv.slice(2);
const unknown = wanted.find((kind) => !(kind in KINDS));
if (unknown) {
  console.error(`error: unknown kind of tests ${unknown}: ${Object.keys(KINDS).join(", ")}`);
  process.exit(2);
}

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

async function testKind(kind: string): Promise<void> {
  const folder = `${join(root, "test", kind)}/`;
  if (!existsSync(folder)) return;
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
  const child = Bun.spawn([process.execPath, "test", "--timeout", "120000", folder], {
    cwd: root,
    stdout: "inherit",
    stderr: "pipe",
    env: { ...process.env, FORCE_COLOR: "0" },
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
}

const run = (name: string) =>
  Bun.spawnSync([process.execPath, join(root, name)], { stdout: "inherit", stderr: "inherit" });

if (wanted.length === 0) {
  await step("lint", lint);
  await step("types", typecheck);
}
await step("build", () => run("test/tools/build.ts").exitCode === 0);
for (const kind of wanted.length > 0 ? wanted : everyTime) await testKind(kind);

console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 ? 0 : 1;
