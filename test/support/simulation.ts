// Many mesh routers in one process, on one simulated clock and network.

import type { Clock } from "../../lib/clock/clock.ts";
import { below, type Random, seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import type { MeshConfig } from "../../lib/mesh/config.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { nullOverlay } from "../../lib/mesh/overlay.ts";
import { MeshRouter } from "../../lib/mesh/router.ts";
import { SimulatedNetwork } from "./network.ts";
import { sharedTopologyReader } from "./sharedtopology.ts";

export interface SimulatedPeer {
  readonly ip: string;
  readonly router: MeshRouter;
}

export class Simulation {
  readonly clock = new SimulatedClock(1_000_000);
  readonly random: Random;
  readonly network: SimulatedNetwork;
  readonly peers: SimulatedPeer[] = [];
  readonly #readTopology = sharedTopologyReader();
  /** The longest time that bytes are on their way. */
  slowMs = 5;

  /** `seenAs` returns the clock that routers see. */
  constructor(
    seed: bigint,
    private readonly seenAs: (clock: Clock) => Clock = (clock) => clock,
  ) {
    this.random = seededRandom(seed);
    this.network = new SimulatedNetwork(this.clock, () => 1 + below(this.random, this.slowMs));
  }

  /** Add a peer with number `i` (from 1), which decides its name, address and nickname. */
  add(
    i: number,
    config: Partial<MeshConfig> = {},
    seed = this.random.u64(),
    overlay = nullOverlay,
  ): SimulatedPeer {
    const ip = `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`;
    const router = new MeshRouter(
      { name: nameFromNumber(BigInt(i)), nickName: `h${i}`, ...config },
      {
        clock: this.seenAs(this.clock),
        random: seededRandom(seed),
        transport: this.network.transport(ip),
        overlay,
        log: silentLog,
        readTopology: this.#readTopology,
      },
    );
    this.network.listen(`${ip}:6783`, (stream) => router.accept(stream));
    router.start();
    const peer = { ip, router };
    this.peers.push(peer);
    return peer;
  }

  /** Connect a peer to others; name resolution takes a turn of the real event loop. */
  async connect(peer: SimulatedPeer, ...others: SimulatedPeer[]): Promise<void> {
    await peer.router.maker.connect(
      others.map((other) => other.ip),
      false,
    );
  }

  /** Stop a peer without a message to the others. */
  kill(peer: SimulatedPeer): void {
    this.network.unlisten(`${peer.ip}:6783`);
    peer.router.stop();
    this.peers.splice(this.peers.indexOf(peer), 1);
  }

  /** Advance the clock until `done` holds; return the ms that took, or throw after `limitMs`. */
  until(done: () => boolean, limitMs: number, stepMs = 20): number {
    const start = this.clock.now();
    while (!done()) {
      if (this.clock.now() - start > limitMs) throw new Error(`not within ${limitMs} ms of simulated time`);
      this.clock.advance(stepMs);
    }
    return this.clock.now() - start;
  }

  /** Return whether every peer knows every other and has a route to it. */
  converged(): boolean {
    return this.peers.every(
      ({ router }) =>
        router.peers.size === this.peers.length && router.routes.unicast.size === this.peers.length,
    );
  }

  /** Return whether every peer is connected to every other. */
  meshed(): boolean {
    return this.peers.every(({ router }) => {
      const { connections } = router;
      return (
        connections.size === this.peers.length - 1 && [...connections.values()].every((c) => c.established)
      );
    });
  }
}
