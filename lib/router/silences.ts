// How often heartbeats of each peer went missing, for the metrics.
import { type Clock, every, type Timer } from "../clock/clock.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { guarded } from "../log/unexpected.ts";

/** A heartbeat that is lost is missing for longer: until the next one, 10 s later. */
const LOOK_MS = 5_000;
/** Peers that are counted; beyond them, those whose last silence is oldest are forgotten. */
const MAX_PEERS = 1_000;

/** A connection to a peer. */
interface Heard {
  readonly remote: { readonly name: string; readonly nickName: string } | undefined;
  readonly established: boolean;
  vitals(): { readonly silent: boolean };
}

export class Silences {
  /** By peer. */
  readonly #counts = new LatestMap<string, { nickname: string; count: number }>(MAX_PEERS);
  #silent: ReadonlySet<Heard> = new Set();
  readonly #look: Timer;

  constructor(clock: Clock, connections: () => Iterable<Heard>) {
    this.#look = every(clock, LOOK_MS, () =>
      guarded("counting missed heartbeats", () => this.#count(connections())),
    );
  }

  report(): { Peer: string; NickName: string; Count: number }[] {
    return Array.from(this.#counts, ([Peer, { nickname, count }]) => ({
      Peer,
      NickName: nickname,
      Count: count,
    }));
  }

  stop(): void {
    this.#look.cancel();
  }

  #count(connections: Iterable<Heard>): void {
    const before = this.#silent;
    const silent = new Set([...connections].filter((each) => each.established && each.vitals().silent));
    this.#silent = silent;
    for (const connection of silent) {
      const { remote } = connection;
      if (!remote || before.has(connection)) continue;
      const count = (this.#counts.get(remote.name)?.count ?? 0) + 1;
      this.#counts.set(remote.name, { nickname: remote.nickName, count });
    }
  }
}
