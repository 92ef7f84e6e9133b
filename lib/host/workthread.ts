// A thread for container work, so that slow kernel requests do not block the event loop. Started on first use, and again after
// it has failed or hung.
import { Worker } from "node:worker_threads";
import { systemClock, type Timer } from "../clock/clock.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import { noteFailure } from "../log/unexpected.ts";
import type { Limit } from "../sys/limit.ts";
import { reasonOf } from "../sys/reason.ts";
import type { ContainerWork } from "./containerwork.ts";
import { errorOf, type Operation, type WorkAnswer, type WorkRequest } from "./workmessages.ts";

/** The thread's program. In an executable all modules but entry points are in one folder. */
const PROGRAM = import.meta.path.startsWith("/$bunfs/") ? "./lib/host/workworker.ts" : "./workworker.ts";

/** Timeout of an operation; all take far less. */
const TIMEOUT_MS = 15_000;
/** Failed threads allowed at once, and a minute. */
const MAX_FAILURES = 5;
/** Bound on abandoned threads that have not ended: one that hangs in the kernel stays there. */
const MAX_HANGING = 5;
/** Bound on waiting calls. */
const MAX_WAITING = 1_024;

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
  /** Of its timeout. */
  timer: Timer;
}

/** The thread failed, hung or is overloaded; retry later. */
export class BusyError extends Error {
  override readonly name = "BusyError";
}

export class WorkThread implements ContainerWork {
  readonly #waiting = new Map<number, Waiting>();
  readonly #rate = new TokenBucket(MAX_FAILURES, MAX_FAILURES / 60, systemClock.now());
  #worker: Worker | undefined;
  /** Abandoned threads that have not ended. */
  readonly #hanging = new Set<Worker>();
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
    return [
      { name: "container-work", value: this.#waiting.size, max: MAX_WAITING },
      { name: "hanging-threads", value: this.#hanging.size, max: MAX_HANGING },
    ];
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
    if (!this.#worker && this.#hanging.size >= MAX_HANGING)
      return Promise.reject(new BusyError(`container work: ${MAX_HANGING} threads hang`));
    const worker = this.#running();
    const id = this.#nextId++;
    const request: WorkRequest = { id, operation, parameters };
    return new Promise<T>((resolve, reject) => {
      const timer = this.#limit(id, operation, this.timeoutMs);
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject, timer });
      worker.postMessage(request);
    });
  }

  /** Abandon the thread unless the call is answered while this process runs for `ms`; a stop of it does not count. */
  #limit(id: number, operation: Operation, ms: number): Timer {
    const end = systemClock.now() + ms;
    return systemClock.after(ms, () => {
      const waiting = this.#waiting.get(id);
      const left = end - systemClock.now();
      if (waiting && left > 0) waiting.timer = this.#limit(id, operation, left);
      else
        this.#abandon(
          new Error(`container work: no answer within ${this.timeoutMs / 1000} s (${operation})`),
        );
    });
  }

  #running(): Worker {
    if (this.#worker) return this.#worker;
    const worker = new Worker(this.program);
    const failed = (error: unknown) => {
      if (this.#worker === worker) this.#abandon(error);
    };
    worker.on("message", (answer: WorkAnswer) => this.#answered(answer));
    worker.on("error", failed);
    worker.on("exit", (code) => {
      failed(new Error(`container work: the thread has ended (exit code ${code})`));
      this.#hanging.delete(worker);
    });
    worker.unref();
    this.#worker = worker;
    return worker;
  }

  #answered(answer: WorkAnswer): void {
    const waiting = this.#waiting.get(answer.id);
    if (!waiting) return;
    this.#waiting.delete(answer.id);
    waiting.timer.cancel();
    if ("failure" in answer) waiting.reject(errorOf(answer.failure));
    else waiting.resolve(answer.result);
  }

  /** Report a failure or a hang, and abandon the thread. */
  #abandon(error: unknown): void {
    this.#failures++;
    this.#lastFailure = reasonOf(error);
    this.#rate.take(systemClock.now());
    noteFailure("the container work thread", error);
    this.#end(this.#lastFailure);
  }

  /** Reject all waiting calls; a thread that hangs in the kernel goes on until it returns. */
  #end(why: string): void {
    const worker = this.#worker;
    this.#worker = undefined;
    if (worker) {
      this.#hanging.add(worker);
      worker.terminate().catch(() => {});
    }
    for (const { reject, timer } of this.#waiting.values()) {
      timer.cancel();
      reject(new BusyError(why));
    }
    this.#waiting.clear();
  }
}
