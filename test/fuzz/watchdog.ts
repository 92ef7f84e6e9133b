// Ends a process whose decoder does not come back, which nothing in its own thread could, and keeps the input.
import { writeFileSync } from "node:fs";
import { isMainThread, Worker, workerData } from "node:worker_threads";

/** Time in ms after which an input counts as one that hangs. */
const HANGS_MS = 20_000;
const ROOM = 1 << 20;
const HEADER = 8;

interface Given {
  readonly shared: SharedArrayBuffer;
  readonly path: string;
  readonly what: string;
}

/** Watch inputs: what is returned has to be called before each. */
export function watchInputs(
  path: string,
  what: string,
): { next(input: Uint8Array): void; stop(): Promise<unknown> } {
  const shared = new SharedArrayBuffer(HEADER + ROOM);
  const numbers = new Int32Array(shared, 0, 2);
  const room = new Uint8Array(shared, HEADER);
  const worker = new Worker(new URL(import.meta.url), { workerData: { shared, path, what } satisfies Given });
  return {
    next(input) {
      room.set(input.length > ROOM ? input.subarray(0, ROOM) : input);
      Atomics.store(numbers, 1, Math.min(input.length, ROOM));
      Atomics.add(numbers, 0, 1);
    },
    stop: () => worker.terminate(),
  };
}

if (!isMainThread) {
  const { shared, path, what } = workerData as Given;
  const numbers = new Int32Array(shared, 0, 2);
  let seen = -1;
  let unchanged = 0;
  setInterval(() => {
    const count = Atomics.load(numbers, 0);
    unchanged = count === seen ? unchanged + 1 : 0;
    seen = count;
    if (unchanged * 1_000 < HANGS_MS || count === 0) return;
    writeFileSync(path, new Uint8Array(shared, HEADER, Atomics.load(numbers, 1)));
    console.error(`${what}: hangs: more than ${HANGS_MS / 1000} s; input in ${path}`);
    process.kill(process.pid, "SIGKILL");
  }, 1_000);
}
