// Updates of the forwarding tables of kernel and sleeve engine, as topology and overlays change.
import type { IPv4 } from "../address/ipv4.ts";
import type { Clock, Timer } from "../clock/clock.ts";
import type { Work } from "../clock/slices.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { nameToBytes, type PeerName } from "../mesh/name.ts";
import type { MeshRouter } from "../mesh/router.ts";
import type { Datapath } from "./datapath/datapath.ts";
import { GracefulRestart } from "./gracefulrestart.ts";
import type { PeerIds } from "./peerid.ts";
import type { ForwardingTables } from "./sleeve/routes.ts";
import { makeTables, type Neighbour } from "./tables.ts";

/** Coalesces changes that come together. */
const APPLY_DELAY_MS = 1;
/** Pause after an update, in multiples of what it took: a large mesh must not spend its time on tables. */
const APPLY_PAUSE = 3;
/** After the kernel has refused a table. */
const RETRY_MS = 1_000;

export interface TableParams {
  readonly clock: Clock;
  readonly log: Log;
  readonly datapath: Pick<Datapath, "table" | "apply" | "renumberMacs">;
  /** Return the ways to all neighbours, given the numbers of peers. */
  neighbours(numbers: ReadonlyMap<PeerName, number>): Neighbour[];
  /** Addresses that VXLAN frames may come from. */
  vxlanSources(): ReadonlySet<IPv4>;
  /** Hand the engine its tables. */
  configure(tables: ForwardingTables): void;
}

export class TableUpdates {
  /** Why the kernel does not have the last tables. */
  behind: string | undefined;
  /** Numbers of peers in the last tables. */
  #numbers: ReadonlyMap<PeerName, number> = new Map();
  /** Links by peer number, in the last tables. */
  #next: ForwardingTables["next"] = new Map();
  #topology: { readonly mesh: MeshRouter; readonly ids: PeerIds } | undefined;
  #timer: Timer | undefined;
  /** Cancels the computation that is under way. */
  #cancel: (() => void) | undefined;
  /** Something has changed since it started. */
  #outdated = false;
  #expiry: Timer | undefined;
  readonly #restart: GracefulRestart;
  readonly #warn: LimitedWarning;

  constructor(private readonly params: TableParams) {
    this.#restart = new GracefulRestart(params.datapath.table);
    this.#warn = limitedWarnings(params.log, () => params.clock.now());
  }

  start(mesh: MeshRouter, ids: PeerIds): void {
    this.#topology = { mesh, ids };
    this.schedule();
  }

  /** Stop: the kernel goes on forwarding by its last table. */
  stop(): void {
    this.#topology = undefined;
    this.#timer?.cancel();
    this.#cancel?.();
    this.#expiry?.cancel();
  }

  /** Compute and apply new tables soon. */
  schedule(delayMs = APPLY_DELAY_MS): void {
    if (!this.#topology) return;
    if (this.#cancel) this.#outdated = true;
    else this.#timer ??= this.params.clock.after(delayMs, () => this.#start());
  }

  /** Return true if kernel and engine have tables that forward frames to this peer. */
  forwardTo(peer: PeerName): boolean {
    const number = this.#numbers.get(peer);
    return number !== undefined && this.#next.has(number);
  }

  #start(): void {
    this.#timer = undefined;
    if (!this.#topology) return;
    const { clock } = this.params;
    const { mesh, ids } = this.#topology;
    const started = clock.now();
    this.#outdated = false;
    let ended = false;
    const cancel = mesh.slices.run(this.#update(mesh, ids), (error) => {
      ended = true;
      this.#cancel = undefined;
      this.behind = error?.message;
      if (error) {
        this.#warn("tables", `forwarding tables are out of date: ${this.behind}; retrying`);
        this.schedule(RETRY_MS);
      } else if (this.#outdated) {
        this.schedule(Math.max(APPLY_DELAY_MS, APPLY_PAUSE * (clock.now() - started)));
      }
    });
    if (!ended) this.#cancel = cancel;
  }

  /** Compute the tables of kernel and engine, in slices, and apply them at once. */
  *#update(mesh: MeshRouter, ids: PeerIds): Work {
    const { routes, peers, ourself } = mesh;
    const names = new Map<number, Uint8Array>();
    const numbers = new Map<PeerName, number>();
    for (const peer of peers.all()) {
      const id = ids.of(peer);
      if (id === undefined) continue;
      names.set(id, nameToBytes(peer.name));
      numbers.set(peer.name, id);
    }
    const self = numbers.get(ourself.name);
    if (self === undefined) return;
    const unicast = new Map<number, number>();
    const broadcast = new Map<number, { from: number | undefined; to: number[] }>();
    for (const [name, id] of numbers) {
      const hop = numbers.get(routes.unicast.get(name) ?? name);
      if (hop !== undefined && routes.unicast.has(name) && id !== self) unicast.set(id, hop);
      const to = routes.broadcast(name).flatMap((next) => numbers.get(next) ?? []);
      const from = routes.broadcastFrom(name);
      broadcast.set(id, { from: from && numbers.get(from), to });
      yield;
    }
    const neighbours = this.params.neighbours(numbers);
    const vxlanSources = this.params.vxlanSources();
    const { kernel, engine } = makeTables({ self, names, neighbours, vxlanSources, unicast, broadcast });
    const { clock, datapath } = this.params;
    const now = clock.now();
    const table = this.#restart.merge(kernel, now);
    this.#renumber(numbers, table.routes);
    // The engine first: it would drop frames that the kernel hands it before.
    this.params.configure(engine);
    datapath.apply(table);
    this.#next = engine.next;
    this.#expiry?.cancel();
    const { next } = this.#restart;
    this.#expiry = next === undefined ? undefined : clock.after(next - now, () => this.schedule());
  }

  /** Move learned MAC addresses along with peers whose numbers change; forget those of peers that are gone. */
  #renumber(numbers: ReadonlyMap<PeerName, number>, routes: ReadonlyMap<number, IPv4>): void {
    const changes = new Map<number, number | undefined>();
    const known = new Map(numbers);
    for (const [name, id] of this.#numbers) {
      const now = numbers.get(name);
      if (now === undefined && routes.has(id)) known.set(name, id);
      else if (now !== id) changes.set(id, now);
    }
    if (changes.size > 0) this.params.datapath.renumberMacs(changes);
    this.#numbers = known;
  }
}
