// A run of probes to a peer by one way, as a pure state machine: short ones for loss and round-trip time, then, where any
// was answered, a search for the MTU. A probe without an echo counts as lost once the peer has read all that arrived there: it
// may be a busy host, which reads late, and so may this one.
import { ETHERNET_HEADER } from "../../address/mac.ts";
import type { Clock, Timer } from "../../clock/clock.ts";
import { PathMtu } from "../pathmtu.ts";
import { MIN_PROBE } from "./frame.ts";

/** Interval of short probes. */
const INTERVAL_MS = 20;
/** The peer is asked about probes that are unanswered for so long after the last one. */
const WAIT_MS = 1_000;
/** Searches for the MTU, where echoes of larger probes come after each. */
const SEARCHES = 3;

export interface RunResult {
  readonly sent: number;
  /** Answered ones. */
  readonly received: number;
  /** Round-trip times in ms, ascending. */
  readonly roundTrips: readonly number[];
  /** The largest packet that got there and back, bytes without Ethernet header; undefined without any answer. */
  readonly mtu: number | undefined;
  /** Last errno of this host's own kernel, 0 for none. */
  readonly errno: number;
}

export interface RunParams {
  readonly clock: Clock;
  /** Number of short probes. */
  readonly count: number;
  /** The largest packet to try, bytes without Ethernet header. */
  readonly mtu: number;
  /** Send a probe. Returns 0 or an errno. */
  send(sequence: number, size: number): number;
  /** Call `then` once the peer has read what arrived there, and this host its echoes, or where the peer cannot be asked. */
  settle(then: () => void): void;
  /** CLOCK_REALTIME, ns. */
  now(): bigint;
  done(result: RunResult): void;
}

export class ProbeRun {
  readonly #sentAt = new Map<number, bigint>();
  readonly #roundTrips: number[] = [];
  readonly #search: PathMtu;
  #sequence = 0;
  #sent = 0;
  #errno = 0;
  #timer: Timer | undefined;
  #searches = 0;
  /** The largest packet that was echoed. */
  #largest = 0;

  constructor(private readonly params: RunParams) {
    this.#search = new PathMtu({
      clock: params.clock,
      test: (mtu) => this.#test(mtu),
      found: (mtu) => this.#found(mtu),
    });
  }

  start(): void {
    this.#sent++;
    const sequence = this.#sequence++;
    this.#sentAt.set(sequence, this.params.now());
    this.#errno = this.params.send(sequence, MIN_PROBE) || this.#errno;
    const last = this.#sent >= this.params.count;
    this.#timer = this.params.clock.after(last ? WAIT_MS : INTERVAL_MS, () =>
      last ? this.params.settle(() => this.#counted()) : this.start(),
    );
  }

  /** Take an echo that arrived `at` (CLOCK_REALTIME, ns); `size` of the frame in bytes, `dwell` at the other end in ns. */
  echo(sequence: number, size: number, at: bigint, dwell: number): void {
    if (this.#searches > 0) {
      this.#largest = Math.max(this.#largest, Math.min(size - ETHERNET_HEADER, this.params.mtu));
      return this.#search.verified(size - ETHERNET_HEADER);
    }
    const sentAt = this.#sentAt.get(sequence);
    if (sentAt === undefined) return;
    this.#sentAt.delete(sequence);
    // Either clock may have been set meanwhile.
    const ns = Math.min(Number(this.params.now() - sentAt), Math.max(0, Number(at - sentAt) - dwell));
    this.#roundTrips.push(Math.max(0, ns) / 1e6);
    if (this.#sentAt.size === 0 && this.#sent >= this.params.count) this.#counted();
  }

  /** Stop without a result. */
  stop(): void {
    this.#timer?.cancel();
    this.#search.stop();
  }

  #counted(): void {
    if (this.#searches > 0) return;
    this.#timer?.cancel();
    if (this.#roundTrips.length === 0) return this.#end(undefined);
    this.#searchMtu();
  }

  #searchMtu(): void {
    this.#searches++;
    this.#search.search(this.params.mtu);
  }

  #found(mtu: number): void {
    if (mtu === this.params.mtu) return this.#end(mtu);
    this.params.settle(() => {
      if (this.#largest > mtu && this.#searches < SEARCHES) this.#searchMtu();
      else this.#end(Math.max(mtu, this.#largest));
    });
  }

  #test(mtu: number): void {
    this.params.send(this.#sequence++, Math.max(MIN_PROBE, mtu + ETHERNET_HEADER));
  }

  #end(mtu: number | undefined): void {
    this.params.done({
      sent: this.#sent,
      received: this.#roundTrips.length,
      roundTrips: this.#roundTrips.sort((a, b) => a - b),
      mtu,
      errno: this.#errno,
    });
  }
}
