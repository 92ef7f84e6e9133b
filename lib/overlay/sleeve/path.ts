// MTU and fragmentation of a path: tested when a connection starts, periodically while the path is used, at once on signs
// that the MTU has shrunk, and every GROW_MS for whether it has grown again. Pure: sends by functions; takes a clock.
import type { Clock, Timer } from "../../clock/clock.ts";
import { MINIMUM_MTU, PathMtu } from "../pathmtu.ts";
import { type Cipher, overhead } from "./format.ts";

/** Test interval of a path that carries frames … */
const BUSY_TEST_MS = 2_500;
/** … and of an idle one. A path that is not in use is tested every RETEST_MS only. */
const IDLE_TEST_MS = 20_000;
/** Interval of tests for growth after the MTU has shrunk; with the search itself less than a minute. */
const GROW_MS = 45_000;
/** Interval of fragmentation tests and path MTU discovery. */
const RETEST_MS = 5 * 60_000;
const FRAGMENT_TEST_MS = 5_000;
/** MTU until the kernel or a test says less. */
const UNKNOWN_MTU = 65_535;

/** Questions are tests of sizes that every path carries: the size tells the round from the last ones. */
const ROUNDS = 16;
const questionSize = (round: number) => MINIMUM_MTU - (round % ROUNDS);

export interface PathParams {
  readonly clock: Clock;
  readonly cipher: Cipher | undefined;
  /** Test a packet of so many bytes; with `probe` ignore the path MTU that the kernel has cached. */
  test(mtu: number, probe: boolean): void;
  /** Test whether fragments get through. */
  testFragments(): void;
  /** Send what the kernel has to refuse; it tells the path MTU that it knows (tooBig). */
  askKernel(): void;
  /** Called when the path takes more than the MTU that the kernel has cached. */
  outgrown(): void;
  changed(): void;
  log(text: string): void;
}

/** The use of a path. */
export interface PathUse {
  /** The overlay is in use. */
  readonly preferred: boolean;
  /** It has carried frames since the last tick. */
  readonly carrying: boolean;
}

export class Path {
  /** MTU of the overlay on this path, in bytes. */
  mtu = UNKNOWN_MTU;
  fragments = false;
  #started = false;
  /** A search has found the MTU. */
  #verified = false;
  /** Path MTU according to the kernel: the latest, and the largest ever. */
  #kernelLimit = 0;
  #largest = 0;
  /** During a search for less, the kernel reported more. */
  #growTo = 0;
  /** Size of the test in flight that is larger than the cached path MTU. */
  #probed: number | undefined;
  #testedAt = 0;
  /** End of the first of the searches in a row that the peer answered nothing to, while the path is in use. */
  #unansweredSince: number | undefined;
  #retestedAt = Number.POSITIVE_INFINITY;
  #fragmentTest: Timer | undefined;
  readonly #search: PathMtu;

  constructor(private readonly params: PathParams) {
    this.#search = new PathMtu({
      clock: params.clock,
      test: (mtu) => params.test(mtu, false),
      ask: (round) => params.test(questionSize(round), false),
      found: (mtu) => this.#found(mtu),
      silent: () => {
        this.#unansweredSince ??= params.clock.now();
      },
    });
  }

  /** What tests have found that the path carries; undefined as long as none has ended. */
  get measured(): number | undefined {
    return this.#verified ? this.mtu : undefined;
  }

  /** Since when tests of the path in use are not answered, in ms; undefined where they are. */
  get unansweredSince(): number | undefined {
    return this.#unansweredSince;
  }

  /** Ask the kernel what the path takes while it is whole: later, it may have cached less. */
  look(): void {
    this.params.askKernel();
  }

  /** Start tests: datagrams get through, and an answer of the peer takes `ms`. */
  start(ms = 0): void {
    if (this.#started) return;
    this.#started = true;
    this.#search.took(ms);
    if (this.mtu !== UNKNOWN_MTU) this.#search.search(this.mtu);
    this.#testFragments();
    this.#retest();
  }

  stop(): void {
    this.#search.stop();
    this.#fragmentTest?.cancel();
  }

  /** To be called every few seconds. */
  tick({ preferred, carrying }: PathUse): void {
    const now = this.params.clock.now();
    // A path that is not in use is hardly tested.
    if (!preferred) this.#unansweredSince = undefined;
    const age = now - this.#retestedAt;
    if (age >= RETEST_MS) this.#testFragments();
    if (age >= RETEST_MS || (this.mtu < this.#largest && age >= GROW_MS)) return this.#retest();
    const interval = carrying ? BUSY_TEST_MS : IDLE_TEST_MS;
    if (preferred && now - this.#testedAt >= interval) this.suspect();
  }

  /** Test the current MTU at once. */
  suspect(): void {
    if (!this.#started || this.mtu === UNKNOWN_MTU || this.#search.searching) return;
    this.#testedAt = this.params.clock.now();
    this.#search.search(this.mtu);
  }

  /** The kernel refused a datagram: the path takes packets of `mtu` bytes, with all headers. */
  tooBig(mtu: number): void {
    const limit = mtu - overhead(this.params.cipher);
    if (this.#search.searching && limit >= this.#search.limit) {
      if (limit > this.mtu) this.#growTo = limit;
      return;
    }
    this.#kernelLimit = limit;
    this.#largest = Math.max(this.#largest, limit);
    if (this.#verified && limit > this.mtu) return this.#search.grow(this.mtu, limit);
    // The search starts from here: our kernel sends nothing larger.
    if (limit < this.mtu) this.#setMtu(limit);
    if (this.#started) this.#search.search(limit);
  }

  /** The peer has received a test of that size. */
  verified(mtu: number): void {
    this.#unansweredSince = undefined;
    const { round } = this.#search;
    if (mtu === questionSize(round)) this.#search.answered(round);
    this.#search.verified(mtu);
    if (mtu !== this.#probed) return;
    this.#probed = undefined;
    this.#kernelLimit = mtu;
    this.params.outgrown();
    this.#retest();
  }

  fragmentsReceived(): void {
    this.#fragmentTest?.cancel();
    this.#setFragments(true);
  }

  #retest(): void {
    this.#retestedAt = this.params.clock.now();
    this.params.askKernel();
    if (this.#kernelLimit >= this.#largest) return;
    this.#probed = this.#largest;
    this.params.test(this.#largest, true);
  }

  #testFragments(): void {
    this.params.testFragments();
    this.#fragmentTest?.cancel();
    this.#fragmentTest = this.params.clock.after(FRAGMENT_TEST_MS, () => this.#setFragments(false));
  }

  #setFragments(arrive: boolean): void {
    if (this.fragments === arrive) return;
    this.fragments = arrive;
    this.params.changed();
  }

  #found(mtu: number): void {
    const isFirst = !this.#verified;
    if (mtu !== this.mtu || isFirst) this.params.log(`verified an effective MTU of ${mtu}`);
    this.#setMtu(mtu);
    this.#verified = true;
    if (isFirst) this.params.changed();
    const limit = this.#growTo;
    this.#growTo = 0;
    if (limit > mtu) this.#search.grow(mtu, limit);
  }

  #setMtu(mtu: number): void {
    if (mtu === this.mtu) return;
    const before = this.#verified ? this.mtu : mtu;
    this.mtu = mtu;
    // Our kernel makes fragments of its own link's MTU, which are lost on a path with a smaller one.
    if (mtu < before) this.fragments = false;
    this.params.changed();
    if (mtu !== before) this.#testFragments();
  }
}
