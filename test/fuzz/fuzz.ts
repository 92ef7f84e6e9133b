// npm run test:fuzz [-- TARGET… --inputs N --seed S --seconds T --input FILE]: decodes random changes of valid inputs. An error that
// is not the decoder's own, super-linear time, a hang, and output or memory out of proportion are findings: each is shortened and
// written to weave-fuzz-TARGET-N. --seconds is for each target; --input decodes one file.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { fuzz } from "./loop.ts";
import { TARGETS } from "./targets.ts";
import { watchInputs } from "./watchdog.ts";

const { values, positionals } = parseArgs({
  args: process.argv.slice(2),
  allowPositionals: true,
  options: {
    inputs: { type: "string", default: "100000" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
    seconds: { type: "string", default: "600" },
    input: { type: "string" },
  },
});

function fail(text: string): never {
  console.error(`error: ${text}`);
  process.exit(2);
}

const whole = (name: "inputs" | "seed" | "seconds") =>
  /^\d{1,12}$/.test(values[name])
    ? Number(values[name])
    : fail(`--${name}: "${values[name]}": not a whole number`);
const [inputs, seed, seconds] = [whole("inputs"), whole("seed"), whole("seconds")];
for (const name of positionals) {
  if (!TARGETS.some((target) => target.name === name))
    fail(`no target is called ${name}; there are ${TARGETS.map((target) => target.name).join(", ")}`);
}
const wanted = TARGETS.filter(({ name }) => positionals.length === 0 || positionals.includes(name));

if (values.input !== undefined) {
  const bytes = await Bun.file(values.input).bytes();
  for (const { name, open } of wanted) {
    const decoder = await open();
    try {
      console.log(name, Bun.inspect(await decoder.run(bytes)));
    } finally {
      decoder.close?.();
    }
  }
  process.exit(0);
}

console.log(`# --seed ${seed}`);
let faults = 0;
for (const { name, open } of wanted) {
  const decoder = await open();
  const watch = watchInputs(`weave-fuzz-${name}-hang`, `${name} --seed ${seed}`);
  const began = process.cpuUsage();
  Error.stackTraceLimit = 0;
  const { findings, ...summary } = await fuzz(decoder, {
    seed,
    inputs,
    forMs: seconds * 1_000,
    next: watch.next,
  });
  Error.stackTraceLimit = 10;
  await watch.stop();
  // Of processors: how busy the machine is says nothing about the decoder.
  const { user, system } = process.cpuUsage(began);
  const spent = (user + system) / 1e6;
  const rate = Math.round(summary.inputs / spent);
  console.log(
    `${name.padEnd(20)} ${summary.inputs} inputs, ${summary.accepted} accepted, ${summary.corpus} kept, ` +
      `+${Math.round(summary.memory / 2 ** 20)} MiB, ${spent.toFixed(1)} s, ${rate}/s`,
  );
  for (const [i, { kind, what, input }] of findings.entries()) {
    const path = `weave-fuzz-${name}-${i + 1}`;
    writeFileSync(path, input);
    console.log(`  ${kind}: ${what}; ${input.length} bytes in ${path}, --seed ${seed}`);
    try {
      if (kind === "error") await decoder.run(input);
    } catch (error) {
      console.log(error instanceof Error ? error.stack : error);
    }
  }
  decoder.close?.();
  faults += findings.length;
}
process.exit(faults > 0 ? 1 : 0);
