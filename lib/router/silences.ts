// How often heartbeats of each peer went missing, for the metrics.
import { LatestMap } from "../clock/latestmap.ts";

/** Peers that are counted; beyond them, those whose last silence is oldest are forgotten. */
const MAX_PEERS = 1_000;

export class Silences {
  /** By peer. */
  readonly #counts = new LatestMap<string, { nickname: string; count: number }>(MAX_PEERS);

  /** Count a silence of a peer, which has just begun. */
  count({ name, nickName }: { readonly name: string; readonly nickName: string }): void {
    this.#counts.set(name, { nickname: nickName, count: (this.#counts.get(name)?.count ?? 0) + 1 });
  }

  report(): { Peer: string; NickName: string; Count: number }[] {
    return Array.from(this.#counts, ([Peer, { nickname, count }]) => ({
      Peer,
      NickName: nickname,
      Count: count,
    }));
  }
}
