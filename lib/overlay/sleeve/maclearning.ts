// Learning of MAC addresses from received frames: written to the kernel's map when new, and refreshed while in use.
import type { Arena } from "../../sys/arena.ts";

/**
 * Interval of refreshing an address in use. The programs in the kernel write the same map: an address that has moved to this host or
 * to a neighbour by VXLAN, and comes back, is theirs until then, and the map may evict one. Meanwhile its frames are lost.
 */
const REFRESH_MS = 1_000;
const MAX_MACS = 16_384;

export class MacLearning {
  readonly #macs = new Map<number, { peer: number; at: number }>();
  // Cache: the next frame mostly has the same source.
  #lastMac = -1;
  #lastPeer = -1;
  #lastAt = 0;

  constructor(
    private readonly arena: Arena,
    /** Write that the MAC address at `at` in the arena is at this peer. */
    private readonly learn: (at: number, peer: number) => void,
  ) {}

  /** Learn that the MAC address at `at` is at this peer; `now` in ms. */
  note(at: number, peer: number, now: number): void {
    const { view } = this.arena;
    const mac = view.getUint16(at) * 2 ** 32 + view.getUint32(at + 2);
    if (mac === this.#lastMac && peer === this.#lastPeer && now - this.#lastAt < REFRESH_MS) return;
    const known = this.#macs.get(mac);
    let since = known?.at ?? now;
    if (!known || known.peer !== peer || now - known.at >= REFRESH_MS) {
      if (this.#macs.size >= MAX_MACS) this.#macs.clear();
      this.#macs.set(mac, { peer, at: now });
      since = now;
      this.learn(at, peer);
    }
    this.#lastMac = mac;
    this.#lastPeer = peer;
    this.#lastAt = since;
  }

  clear(): void {
    this.#macs.clear();
    this.#lastMac = -1;
  }
}
