// Checks whether what we know of the topology is consistent, and asks about what is not: a broadcast may have been lost.
import type { Clock, Timer } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Work } from "../clock/slices.ts";
import type { LocalConnection } from "./connection.ts";
import { ASK_CHANNEL } from "./features.ts";
import type { PeerName } from "./name.ts";
import type { Pace } from "./pace.ts";
import type { Routes } from "./routes.ts";
import { TOPOLOGY_CHANNEL, type TopologyGossip } from "./topology.ts";

/** Time from a change to the check, and the longest one, reached by doubling. */
const CHECK_MS = 500;
const MAX_CHECK_MS = 8_000;

export interface TopologyCheckHost {
  readonly clock: Clock;
  readonly random: Random;
  readonly routes: Routes;
  readonly connections: ReadonlyMap<PeerName, LocalConnection>;
}

export class TopologyCheck {
  #timer: Timer | undefined;
  #at = 0;
  #stopped = false;

  constructor(
    private readonly host: TopologyCheckHost,
    private readonly topology: Pick<TopologyGossip, "inconsistentPeers" | "of">,
    private readonly pace: Pick<Pace, "wait">,
    private readonly run: (work: Work) => void,
  ) {}

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** Check in `ms`, the sooner the later the topology changed; spread, as all peers do. */
  within(ms = CHECK_MS): void {
    const { clock, random } = this.host;
    const now = clock.now();
    // While broadcasts wait, most of what seems to be missing is among them.
    const longest = Math.max(ms, 2 * this.pace.wait()) * 1.25;
    if (this.#stopped || (this.#timer && this.#at <= now + longest)) return;
    this.#timer?.cancel();
    this.#at = now + longest * (0.6 + 0.4 * random.float());
    this.#timer = clock.after(this.#at - now, () => {
      this.#timer = undefined;
      this.run(this.#askAboutInconsistent(ms));
    });
  }

  /**
   * Send what we have of inconsistent peers to the next hop to each, which answers with anything newer. Neighbours that announce
   * ASK_CHANNEL are not asked about themselves: they broadcast their changes to all their neighbours, and a connection loses
   * none. What seems to be missing is delayed.
   */
  *#askAboutInconsistent(ms: number): Work {
    const { routes, connections } = this.host;
    const names = yield* this.topology.inconsistentPeers();
    if (!names) return;
    const byHop = new Map<PeerName, PeerName[]>();
    for (const name of names) {
      const hop = routes.unicastAll.get(name);
      if (hop === undefined || (hop === name && connections.get(hop)?.announces(ASK_CHANNEL))) continue;
      byHop.set(hop, [...(byHop.get(hop) ?? []), name]);
    }
    for (const [hop, some] of byHop)
      connections.get(hop)?.sendGossip(TOPOLOGY_CHANNEL, undefined, this.topology.of(some));
    this.within(Math.min(2 * ms, MAX_CHECK_MS));
  }
}
