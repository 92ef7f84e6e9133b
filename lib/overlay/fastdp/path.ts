// What the path of one connection carries by VXLAN, tested with frames that the peer acknowledges over the control
// connection: when the connection starts, when frames of full length are refused or lost, and for growth. Of the tests that
// are sent together, the smallest first, the peer acknowledges the last that came. Pure: sends by functions; takes a clock.
import type { IPv4 } from "../../address/ipv4.ts";
import { ETHERNET_HEADER } from "../../address/mac.ts";
import type { Clock } from "../../clock/clock.ts";
import type { ReceivedHeartbeat } from "../datapath/maps.ts";
import { PathMtu } from "../pathmtu.ts";
import { decodeQuestion, encodeAnswer, FIRST_TEST, TESTS, type TestAnswer } from "./protocol.ts";

/** Interval of asking the kernel for its limit. */
const LIMIT_MS = 10_000;
/** Interval of tests for growth of a path that has carried more, or carries less than its links. */
const GROW_MS = 45_000;
/** Interval of tests of a new path that nothing has passed. */
const AGAIN_MS = 5_000;
/** No round has this number. */
const NO_ROUND = 0;

export interface FastdpPathParams {
  readonly clock: Clock;
  /** Return the most that this host's kernel sends on the path, in bytes of the frame's payload; undefined without a route. */
  limit(): number | undefined;
  /** Send a test of that size, in bytes of payload, with a mark that the peer answers. */
  test(mark: number, mtu: number): void;
  /** Ask the peer for the last test that has come. */
  ask(mark: number): void;
  /** Called when the path takes more than the MTU that the kernel has cached. */
  outgrown(): void;
  /** Called when `mtu` changes. */
  changed(): void;
}

export class FastdpPath {
  /** Bytes of payload that the path carries; undefined as long as no test has passed. */
  mtu: number | undefined;
  /** Frames of full length are lost: `mtu` may be more than the path carries until the search ends. */
  isDoubtful = false;
  #started = false;
  #stopped = false;
  /** What the kernel sends: now, and at most so far. */
  #limit = 0;
  #largest = 0;
  #limitAt = Number.NEGATIVE_INFINITY;
  #searchedAt = 0;
  /** Tests sent so far. */
  #sent = 0;
  /** Rounds of this search by the marks of their tests; NO_ROUND for what a heartbeat may have hidden. */
  readonly #rounds = new Map<number, number>();
  /** Size of the largest test of this search that has passed. */
  #passed = 0;
  /** A question is due, behind the tests that are sent in this turn of the event loop. */
  #asking = false;
  /** The first question of this search was sent; a question of it was answered. */
  #asked = false;
  #heard = false;
  /** Another question is to be sent once the first is answered. */
  #askNext = false;
  readonly #search: PathMtu;

  constructor(private readonly params: FastdpPathParams) {
    this.#search = new PathMtu({
      clock: params.clock,
      test: (mtu) => this.#test(mtu),
      ask: () => this.#askSoon(),
      found: () => this.#found(),
    });
  }

  get searching(): boolean {
    return this.#search.searching;
  }

  /** Test the path: frames can be sent. */
  start(): void {
    if (this.#started || this.#stopped) return;
    this.#started = true;
    this.#readLimit();
    this.#searchAll();
  }

  stop(): void {
    this.#stopped = true;
    this.#search.stop();
  }

  /** To be called every second or two. */
  tick(): void {
    if (!this.#started || this.#stopped || this.searching) return;
    const now = this.params.clock.now();
    const before = this.#limit;
    if (now - this.#limitAt >= LIMIT_MS) this.#readLimit();
    if (this.mtu !== undefined && this.#limit < this.mtu) return this.refused();
    const age = now - this.#searchedAt;
    if (this.mtu === undefined) {
      if (age >= AGAIN_MS) this.#searchAll();
    } else if (this.#limit > before || (this.mtu < this.#largest && age >= GROW_MS)) {
      this.#begin(this.mtu);
      this.#search.grow(this.mtu, Math.max(this.#limit, this.#largest));
    }
  }

  /** The kernel refuses frames: it may know of a smaller limit. */
  refused(): void {
    if (!this.#started || this.#stopped) return;
    this.#readLimit();
    if (this.mtu === undefined || this.#limit >= this.mtu) return;
    // What was lost is explained.
    this.isDoubtful = false;
    this.#set(this.#limit);
    this.#searchAll();
  }

  /** Frames of full length are lost. */
  suspect(): void {
    if (!this.#started || this.#stopped) return;
    this.isDoubtful = true;
    if (this.searching) return;
    this.#readLimit();
    this.#searchAll(true);
  }

  /** The peer has answered for the last test that it has received. */
  answered({ asked, mark, mtu }: TestAnswer): void {
    if (!this.searching) return;
    if (this.#rounds.has(mark) && mtu <= this.#largest) {
      this.#passed = Math.max(this.#passed, mtu);
      this.#search.verified(mtu);
    }
    const round = this.#rounds.get(asked);
    if (round !== undefined) this.#search.answered(round);
    if (round === undefined) return;
    this.#heard = true;
    if (!this.#askNext) return;
    this.#askNext = false;
    if (this.searching) this.#askSoon();
  }

  /** A heartbeat has been sent, which may hide tests: answers to the questions until now do not tell that they are lost. */
  covered(): void {
    for (const mark of this.#rounds.keys()) this.#rounds.set(mark, NO_ROUND);
  }

  #readLimit(): void {
    this.#limitAt = this.params.clock.now();
    this.#limit = this.params.limit() ?? this.#limit;
    this.#largest = Math.max(this.#largest, this.#limit);
  }

  #searchAll(doubtful = false): void {
    if (this.#limit <= 0) return;
    this.#begin(0);
    this.#search.search(this.#limit, doubtful);
  }

  #begin(passed: number): void {
    this.#searchedAt = this.params.clock.now();
    this.#rounds.clear();
    this.#asked = false;
    this.#heard = false;
    this.#askNext = false;
    this.#passed = passed;
  }

  /** Send a test; those that are sent at once have one mark, and one question behind them. */
  #test(mtu: number): void {
    this.#askSoon();
    this.params.test(this.#mark, mtu);
  }

  /**
   * Ask with a new mark, but only once the first question of this search is answered: the control connection loses
   * none, and a busy peer would have to answer all of them.
   */
  #askSoon(): void {
    if (this.#asking) return;
    this.#asking = true;
    this.#sent++;
    this.#rounds.set(this.#mark, this.#search.round);
    this.params.clock.after(0, () => {
      this.#asking = false;
      if (this.#stopped) return;
      this.#askNext = this.#asked && !this.#heard;
      if (this.#askNext) return;
      this.#asked = true;
      this.params.ask(this.#mark);
    });
  }

  get #mark(): number {
    return FIRST_TEST + (this.#sent % TESTS);
  }

  #found(): void {
    this.isDoubtful = false;
    if (this.#passed > this.#limit) {
      this.params.outgrown();
      this.#limit = this.#passed;
    }
    this.#set(this.#passed === 0 ? undefined : this.#passed);
  }

  #set(mtu: number | undefined): void {
    if (mtu === this.mtu) return;
    this.mtu = mtu;
    this.params.changed();
  }
}

/** Answer anyTest by the last heartbeat or test that the peer at `sender` has sent; undefined for a message that is none. */
export function testAnswer(
  question: Uint8Array,
  last: ReceivedHeartbeat | undefined,
  sender: IPv4,
): Uint8Array | undefined {
  const asked = decodeQuestion(question);
  if (asked === undefined) return undefined;
  const isTest = last !== undefined && last.size >= FIRST_TEST && last.sender === sender;
  const [mark, mtu] = isTest ? [last.size, last.length - ETHERNET_HEADER] : [0, 0];
  return encodeAnswer({ asked, mark, mtu });
}
