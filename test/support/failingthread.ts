// A thread that does what a message says, or at once what it was begun with: it throws, ends, runs for ever.
import { parentPort, workerData } from "node:worker_threads";

function fail(how: unknown): void {
  if (how === "throw") throw new Error("a fault of ours");
  if (how === "exit") process.exit(3);
  if (how === "loop") for (;;);
}

fail((workerData as { name?: unknown } | null)?.name);
parentPort?.on("message", ({ id, parameters: [how] }) => {
  fail(how);
  parentPort?.postMessage({ id, result: how });
});
