// What a path carries: the largest packet, and whether fragments get through. Tested when a connection begins, again
// and again while the path is used, at once when something tells that it takes less, and every GROW_MS whether it takes
// more again. Pure: sends by functions, and is told the time.
import type { Clock, Timer } from "../../clock/clock.ts";
import { overhead } from "./format.ts";
import { PathMtu } from "./pathmtu.ts";

/** A path that frames are sent by is tested this often … */
const BUSY_TEST_MS = 2_500;
/** … and this often while there is nothing to send, or, where another overlay carries the frames, only every RETEST_MS. */
const IDLE_TEST_MS = 20_000;
/** Whether a path that took more before does so again; together with a search less than a minute. */
const GROW_MS = 45_000;
/** Whether fragments get through, and what the kernel knows of the path. */
const RETEST_MS = 5 * 60_000;
const FRAGMENT_TEST_MS = 5_000;
/** Until the kernel or a test says less. */
const UNKNOWN_MTU = 65_535;

export interface PathParams {
  readonly clock: Clock;
  readonly encrypted: boolean;
  /** Send a test that a packet of so many bytes gets through; with `probe` also where the kernel remembers less. */
  test(mtu: number, probe: boolean): void;
  /** Send a test that fragments get through. */
  testFragments(): void;
  /** Send what the kernel has to refuse: it says what it knows of the path (tooBig). */
  askKernel(): void;
  /** The path takes more than the kernel remembers: it is to forget that. */
  outgrown(): void;
  changed(): void;
  log(text: string): void;
}

/** What a path is used for. */
export interface PathUse {
  /** Frames go by this overlay, if there are any. */
  readonly preferred: boolean;
  /** Some went just now. */
  readonly carrying: boolean;
}

export class Path {
  /** Bytes that a packet of the overlay may have. */
  mtu = UNKNOWN_MTU;
  fragments = false;
  /** A search has found the MTU. */
  #verified = false;
  /** The kernel's latest word on the path, and the largest there was. */
  #kernelLimit = 0;
  #largest = 0;
  /** The kernel said that the path takes more, in the middle of a search for less. */
  #growTo = 0;
  /** A test of this size is on its way, larger than the kernel remembers the path to take. */
  #probed: number | undefined;
  #testedAt = 0;
  #retestedAt = Number.POSITIVE_INFINITY;
  #fragmentTest: Timer | undefined;
  readonly #search: PathMtu;

  constructor(private readonly params: PathParams) {
    this.#search = new PathMtu({
      clock: params.clock,
      test: (mtu) => params.test(mtu, false),
      found: (mtu) => this.#found(mtu),
    });
  }

  /** Begin: datagrams get through. */
  start(): void {
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
    const age = now - this.#retestedAt;
    if (age >= RETEST_MS) this.#testFragments();
    if (age >= RETEST_MS || (this.mtu < this.#largest && age >= GROW_MS)) return this.#retest();
    const interval = carrying ? BUSY_TEST_MS : IDLE_TEST_MS;
    if (preferred && now - this.#testedAt >= interval) this.suspect();
  }

  /** Something tells that the path may take less than before: tests it at once. */
  suspect(): void {
    if (!this.#verified || this.#search.searching) return;
    this.#testedAt = this.params.clock.now();
    this.#search.search(this.mtu);
  }

  /** The kernel refused a datagram: the path takes packets of `mtu` bytes, with all headers. */
  tooBig(mtu: number): void {
    const limit = mtu - overhead(this.params.encrypted);
    if (this.#search.searching && limit >= this.#search.limit) {
      if (limit > this.mtu) this.#growTo = limit;
      return;
    }
    this.#kernelLimit = limit;
    this.#largest = Math.max(this.#largest, limit);
    if (this.#verified && limit > this.mtu) return this.#search.grow(this.mtu, limit);
    // Until more is known: what the kernel would not send needs no trying.
    if (limit < this.mtu) this.#setMtu(limit);
    this.#search.search(limit);
  }

  /** The peer has got a test of that size. */
  verified(mtu: number): void {
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
    if (mtu !== this.mtu || !this.#verified) this.params.log(`verified an effective MTU of ${mtu}`);
    this.#setMtu(mtu);
    this.#verified = true;
    const limit = this.#growTo;
    this.#growTo = 0;
    if (limit > mtu) this.#search.grow(mtu, limit);
  }

  #setMtu(mtu: number): void {
    if (mtu === this.mtu) return;
    const before = this.#verified ? this.mtu : mtu;
    this.mtu = mtu;
    // Our kernel cuts fragments as large as its own link takes: on a path that takes less they are lost.
    if (mtu < before) this.fragments = false;
    this.params.changed();
    if (mtu !== before) this.#testFragments();
  }
}
