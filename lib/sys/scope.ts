// The life of a daemon as a stack of undos: each resource registers its own where it is made. A failed start, an interrupted
// start, a stop and a restart after unexpected errors run the same stack, the last undo first.

/** The daemon was told to stop while it was starting. */
export class InterruptedError extends Error {
  override readonly name = "InterruptedError";
  constructor() {
    super("told to stop while starting");
  }
}

/** The life of a daemon, in order. "draining" is also a start that is given up. */
export type DaemonState = "starting" | "ready" | "draining" | "stopped";

interface Step {
  readonly what: string;
  readonly undo: () => unknown;
  /** Undone only if the start fails; else the resource stays for the next daemon. */
  readonly unlessStarted: boolean;
}

export class Scope {
  readonly #steps: Step[] = [];
  readonly #interruption = new AbortController();
  #started = false;
  #ended: Promise<void> | undefined;
  #stopped = false;
  #current: string | undefined;

  /** `failed` is told of each undo that throws; the others run nevertheless. */
  constructor(private readonly failed: (what: string, error: unknown) => void) {}

  /** Register an undo, run whenever the scope ends. */
  defer(what: string, undo: () => unknown): void {
    this.#steps.push({ what, undo, unlessStarted: false });
  }

  /** Register a part to stop whenever the scope ends; returns the part. */
  use<T extends { stop(): unknown }>(what: string, part: T): T {
    this.defer(what, () => part.stop());
    return part;
  }

  /** Register an undo that runs only if the start fails: the resource outlives the daemon. */
  deferUnlessStarted(what: string, undo: () => unknown): void {
    this.#steps.push({ what, undo, unlessStarted: true });
  }

  /** Fires when the daemon is told to stop. */
  get signal(): AbortSignal {
    return this.#interruption.signal;
  }

  /** Wait for a step of the start; rejects with InterruptedError once the daemon is told to stop. */
  async wait<T>(step: Promise<T>): Promise<T> {
    const { signal } = this;
    let interrupted = () => {};
    const interruption = new Promise<never>((_, reject) => {
      interrupted = () => reject(new InterruptedError());
    });
    signal.addEventListener("abort", interrupted);
    if (signal.aborted) interrupted();
    try {
      return await Promise.race([interruption, step]);
    } finally {
      signal.removeEventListener("abort", interrupted);
    }
  }

  /** Tell the start to give up at its next `wait`. */
  interrupt(): void {
    this.#interruption.abort();
  }

  /** The start has succeeded. Throws InterruptedError if the daemon was told to stop meanwhile. */
  start(): void {
    if (this.signal.aborted) throw new InterruptedError();
    this.#started = true;
  }

  get state(): DaemonState {
    if (this.#stopped) return "stopped";
    if (this.#ended || this.signal.aborted) return "draining";
    return this.#started ? "ready" : "starting";
  }

  /** The step that is being undone. */
  get current(): string | undefined {
    return this.#current;
  }

  /** Run all undos, one after the other; a second call waits for the first. Never rejects. */
  end(): Promise<void> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  async #end(): Promise<void> {
    for (const { what, undo, unlessStarted } of this.#steps.reverse()) {
      if (unlessStarted && this.#started) continue;
      this.#current = what;
      try {
        await undo();
      } catch (error) {
        this.failed(what, error);
      }
    }
    this.#current = undefined;
    this.#stopped = true;
  }
}
