// Starts a router in this process again and again, each time told by a line of standard input where the start is to fail:
// {"failAt": N, "undosThrow": BOOLEAN}. Answers each with a line of JSON, a Run. Runs in a namespace of its own.
import { readdirSync, readlinkSync } from "node:fs";
import { silentLog } from "../../lib/log/log.ts";
import { parseOptions } from "../../lib/router/options.ts";
import { startRouter } from "../../lib/router/router.ts";
import { Scope } from "../../lib/sys/scope.ts";

/** How a start is to fail: after so many resources were made; 0 for not at all. */
export interface Order {
  readonly failAt: number;
  readonly undosThrow: boolean;
}

/** What came of a start and of the end of its scope. */
export interface Run {
  /** Resources in the order in which they were made, and in which they were taken back. */
  readonly made: string[];
  readonly undone: string[];
  /** Of them, those that are kept once the start has succeeded. */
  readonly kept: string[];
  readonly error: string | undefined;
  /** Undos that the scope told of as failed. */
  readonly failed: string[];
  /** The scope's state before its end, and after it. */
  readonly states: string[];
  /** Open files that there were not before. */
  readonly leaked: string[];
}

class FailingScope extends Scope {
  readonly made: string[] = [];
  readonly kept: string[] = [];
  readonly undone: string[] = [];

  constructor(
    private readonly order: Order,
    failed: (what: string) => void,
  ) {
    super(failed);
  }

  override defer(what: string, undo: () => unknown): void {
    super.defer(what, () => this.#undo(what, undo));
    this.#made(what);
  }

  override deferUnlessStarted(what: string, undo: () => unknown): void {
    this.kept.push(what);
    super.deferUnlessStarted(what, () => this.#undo(what, undo));
    this.#made(what);
  }

  #made(what: string): void {
    this.made.push(what);
    if (this.made.length === this.order.failAt) throw new Error(`no ${what}`);
  }

  async #undo(what: string, undo: () => unknown): Promise<void> {
    await undo();
    this.undone.push(what);
    if (this.order.undosThrow) throw new Error(`cannot undo ${what}`);
  }
}

const openFiles = () =>
  readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      // Sockets and pipes have numbers of their own.
      return [`${fd} ${readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/, "")}`];
    } catch {
      return [];
    }
  });

const OPTIONS = {
  "ipalloc-init": "consensus=1",
  password: "secret",
  "dns-listen-address": "127.0.0.1:5353",
  "docker-api": "unix:///nonexistent.sock",
};

async function run(order: Order): Promise<Run> {
  const before = openFiles();
  const failed: string[] = [];
  const scope = new FailingScope(order, (what) => failed.push(what));
  let error: string | undefined;
  try {
    await startRouter(parseOptions(OPTIONS, []), { cni: async () => undefined }, silentLog, scope);
    scope.start();
  } catch (thrown) {
    error = thrown instanceof Error ? thrown.message : String(thrown);
  }
  const state = scope.state;
  await scope.end();
  // Files are closed by the event loop, or with a worker.
  // The engine's thread, ended while it loads libsodium, leaves that file to the end of the process.
  const leaked = () => openFiles().filter((file) => !before.includes(file) && !file.includes("memfd:sodium"));
  for (let i = 0; i < 1_000 && leaked().length > 0; i++) await Bun.sleep(20);
  const { made, undone, kept } = scope;
  return { made, undone, kept, error, failed, states: [state, scope.state], leaked: leaked() };
}

for await (const line of console) console.log(JSON.stringify(await run(JSON.parse(line))));
process.exit(0);
