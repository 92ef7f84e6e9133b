// npm run bench: measures ours against references, each turn by turn with its own; medians and ratios.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BENCHES } from "./benches.ts";
import { readResult, saveRows } from "./result.ts";
import { compareText, markdownTable, tableText, withTable } from "./table.ts";

const ROOT = join(import.meta.dir, "../..");
const RESULT = join(ROOT, "bench.json");
const README = join(ROOT, "README.md");

const USAGE = `usage: npm run bench [-- NAME...]             measure all, or these; print a table, write bench.json
       npm run bench -- compare OLD [NEW]     print two results side by side; NEW is bench.json
       npm run bench -- readme                write the table of bench.json into README.md
${Object.entries(BENCHES)
  .map(([name, { about, reference }]) => `  ${name.padEnd(8)} ${about}, against ${reference}`)
  .join("\n")}`;

function usage(): never {
  console.error(USAGE);
  process.exit(2);
}

/** Measure, one after the other; each one's rows are kept, whatever becomes of the next. Returns whether all went well. */
async function measure(names: readonly string[]): Promise<boolean> {
  if (process.getuid?.() !== 0) throw new Error("benchmarks make network namespaces; run them as root");
  let well = true;
  for (const name of names) {
    console.error(`# ${name}`);
    try {
      const rows = (await BENCHES[name]?.run()) ?? [];
      saveRows(RESULT, name, rows);
    } catch (error) {
      console.error(`error: ${name}:`, error);
      well = false;
    }
  }
  const { machine, benches } = readResult(RESULT);
  const own = Object.fromEntries(Object.entries(benches).filter(([name]) => names.includes(name)));
  console.log(tableText(BENCHES, { machine, benches: own }));
  return well;
}

async function main([command, ...rest]: readonly string[]): Promise<boolean> {
  if (command === "compare") {
    const [old, now = RESULT, ...more] = rest;
    if (old === undefined || more.length > 0) usage();
    console.log(compareText(BENCHES, readResult(old), readResult(now)));
    return true;
  }
  if (command === "readme" && rest.length === 0) {
    const table = markdownTable(BENCHES, readResult(RESULT));
    writeFileSync(README, withTable(readFileSync(README, "utf8"), table));
    return true;
  }
  const names = command === undefined ? Object.keys(BENCHES) : [command, ...rest];
  if (names.some((name) => !Object.hasOwn(BENCHES, name))) usage();
  return await measure(names);
}

try {
  if (!(await main(process.argv.slice(2)))) process.exitCode = 1;
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
