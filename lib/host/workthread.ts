// A thread for container work, so that slow kernel requests do not block the event loop. Started on first use, and again after
// it has failed or hung.
import { Worker } from "node:worker_threads";
import { systemClock } from "../clock/clock.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import { noteFailure } from "../log/unexpected.ts";
import type { Limit } from "../sys/limit.ts";
import type { ContainerWork } from "./containerwork.ts";
import { errorOf, type Operation, type WorkAnswer, type WorkRequest } from "./workmessages.ts";

/** The thread's program. In an executable all modules but entry points are in one folder. */
const PROGRAM = import.meta.path.startsWith("/$bunfs/") ? "./lib/host/workworker.ts" : "./workworker.ts";

/** Timeout of an operation; all take far less. */
const TIMEOUT_MS = 15_000;
/** Failed threads allowed at once, and a minute: one that hangs in the kernel stays there. */
const MAX_FAILURES = 5;
/** Bound on waiting calls. */
const MAX_WAITING = 1_024;

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
  readonly timer: ReturnType<typeof setTimeout>;
}

/** The thread failed, hung or is overloaded; retry later. */
export class BusyError extends Error {
  override readonly name = "BusyError";
}

export class WorkThread implements ContainerWork {
  readonly #waiting = new Map<number, Waiting>();
  readonly #rate = new TokenBucket(MAX_FAILURES, MAX_FAILURES / 60, systemClock.now());
  #worker: Worker | undefined;
  #nextId = 0;
  #failures = 0;
  #stopped = false;
  #lastFailure = "";

  constructor(
    private readonly program = new URL(PROGRAM, import.meta.url),
    private readonly timeoutMs = TIMEOUT_MS,
  ) {}

  readonly attach: ContainerWork["attach"] = (attachment) => this.#call("attach", attachment);
  readonly detach: ContainerWork["detach"] = (link) => this.#call("detach", link);
  readonly addEndpoint: ContainerWork["addEndpoint"] = (endpoint) => this.#call("addEndpoint", endpoint);
  readonly tuneEndpoint: ContainerWork["tuneEndpoint"] = (outer) => this.#call("tuneEndpoint", outer);
  readonly inspect: ContainerWork["inspect"] = (netns, ifName) => this.#call("inspect", netns, ifName);
  readonly attached: ContainerWork["attached"] = () => this.#call("attached");
  readonly inspectPorts: ContainerWork["inspectPorts"] = (ports) => this.#call("inspectPorts", ports);

  readonly applyMtu: ContainerWork["applyMtu"] = (change) => this.#call("applyMtu", change);

  limits(): Limit[] {
    return [{ name: "container-work", value: this.#waiting.size, max: MAX_WAITING }];
  }

  /** Start the thread unless it runs: the next call need not wait for that. */
  warm(): void {
    if (!this.#stopped && this.#rate.wait(systemClock.now()) === 0) this.#running();
  }

  /** What status says. */
  notes(): string[] {
    if (this.#failures === 0) return [];
    return [
      `the thread for container work has failed ${this.#failures} times, the last: ${this.#lastFailure}`,
    ];
  }

  /** End the thread and reject all waiting calls, and every later one. */
  stop(): void {
    this.#stopped = true;
    this.#end("container work: the router is stopping");
  }

  #call<T>(operation: Operation, ...parameters: readonly unknown[]): Promise<T> {
    if (this.#stopped) return Promise.reject(new BusyError("container work: the router is stopping"));
    if (this.#waiting.size >= MAX_WAITING)
      return Promise.reject(new BusyError(`container work: ${MAX_WAITING} calls are waiting`));
    if (!this.#worker && this.#rate.wait(systemClock.now()) > 0)
      return Promise.reject(new BusyError(`container work fails again and again: ${this.#lastFailure}`));
    const worker = this.#running();
    const id = this.#nextId++;
    const request: WorkRequest = { id, operation, parameters };
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(
        () => this.#abandon(`container work: no answer within ${this.timeoutMs / 1000} s`),
        this.timeoutMs,
      );
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject, timer });
      worker.postMessage(request);
    });
  }

  #running(): Worker {
    if (this.#worker) return this.#worker;
    const worker = new Worker(this.program);
    const ended = (why: string) => {
      if (this.#worker === worker) this.#abandon(why);
    };
    worker.on("message", (answer: WorkAnswer) => this.#answered(answer));
    worker.on("error", (error: Error) => {
      noteFailure("the container work thread", error);
      ended(error.message);
    });
    worker.on("exit", (code) => ended(`container work: the thread has ended (exit code ${code})`));
    worker.unref();
    this.#worker = worker;
    return worker;
  }

  #answered(answer: WorkAnswer): void {
    const waiting = this.#waiting.get(answer.id);
    if (!waiting) return;
    this.#waiting.delete(answer.id);
    clearTimeout(waiting.timer);
    if ("failure" in answer) waiting.reject(errorOf(answer.failure));
    else waiting.resolve(answer.result);
  }

  /** Abandon the thread, which has failed or hangs. */
  #abandon(why: string): void {
    this.#failures++;
    this.#lastFailure = why;
    this.#rate.take(systemClock.now());
    this.#end(why);
  }

  /** Reject all waiting calls; a thread that hangs in the kernel goes on until it returns. */
  #end(why: string): void {
    const worker = this.#worker;
    this.#worker = undefined;
    worker?.terminate().catch(() => {});
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new BusyError(why));
    }
    this.#waiting.clear();
  }
}
