// Dropped packets as people are told of them: a line for each attempt at a connection, not for each packet of it, and no
// more lines than a reader can use.

import type { Clock } from "../clock/clock.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import type { LoggedPacket } from "../netlink/nflog.ts";
import { MID_STREAM, UNTRACKED } from "./basechain.ts";
import { DIRECTIONS, type Protocol } from "./objects.ts";
import { type Connection, readPacket } from "./packet.ts";

/** Packets of one connection within this are one attempt: TCP tries again after 1, 2, 4, … seconds. */
const ATTEMPT_MS = 60_000;
/** Attempts that are remembered; when there are more, some are told of twice. */
const MAX_ATTEMPTS = 10_000;
/** Lines at once, and on the whole. */
const BURST = 100;
const LINES_PER_S = 10;

/** What made a rule drop a packet: a pod's policies, or what is said in basechain.ts. */
const REASONS = [...DIRECTIONS, "multicast", "unknown", UNTRACKED, MID_STREAM] as const;
type Why = (typeof REASONS)[number];

/** An attempt at a connection that was blocked; or a connection that was established and is cut. */
export interface Drop extends Omit<Connection, "segment"> {
  readonly protocol: Protocol;
  readonly why: Why;
  /** It was allowed when it began. */
  readonly cut: boolean;
}

export interface DropListener {
  /** The first packet of an attempt, or of a connection, that we see. */
  blocked(drop: Drop): void;
  /** The same, where it is also to be written down. */
  write(drop: Drop): void;
  /** So many were not written down, because there were too many. */
  leftOut(count: number): void;
}

export class Drops {
  readonly #attempts = new LatestMap<string, number>(MAX_ATTEMPTS);
  readonly #lines: TokenBucket;
  #leftOut = 0;

  constructor(
    private readonly clock: Clock,
    private readonly listener: DropListener,
  ) {
    this.#lines = new TokenBucket(BURST, LINES_PER_S, clock.now());
  }

  /** Takes a packet that the filter has dropped. */
  packet({ payload, prefix }: LoggedPacket): void {
    const connection = readPacket(payload);
    const reason = readPrefix(prefix);
    if (!connection || typeof connection.protocol === "number" || !reason) return;
    const { segment, ...ends } = connection;
    // What comes in the middle of a connection is no attempt at one.
    if (!reason.cut && connection.protocol === "TCP" && !segment?.opens) return;
    const [source, sourcePort, destination, port] =
      reason.cut === "target"
        ? [ends.destination, ends.port, ends.source, ends.sourcePort]
        : [ends.source, ends.sourcePort, ends.destination, ends.port];
    const drop: Drop = {
      protocol: connection.protocol,
      ...{ source, sourcePort, destination, port },
      why: reason.why,
      cut: reason.cut !== undefined,
    };
    if (!this.#isNew(drop)) return;
    this.listener.blocked(drop);
    if (this.#lines.take(this.clock.now())) this.listener.write(drop);
    else this.#leftOut++;
  }

  /** So many packets were lost on the way to us. */
  lost(): void {
    this.#leftOut++;
  }

  /** To be called every few seconds: tells of what was left out. */
  tick(): void {
    const old = this.clock.now() - ATTEMPT_MS;
    for (const [key, at] of this.#attempts) {
      if (at > old) break;
      this.#attempts.delete(key);
    }
    if (this.#leftOut === 0) return;
    this.listener.leftOut(this.#leftOut);
    this.#leftOut = 0;
  }

  #isNew({ source, sourcePort, destination, port, protocol, cut }: Drop): boolean {
    const key = `${cut} ${protocol} ${source} ${sourcePort} ${destination} ${port}`;
    const at = this.#attempts.get(key);
    const now = this.clock.now();
    if (at !== undefined && now - at < ATTEMPT_MS) return false;
    this.#attempts.set(key, now);
    return true;
  }
}

/** Reads the prefix that tables.ts writes: why, and for a packet of a connection that is cut, which end has sent it. */
function readPrefix(text: string): { why: Why; cut: "opener" | "target" | undefined } | undefined {
  const [first, sender] = text.split(" ");
  const why = REASONS.find((each) => each === first);
  const cut = sender === "opener" || sender === "target" ? sender : undefined;
  return why && { why, cut };
}

/** The line, for blocked attempts word for word as the original writes it. */
export function dropLine({ protocol, source, sourcePort, destination, port, cut }: Drop): string {
  const ends = `${protocol} connection from ${source}:${sourcePort} to ${destination}:${port}`;
  return cut ? `${ends} cut by Weave NPC: no longer allowed.` : `${ends} blocked by Weave NPC.`;
}
