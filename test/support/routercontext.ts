// What the parts of a router are made from, in a folder and a network namespace of the test, on a simulated clock; and the
// parts beside the one under test, which note what they are told.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { logTo } from "../../lib/log/log.ts";
import type { RouteEvent, RouteListener } from "../../lib/netlink/monitor.ts";
import { openContext, type RouterContext, type RouterServices } from "../../lib/router/context.ts";
import { parseOptions } from "../../lib/router/options.ts";
import { Scope } from "../../lib/sys/scope.ts";
import { enterNewNetns } from "./newnetns.ts";
import { useFolder } from "./ownfolders.ts";

/** Our name, unless options have another. */
export const OURS = "02:00:00:00:00:01";

export interface TestContext {
  readonly context: RouterContext;
  readonly clock: SimulatedClock;
  readonly scope: Scope;
  readonly folder: string;
  /** "level: text" of each line of the log, and of undos that failed. */
  readonly lines: string[];
}

/** Open the context of a router; `end` runs the undos of its scope, and removes what is there. */
export class RouterBench implements AsyncDisposable {
  readonly #leave = enterNewNetns();
  readonly folder = mkdtempSync(join(tmpdir(), "weave-bench-"));
  readonly #setBack = useFolder(this.folder);
  readonly #scopes: Scope[] = [];

  open(
    raw: Record<string, unknown> = {},
    services: Partial<RouterServices> = {},
    peers: string[] = [],
  ): TestContext {
    const lines: string[] = [];
    const clock = new SimulatedClock(1_000_000);
    const scope = new Scope((what, error) => lines.push(`cannot stop ${what}: ${error}`));
    this.#scopes.push(scope);
    const log = logTo((level, text) => level !== "debug" && lines.push(`${level}: ${text}`));
    const options = parseOptions({ name: OURS, nickname: "one", "docker-api": "", ...raw }, peers);
    const cni = async () => undefined;
    const context = openContext(options, { cni, clock, ...services }, log, scope);
    return { context, clock, scope, folder: this.folder, lines };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const scope of this.#scopes.reverse()) await scope.end();
    this.#setBack();
    this.#leave();
    rmSync(this.folder, { recursive: true });
  }

  /** Make a folder in that of the router; return its path. */
  subfolder(name: string): string {
    const path = join(this.folder, name);
    mkdirSync(path);
    return path;
  }
}

/** A monitor of the kernel that reports what the test says, to those that listen. */
export class FakeMonitor {
  readonly listeners = new Set<RouteListener>();

  add(listener: RouteListener): { close(): void } {
    this.listeners.add(listener);
    return { close: () => void this.listeners.delete(listener) };
  }

  changed(event: Partial<RouteEvent> & Pick<RouteEvent, "kind">): void {
    const whole = { index: undefined, port: 0, replaced: false, link: undefined, ...event };
    for (const listener of this.listeners) listener.changed(whole);
  }

  lost(): void {
    for (const listener of this.listeners) listener.lost();
  }
}
