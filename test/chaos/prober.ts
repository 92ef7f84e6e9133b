// Asks all the time who reaches whom: pairs that must, until they do; pairs that must never, whatever happens.
import type { Mailbox } from "./mailbox.ts";
import type { Container } from "./model.ts";

/** Time between rounds of datagrams. */
const ROUND_MS = 100;
const READS_PER_ROUND = 5;
/** Rounds after which a datagram is not under way any more, on the worst network here. */
const UNDER_WAY = 10;
/** Datagrams that have to arrive until a pair counts as one that talks. */
const ENOUGH = 2;

type Pair = readonly [from: Container, to: Container];
const keyOf = (from: string, to: string) => `${from} ${to}`;

export class Prober {
  #round = 0;
  /** Rounds of the datagrams that have arrived, of each pair that is asked for. */
  #wanted = new Map<string, { pair: Pair; arrived: number[] }>();
  /** Pairs that must not talk, with the round since when. */
  #forbidden = new Map<string, { pair: Pair; since: number; arrived: number; strict: boolean }>();
  readonly #violations: string[] = [];
  readonly #timers: readonly Timer[];

  /** `roundMs` is the time between rounds. */
  constructor(
    private readonly mailbox: Mailbox,
    roundMs = ROUND_MS,
  ) {
    this.#timers = [
      setInterval(() => this.#send(), roundMs),
      setInterval(() => this.#read(), roundMs / READS_PER_ROUND),
    ];
  }

  /** Asks anew whether these talk. */
  want(pairs: readonly Pair[]): void {
    this.#wanted = new Map(pairs.map((pair) => [keyOf(pair[0].id, pair[1].id), { pair, arrived: [] }]));
  }

  /** Pairs of which not enough has arrived since they were asked for, as "a -> b". */
  missing(): string[] {
    return [...this.#wanted.values()]
      .filter(({ arrived }) => arrived.length < ENOUGH)
      .map(({ pair: [from, to] }) => `${describe(from)} -> ${describe(to)}`);
  }

  /** From now on nothing may get from one to the other; pairs that it was so for before stay watched without a gap. */
  forbid(pairs: readonly Pair[]): void {
    const entries = pairs.map((pair) => {
      const key = keyOf(pair[0].id, pair[1].id);
      return [
        key,
        this.#forbidden.get(key) ?? { pair, since: this.#round, arrived: -1, strict: false },
      ] as const;
    });
    this.#forbidden = new Map(entries);
  }

  /** Pairs that must not talk and have, since they were forbidden and within the last rounds. */
  talking(): string[] {
    const recent = this.#round - UNDER_WAY / 2;
    return [...this.#forbidden.values()]
      .filter(({ since, arrived }) => arrived >= recent || since > recent)
      .map(({ pair: [from, to] }) => `${describe(from)} -> ${describe(to)}`);
  }

  /** What must never have happened, and has, since the last call. */
  violations(): string[] {
    return this.#violations.splice(0);
  }

  /** From now on an arrival between forbidden pairs is a violation, or, while rules may be missing, it is not. */
  enforce(strict: boolean): void {
    for (const each of this.#forbidden.values()) each.strict = strict;
  }

  #send(): void {
    this.#round++;
    for (const { pair, arrived } of this.#wanted.values())
      if (arrived.length < ENOUGH) this.mailbox.send(pair[0].id, pair[1].id, this.#round);
    for (const { pair } of this.#forbidden.values()) this.mailbox.send(pair[0].id, pair[1].id, this.#round);
  }

  #read(): void {
    for (const { from, to, at, round } of this.mailbox.receive()) {
      // A bit that was flipped on the way is no fault of anybody's here.
      if (at !== to) this.#violations.push(`what ${from} sent to ${to} has arrived at ${at}`);
      const key = keyOf(from, to);
      this.#wanted.get(key)?.arrived.push(round);
      const forbidden = this.#forbidden.get(key);
      if (!forbidden || round <= forbidden.since) continue;
      forbidden.arrived = round;
      if (forbidden.strict)
        this.#violations.push(
          `a policy is open: ${describe(forbidden.pair[0])} has reached ${describe(forbidden.pair[1])}`,
        );
    }
  }

  stop(): void {
    for (const timer of this.#timers) clearInterval(timer);
  }
}

const describe = ({ id, host, role, address }: Container) => `${id} (${role}, ${address} on host ${host})`;
