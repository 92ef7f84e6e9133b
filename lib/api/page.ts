// What the router and the status page, which is a room above it, have to know of each other.
import type { Clock } from "../clock/clock.ts";
import type { Allocator } from "../ipam/allocator.ts";
import type { Log } from "../log/log.ts";
import type { Store } from "../store/store.ts";
import type { Limit } from "../sys/limit.ts";
import type { Report } from "./report.ts";
import type { Route } from "./routing.ts";
import type { TrafficSample } from "./traffic.ts";

/** What the page shows. */
export interface PageSources {
  report(): Report;
  traffic(): TrafficSample;
  readonly allocator: Allocator;
  readonly store: Store;
  /** Where it is served. */
  readonly places: readonly { readonly host: string; readonly port: number }[];
  /** Sockets of container runtimes. */
  readonly runtimes: readonly string[];
  readonly clock: Clock;
  readonly log: Log;
}

export interface StatusPage {
  readonly routes: readonly Route[];
  limits(): Limit[];
  stop(): void;
}
