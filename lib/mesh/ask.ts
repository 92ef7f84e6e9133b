// Questions from router to router, for `weave doctor --cluster` and `weave trace`: read-only, small, and only to peers that
// announce the channel (features.ts). Pure: clock, chance and the channel are passed in.

import type { Clock, Timer } from "../clock/clock.ts";
import { LatestMap } from "../clock/latestmap.ts";
import type { Random } from "../clock/random.ts";
import { Tally } from "../clock/tally.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { printable } from "../log/printable.ts";
import { forgetting, type Limit } from "../sys/limit.ts";
import { reasonOf } from "../sys/reason.ts";
import {
  type AskMessage,
  type AskRefusal,
  decodeAsk,
  encodeAsk,
  parseBody,
  type ReceivedAsk,
} from "./askwire.ts";
import type { GossipChannel, Gossiper } from "./gossip.ts";
import type { PeerName } from "./name.ts";

/** Questions of ours that wait for an answer. */
const MAX_WAITING = 512;
/** Questions of peers in progress: of all, and by one neighbour. */
const MAX_ANSWERING = 16;
const MAX_ANSWERING_BY_ONE = 4;
/** Timeout of an answerer. */
const ANSWER_MS = 30_000;
/** Questions by one neighbour: at once, then each second; four times as many by all. */
const BURST = 64;
const PER_S = 16;
const NEIGHBOURS_AT_ONCE = 4;
/** Neighbours whose rate is kept; the one that asked longest ago is forgotten first. */
const MAX_NEIGHBOURS = 256;

/** Why there is no answer: the peer cannot be asked, did not answer in time, or refused. */
export type AskFailure = "not-ours" | "silent" | AskRefusal;

/** A question has no answer. */
export class AskError extends Error {
  override readonly name = "AskError";
  constructor(
    readonly code: AskFailure,
    message: string,
  ) {
    super(message);
  }
}

/**
 * Answers questions on one subject; `body` is JSON of a peer, not validated. The asker gets the message of what it rejects
 * with, and the code where that is an AskError.
 */
export type Answerer = (body: unknown, source: PeerName) => Promise<unknown>;

export interface AskHost {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly ourself: { readonly name: PeerName };
}

interface Waiting {
  readonly peer: PeerName;
  readonly timer: Timer;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: AskError) => void;
}

export class Ask implements Gossiper {
  readonly #channel: GossipChannel;
  readonly #answerers = new Map<string, Answerer>();
  readonly #waiting = new Map<bigint, Waiting>();
  /** Questions in progress, by the neighbour that passed them on: a source can be forged. */
  readonly #answering = new Tally<PeerName>();
  readonly #rates = new LatestMap<PeerName, TokenBucket>(MAX_NEIGHBOURS);
  readonly #rate: TokenBucket;
  readonly #warn: LimitedWarning;
  #refused = 0;

  constructor(
    private readonly host: AskHost,
    open: (gossiper: Gossiper) => GossipChannel,
  ) {
    const { clock, log } = host;
    this.#rate = new TokenBucket(NEIGHBOURS_AT_ONCE * BURST, NEIGHBOURS_AT_ONCE * PER_S, clock.now());
    this.#warn = limitedWarnings(log, () => clock.now());
    this.#channel = open(this);
  }

  /** Answer questions on `subject` ([a-z0-9-], up to 32 characters) from now on. */
  answer(subject: string, answerer: Answerer): void {
    this.#answerers.set(subject, answerer);
  }

  /**
   * Ask a peer, or this router itself. Resolves with its JSON, to be validated by the caller; rejects with AskError within
   * `timeoutMs`, and with ProtocolError for a question over 4 KiB.
   */
  async ask(peer: PeerName, subject: string, body: unknown, timeoutMs: number): Promise<unknown> {
    if (peer === this.host.ourself.name) return this.#own(subject, body);
    if (this.#waiting.size >= MAX_WAITING)
      throw new AskError("busy", `${MAX_WAITING} questions to peers wait for their answers`);
    const id = this.host.random.u64();
    const message = encodeAsk({ kind: "question", id, subject, body });
    return new Promise((resolve, reject) => {
      const timer = this.host.clock.after(timeoutMs, () =>
        this.#settle(id, new AskError("silent", `no answer within ${timeoutMs / 1000} s`)),
      );
      this.#waiting.set(id, { peer, timer, resolve, reject });
      if (!this.#channel.unicast(peer, message))
        this.#settle(id, new AskError("not-ours", "not reachable through routers that answer questions"));
    });
  }

  limits(): Limit[] {
    return [
      { name: "questions", value: this.#waiting.size, max: MAX_WAITING },
      {
        name: "questions-of-peers",
        value: this.#answering.total,
        max: MAX_ANSWERING,
        refused: this.#refused,
      },
      forgetting("neighbours-with-a-rate", this.#rates),
    ];
  }

  /** Give up all questions. */
  stop(): void {
    for (const id of [...this.#waiting.keys()]) this.#settle(id, new AskError("silent", "router stopping"));
  }

  onUnicast(source: PeerName, bytes: Uint8Array, neighbour: PeerName): void {
    const message = decodeAsk(bytes);
    if (message.kind === "question") return this.#question(source, neighbour, message);
    const waiting = this.#waiting.get(message.id);
    // Of a peer that was not asked, or too late.
    if (waiting?.peer !== source) return;
    if (message.kind === "answer") this.#settle(message.id, undefined, parseBody(message.json));
    else this.#settle(message.id, new AskError(message.code, printable(message.reason)));
  }

  // Questions are for one peer: there are no broadcasts on this channel.
  onBroadcast(): undefined {}
  onGossip(): undefined {}
  gossip(): undefined {}

  async #own(subject: string, body: unknown): Promise<unknown> {
    const answerer = this.#answerers.get(subject);
    if (!answerer) throw new AskError("unknown subject", `unknown subject ${subject}`);
    return answerer(body, this.host.ourself.name);
  }

  #settle(id: bigint, error: AskError | undefined, answer?: unknown): void {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    this.#waiting.delete(id);
    waiting.timer.cancel();
    if (error) waiting.reject(error);
    else waiting.resolve(answer);
  }

  #question(
    source: PeerName,
    neighbour: PeerName,
    { id, subject, json }: ReceivedAsk & { kind: "question" },
  ): void {
    const answerer = this.#answerers.get(subject);
    if (!answerer)
      return this.#refuse(source, id, new AskError("unknown subject", `unknown subject ${subject}`));
    if (!this.#admits(neighbour)) {
      this.#refused++;
      const busy = new AskError("busy", "too many questions at a time; try again");
      this.#warn(`rate ${neighbour}`, `refusing a question: ${busy.message}`, { peer: source });
      return this.#refuse(source, id, busy);
    }
    const body = parseBody(json);
    this.#answering.add(neighbour, 1);
    this.#answer(source, neighbour, id, () => answerer(body, source)).catch((error) =>
      this.#warn("answer", `cannot answer a question: ${reasonOf(error)}`, { peer: source }),
    );
  }

  /** Charge a neighbour with a question; returns false where it, or all, have asked too much. */
  #admits(neighbour: PeerName): boolean {
    const { total } = this.#answering;
    if (total >= MAX_ANSWERING || this.#answering.of(neighbour) >= MAX_ANSWERING_BY_ONE) return false;
    const now = this.host.clock.now();
    const rate = this.#rates.get(neighbour) ?? new TokenBucket(BURST, PER_S, now);
    this.#rates.set(neighbour, rate);
    return rate.take(now) && this.#rate.take(now);
  }

  async #answer(
    source: PeerName,
    neighbour: PeerName,
    id: bigint,
    answer: () => Promise<unknown>,
  ): Promise<void> {
    let timer: Timer | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      const error = new Error(`not answered within ${ANSWER_MS / 1000} s`);
      timer = this.host.clock.after(ANSWER_MS, () => reject(error));
    });
    try {
      this.#reply(source, { kind: "answer", id, body: await Promise.race([answer(), late]) });
    } catch (error) {
      this.#refuse(source, id, error);
    } finally {
      timer?.cancel();
      this.#answering.add(neighbour, -1);
    }
  }

  #refuse(peer: PeerName, id: bigint, error: unknown): void {
    const code = error instanceof AskError ? error.code : "refused";
    const known = code === "not-ours" || code === "silent" ? "refused" : code;
    this.#reply(peer, { kind: "refusal", id, code: known, reason: reasonOf(error) });
  }

  #reply(peer: PeerName, message: AskMessage): void {
    this.#channel.unicast(peer, encodeAsk(message));
  }
}
