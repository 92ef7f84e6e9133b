// The network under the mesh: addresses of this host, paths to its peers, and time that it was suspended. TCP notices changes
// only after minutes: connections from an address that is gone end at once, doubtful ones are checked, and targets that could
// not be reached are dialled again.

import { isIP } from "node:net";
import { splitHostPort } from "../address/hostport.ts";
import { type Clock, every, type Timer } from "../clock/clock.ts";
import { Soon } from "../clock/soon.ts";
import { limitedLines } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { guarded } from "../log/unexpected.ts";
import type { LocalConnection } from "../mesh/connection.ts";
import type { MeshRouter } from "../mesh/router.ts";
import type { Watch } from "../sys/readable.ts";
import type { UnderlayKernel } from "./underlaykernel.ts";

/** Changes come in bursts; an address that is replaced is absent for a moment. */
const COALESCE_MS = 100;
/** Bound on looks while routes change that are not ours. */
const CALM_MS = 1_000;
const TICK_MS = 1_000;
/** Longest delay without work of a host that is awake; more is a suspension or a set clock. */
const AWAY_MS = 3_000;
/** Bound on path look-ups for targets without a connection. */
const MAX_TARGETS = 64;
const LINES_PER_MINUTE = 30;

/** Addresses of this host, and paths by their ends: "local remote", or "remote" for a target without a connection. */
export interface UnderlayView {
  readonly addresses: ReadonlySet<string>;
  readonly paths: ReadonlyMap<string, string>;
}

/** Return what has changed for the mesh; undefined if nothing has. */
export function underlayChange(before: UnderlayView, after: UnderlayView): string | undefined {
  const lost = [...before.addresses].filter((address) => !after.addresses.has(address));
  const gained = [...after.addresses].filter((address) => !before.addresses.has(address));
  const moved = [...after.paths.keys()].filter((ends) => hasMoved(ends, before, after));
  const words = [
    ...(lost.length > 0 ? [`lost ${lost.join(", ")}`] : []),
    ...(gained.length > 0 ? [`got ${gained.join(", ")}`] : []),
    ...(moved.length > 0 ? [`paths to ${moved.length} peers changed`] : []),
  ];
  return words.length > 0 ? words.join("; ") : undefined;
}

/** Return whether a known path has changed; false for a new one. */
function hasMoved(ends: string, before: UnderlayView, after: UnderlayView): boolean {
  const path = after.paths.get(ends);
  return (before.paths.get(ends) ?? path) !== path;
}

export class Underlay {
  readonly #watch: Watch;
  readonly #tick: Timer;
  readonly #info: (text: string) => void;
  /** Links without a carrier. */
  readonly #dark = new Set<number>();
  #view: UnderlayView;
  readonly #soon: Soon;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #boottime: number;
  #busy: number;
  /** Wall clock minus time since boot, in ms. */
  #offset: number;

  constructor(
    private readonly kernel: UnderlayKernel,
    private readonly mesh: Pick<MeshRouter, "maker" | "underlayChanged">,
    private readonly clock: Clock,
    log: Log,
    /** Called when the addresses of this host, or paths to its peers, have changed. */
    private readonly changed: () => void,
  ) {
    this.#info = limitedLines(log, () => clock.now(), LINES_PER_MINUTE);
    this.#boottime = kernel.boottime();
    this.#busy = kernel.busy();
    this.#offset = clock.wall() - this.#boottime;
    this.#view = this.#see();
    this.#soon = new Soon(clock, () => guarded("the underlay", () => this.#look()));
    this.#watch = kernel.watch({
      link: (index, running) => this.#link(index, running),
      changed: () => this.#lookSoon(),
      failed: (error) => log.error(`cannot watch the underlay: ${error.message}`),
    });
    this.#tick = every(clock, TICK_MS, () => guarded("the clocks of this host", () => this.#lookAtClocks()));
  }

  stop(): void {
    this.#tick.cancel();
    this.#soon.stop();
    this.#watch.stop();
  }

  #link(index: number, running: boolean): void {
    if (running === !this.#dark.has(index)) return;
    if (running) this.#dark.delete(index);
    else this.#dark.add(index);
    this.#lookSoon();
  }

  #lookSoon(): void {
    this.#soon.within(Math.max(COALESCE_MS, this.#lookedAt + CALM_MS - this.clock.now()));
  }

  #look(): void {
    const before = this.#view;
    this.#view = this.#see();
    const change = underlayChange(before, this.#view);
    // After a change that concerns us, more may follow: look again without a pause.
    this.#lookedAt = change === undefined ? this.clock.now() : Number.NEGATIVE_INFINITY;
    if (change === undefined) return;
    this.#info(`the network of this host has changed: ${change}`);
    this.#changed((connection) =>
      hasMoved(endsOf(connection), before, this.#view) ? "the path to the peer has changed" : undefined,
    );
    this.changed();
  }

  /** The host may have been suspended, this process stopped, or a virtual machine paused with its clocks. */
  #lookAtClocks(): void {
    const boottime = this.kernel.boottime();
    // A router that gets little of a processor lives, however late its timers are.
    const busy = this.kernel.busy();
    const missed = boottime - this.#boottime - TICK_MS - (busy - this.#busy);
    const offset = this.clock.wall() - boottime;
    const jump = offset - this.#offset;
    this.#boottime = boottime;
    this.#busy = busy;
    this.#offset = offset;
    const seconds = (ms: number) => Math.round(Math.abs(ms) / 1000);
    const away = missed >= AWAY_MS ? `this router did not run for ${seconds(missed)} s` : undefined;
    const set = Math.abs(jump) >= AWAY_MS ? `the clock of this host jumped by ${seconds(jump)} s` : undefined;
    const why = away ?? set;
    if (why === undefined) return this.#learnPaths();
    this.#info(`${why}; checking connections`);
    this.#view = this.#see();
    this.#changed(() => why);
  }

  #changed(doubtful: (connection: LocalConnection) => string | undefined): void {
    const { addresses } = this.#view;
    this.mesh.underlayChanged(
      ({ localIp }) =>
        isIP(localIp) === 4 && !addresses.has(localIp)
          ? `this host has no address ${localIp} any more`
          : undefined,
      doubtful,
    );
  }

  /** Record the paths of new connections and targets: only a recorded path can be seen to change. */
  #learnPaths(): void {
    const { addresses, paths } = this.#view;
    this.#view = { addresses, paths: this.#paths(addresses, paths) };
  }

  #see(): UnderlayView {
    const addresses = new Set(this.kernel.addresses());
    return { addresses, paths: this.#paths(addresses) };
  }

  /** Return the paths of all connections, and of targets without one; look up only those not in `known`. */
  #paths(addresses: ReadonlySet<string>, known?: UnderlayView["paths"]): UnderlayView["paths"] {
    const paths = new Map<string, string>();
    const { connections, targets } = this.mesh.maker;
    for (const connection of connections) {
      const { localIp, remoteIp } = connection;
      if (isIP(remoteIp) !== 4 || !addresses.has(localIp)) continue;
      const ends = endsOf(connection);
      paths.set(ends, known?.get(ends) ?? this.#path(remoteIp, localIp));
    }
    const waiting = [...targets].filter(([, { state }]) => state !== "connected").slice(0, MAX_TARGETS);
    for (const [address] of waiting) {
      const host = splitHostPort(address)?.host ?? "";
      if (isIP(host) === 4) paths.set(host, known?.get(host) ?? this.#path(host));
    }
    return paths;
  }

  #path(remote: string, local?: string): string {
    const path = this.kernel.path(remote, local);
    if (!path || (path.link !== undefined && this.#dark.has(path.link))) return "none";
    return `${path.link} ${path.gateway}`;
  }
}

const endsOf = ({ localIp, remoteIp }: LocalConnection) => `${localIp} ${remoteIp}`;
