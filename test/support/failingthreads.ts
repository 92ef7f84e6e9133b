// A daemon whose threads fail, one after the other: what weave-router does then.
import { writeSync } from "node:fs";
import { reportCrashes, runLoggedDaemon, surviveCrashes } from "../../cmd/shutdown.ts";
import { CrashReporter } from "../../lib/api/crashes.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { WorkThread } from "../../lib/host/workthread.ts";
import { createLog, silentLog } from "../../lib/log/log.ts";
import { surviveUnexpectedErrors } from "../../lib/log/unexpected.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { BROADCAST } from "../../lib/overlay/peerid.ts";
import type { FromEngine } from "../../lib/overlay/sleeve/messages.ts";
import { SleeveOverlay } from "../../lib/overlay/sleeve/overlay.ts";
import { type EngineHandle, makeEngineThread } from "../../lib/overlay/sleeve/thread.ts";
import { VIRTIO_HEADER } from "../../lib/overlay/sleeve/virtio.ts";
import { openPipe } from "../../lib/sys/pipe.ts";

const COMPILED = "./test/support/failingthread.ts";
const PROGRAM = new URL(
  import.meta.path.startsWith("/$bunfs/") ? COMPILED : "./failingthread.ts",
  import.meta.url,
);
const MINUTE = 60_000;
/** Of peer 0, for all peers. */
const FRAME = new Uint8Array(100);
new DataView(FRAME.buffer).setUint16(VIRTIO_HEADER + 2, BROADCAST, true);
/** Tables that fail at the first broadcast. */
const names = new Map([[0, new Uint8Array(6)]]);
const none = new Map<number, number>();
const TABLES = { self: 1, names, next: none, nextBySleeve: none, broadcast: {} as never, origins: none };

const log = createLog("info");
await runLoggedDaemon(log, "nothing stays", async (_scope, restart) => {
  const crashes = new CrashReporter("weave-router", log);
  surviveCrashes(crashes, log, () => []);
  surviveUnexpectedErrors(log, restart, reportCrashes(crashes, restart));
  crashes.state = () => ({ known: "something" });
});

/** The container work thread fails, and a later call is answered. */
async function work(how: string): Promise<void> {
  const thread = new WorkThread(PROGRAM, 500);
  const answer = (what: string) => thread.inspect(what as never, "").catch(({ name }: Error) => name);
  console.log(`${how}: ${await answer(how)}, then ${await answer("answered")}`);
}

/** The engine fails, and is made again; `fails` makes it fail. */
async function engine(how: string, program: URL | undefined, fails: (engine: EngineHandle) => void) {
  const clock = new SimulatedClock();
  const nothing = () => {};
  const tap = openPipe();
  const engines: EngineHandle[] = [];
  const restarted = Promise.withResolvers<void>();
  const ready = Promise.withResolvers<void>();
  const config = { name: nameFromNumber(1n), host: "127.0.0.1", port: 0, tapFd: tap.readFd, macsFd: -1 };
  const overlay = new SleeveOverlay(
    config,
    clock,
    silentLog,
    nothing,
    nothing,
    restarted.resolve,
    (setup, _clock, listener) => {
      const received = (message: FromEngine) => {
        if (message.type === "ready") ready.resolve();
        if (message.type === "error") restarted.resolve();
        listener.received(message);
      };
      const begun = engines.length === 0 ? { ...setup, name: how as never } : setup;
      const own = engines.length === 0 ? program : undefined;
      const made = makeEngineThread(program ? begun : setup, clock, { ...listener, received }, own);
      engines.push(made);
      return made;
    },
  );
  // Its thread starts with the first link.
  overlay.addLink("sleeve", 1, nameFromNumber(2n));
  if (!program) await ready.promise;
  const [first] = engines;
  if (first) fails(first);
  const steps = setInterval(() => {
    clock.advance(program ? MINUTE / 4 : 10);
    if (how === "frame") writeSync(tap.writeFd, FRAME);
  }, 50);
  await restarted.promise;
  clearInterval(steps);
  console.log(`engine ${how}: ${engines.length} engines, ${overlay.notes().join("; ")}`);
  await overlay.stop();
}

const nothing = () => {};
for (const how of ["throw", "exit", "loop"]) await work(how);
await engine("message", undefined, (first) => first.post({ type: "add", params: undefined as never }));
await engine("frame", undefined, (first) => first.post({ type: "tables", tables: TABLES }));
await engine("exit", PROGRAM, nothing);
await engine("loop", PROGRAM, nothing);
console.log(`done ${process.pid}`);
process.exit(0);
