// The thread of the sleeve engine, and the pipes to it and from it. It fails once and for all: to go on, start another one.
import { closeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { type Clock, sharedWait, type Timer } from "../../clock/clock.ts";
import { noteFailure } from "../../log/unexpected.ts";
import { closePipe, MessageReader, MessageWriter, openPipe, type Pipe } from "../../sys/pipe.ts";
import { type Watch, watchReadable } from "../../sys/readable.ts";
import { reasonOf } from "../../sys/reason.ts";
import { COUNTERS, Counters } from "./counters.ts";
import type { EngineSetup, FromEngine, ToEngine } from "./messages.ts";
import { queueForEngine } from "./queue.ts";

/** The thread's module; in an executable, entry points keep their paths while all other modules lie in one folder. */
const WORKER = import.meta.path.startsWith("/$bunfs/") ? "./lib/overlay/sleeve/worker.ts" : "./worker.ts";

const POST_DELAY_MS = 2;
/** While the engine has not read the last messages. */
const FLUSH_RETRY_MS = 20;
/** Interval of looks at what the engine has handled, while it has something to handle. */
const LOOK_MS = 1_000;
/** An engine that handles nothing of what it has to for so long has failed; one that starts has longer. */
const STUCK_MS = 10_000;
const START_MS = 60_000;
/** Timeout of the engine's end; after it the thread stays until the process ends. */
const STOP_MS = 1_000;

interface EngineListener {
  received(message: FromEngine): void;
  /** The engine has failed, and with it all its connections. */
  failed(reason: string): void;
}

export type EngineHandle = Pick<EngineThread, "post" | "flush" | "stop"> & {
  /** Messages that it has not taken. */
  readonly waiting?: number;
};

export const makeEngineThread = (...args: ConstructorParameters<typeof EngineThread>): EngineHandle =>
  new EngineThread(...args);

/** Open the pipes to the engine and from it, or none: it may be tried again and again. */
function openPipes(): { readonly down: Pipe; readonly up: Pipe } {
  const down = openPipe();
  try {
    return { down, up: openPipe() };
  } catch (error) {
    closePipe(down);
    throw error;
  }
}

class EngineThread {
  readonly #pipes = openPipes();
  readonly #writer = new MessageWriter(this.#pipes.down.writeFd);
  readonly #watch: Watch;
  /** Undefined until the first link. */
  #worker: Worker | undefined;
  #exited: Promise<true> | undefined;
  readonly #waiting: ToEngine[] = [];
  readonly #counters: Counters;
  /** Sum of the messages that this engine and those before it have handled, with those written to it. */
  #written: number;
  #handled = 0;
  /** When the engine last handled something, or had nothing to handle. */
  #movedAt: number;
  #flushing: Timer | undefined;
  #looking: Timer | undefined;
  #ready = false;
  #over = false;
  /** Its files are closed once: the router may stop while it waits to start another engine. */
  #stopping: Promise<boolean> | undefined;

  constructor(
    private readonly setup: Omit<EngineSetup, "readFd" | "writeFd">,
    private readonly clock: Clock,
    private readonly listener: EngineListener,
    private readonly program = new URL(WORKER, import.meta.url),
  ) {
    this.#counters = new Counters(setup.counters);
    this.#written = this.#counters.get(COUNTERS.messages);
    this.#movedAt = clock.now();
    const reader = new MessageReader();
    this.#watch = watchReadable(
      this.#pipes.up.readFd,
      (piece) => {
        for (const message of reader.take(piece) as FromEngine[]) this.#received(message);
      },
      (error) => this.#failed(error),
    );
  }

  /** Start the thread. Not with the router: it takes 1/7 of the router's start time, and has no work without a peer. */
  #start(): void {
    this.#movedAt = this.clock.now();
    const { down, up } = this.#pipes;
    const workerData = { ...this.setup, readFd: down.readFd, writeFd: up.writeFd };
    let worker: Worker;
    try {
      worker = new Worker(this.program, { workerData });
    } catch (error) {
      // Later: the link that sends this message is not complete yet, and has to get the error.
      return queueMicrotask(() => this.#failed(error));
    }
    this.#worker = worker;
    worker.on("error", (error) => this.#failed(error));
    this.#exited = new Promise((resolve) =>
      worker.once("exit", (code) => {
        this.#failed(new Error(`its thread has ended (exit code ${code})`));
        resolve(true);
      }),
    );
    this.#lookLater();
  }

  /**
   * Queue a message. Messages are sent in batches: there are many when routers start together. The first link starts the
   * thread.
   */
  post(message: ToEngine): void {
    if (this.#over) return;
    queueForEngine(this.#waiting, message);
    if (!this.#worker && message.type === "add") this.#start();
    if (!this.#ready) return;
    // The kernel's tables are applied right after these: the engine would drop frames that the kernel hands it before.
    if (message.type === "tables" && this.#writer.backlog === 0) return this.#flush();
    this.#flushing ??= this.clock.after(POST_DELAY_MS, () => this.#flush());
  }

  /** Write what is queued now. */
  flush(): void {
    if (this.#flushing && this.#ready) this.#flush();
  }

  /**
   * Stop the engine, also after a failure. Resolves with true once it has released its files. One that does not end in time
   * keeps them open: a reused fd would give it others' files.
   */
  stop(): Promise<boolean> {
    this.#stopping ??= this.#end();
    return this.#stopping;
  }

  async #end(): Promise<boolean> {
    this.#over = true;
    this.#flushing?.cancel();
    this.#looking?.cancel();
    try {
      if (this.#writer.backlog === 0) this.#writer.write([{ type: "stop" }]);
    } catch {
      // It does not read any more.
    }
    if (!(await this.#exitsWithin(STOP_MS / 2))) {
      this.#worker?.terminate().catch(() => {});
      if (!(await this.#exitsWithin(STOP_MS / 2))) return false;
    }
    this.#watch.stop();
    closeSync(this.#pipes.up.writeFd);
    closePipe(this.#pipes.down);
    return true;
  }

  async #exitsWithin(ms: number): Promise<boolean> {
    if (!this.#exited) return true;
    return Promise.race([this.#exited, Bun.sleep(ms).then(() => false)]);
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Write the queue, without blocking on a slow or stuck engine. */
  #flush(): void {
    this.#flushing?.cancel();
    this.#flushing = undefined;
    if (this.#over) return;
    try {
      this.#writer.flush();
      if (this.#writer.backlog === 0 && this.#waiting.length > 0) {
        const messages = this.#waiting.splice(0);
        this.#written += messages.length;
        this.#writer.write(messages);
      }
    } catch (error) {
      return this.#failed(error);
    }
    if (this.#writer.backlog > 0) this.#flushing = this.clock.after(FLUSH_RETRY_MS, () => this.#flush());
    if (!this.#looking) this.#movedAt = this.clock.now();
    this.#lookLater();
  }

  #lookLater(): void {
    this.#looking ??= this.clock.after(sharedWait(this.clock, LOOK_MS), () => this.#look());
  }

  /** Fail if the engine has handled nothing for too long; look again while it has something to handle. */
  #look(): void {
    this.#looking = undefined;
    if (this.#over) return;
    const handled = this.#counters.get(COUNTERS.messages);
    if (handled !== this.#handled) this.#movedAt = this.clock.now();
    this.#handled = handled;
    if (this.#ready && handled >= this.#written) return;
    const limit = this.#ready ? STUCK_MS : START_MS;
    if (this.clock.now() - this.#movedAt > limit)
      return this.#failed(new Error(`it has handled no message for ${limit / 1000} s`));
    this.#lookLater();
  }

  #received(message: FromEngine): void {
    if (message.type === "ready") {
      this.#ready = true;
      this.#flush();
    }
    this.listener.received(message);
  }

  #failed(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    noteFailure("the sleeve engine", error);
    this.listener.failed(reasonOf(error));
  }
}
