// A program that installs the crash handler, does what engines do with faults of their own, and then crashes for real. Started
// again in place, it prints what it was told of the crash.
import { read } from "bun:ffi";
import { Worker } from "node:worker_threads";
import { restartOnCrash, takeCrash } from "../../lib/sys/crashsignal.ts";

const crash = takeCrash();
if (crash) {
  const { name, message, stack = "" } = crash;
  console.log(JSON.stringify({ pid: process.pid, name, message, frames: stack.split("\n").slice(1) }));
  process.exit(7);
}
// Under an emulator of another architecture, the emulator has to be executed again, with these arguments.
const emulator = process.env["EMULATOR"]?.split(" ") ?? [];
const [program, ...rest] = [...emulator, process.execPath];
if (program) process.execPath = program;
restartOnCrash([...rest, import.meta.path, ...process.argv.slice(2)]);
restartOnCrash([]);

/** (module (memory 1) (func (export "f") (param i32) (result i32) local.get 0 i32.load)) */
const MODULE = "0061736d0100000001060160017f017f030201000503010001070501016600000a0901070020002802000b";
const wasm = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(MODULE, "hex")));
const load = wasm.exports["f"] as (address: number) => number;
load(1);
try {
  load(-8);
  console.log("no trap");
} catch (error) {
  console.log(error instanceof WebAssembly.RuntimeError ? "trap" : String(error));
}
const busy = new Worker("let n = 0; postMessage(1); for (;;) n++;", { eval: true });
await new Promise((begun) => busy.once("message", begun));
await busy.terminate();
console.log(`pid ${process.pid}`);
// Else it waits for a signal.
if (process.argv[2] === "fault") read.u8(16 as Parameters<typeof read.u8>[0]);
setInterval(() => {}, 1000);
