// Take-over of the space of peers that are gone for good (weave: ipam/allocator.go, AdminTakeoverRanges).
import type { AddressRange } from "../address/ipv4.ts";
import { sleep, type Timer } from "../clock/clock.ts";
import { type PeerName, UNKNOWN_PEER } from "../mesh/name.ts";
import { reasonOf } from "../sys/reason.ts";
import type { AllocatorConfig, AllocatorDependencies } from "./config.ts";
import { IpamError, UnknownPeerError } from "./errors.ts";
import type { RingMessenger } from "./messenger.ts";
import type { Nicknames } from "./nicknames.ts";
import type { PersistentRing } from "./persistentring.ts";

/** Long enough for a broadcast to reach every peer that can be reached. */
const SETTLE_MS = 2_000;
/** Ranges that nobody owns are taken over after this, and up to twice as long: by one peer, not by all. */
const HEAL_MS = 10_000;

export class TakeOvers {
  #contested: AddressRange[] = [];
  #healing: Timer | undefined;

  constructor(
    private readonly config: Pick<AllocatorConfig, "ourName" | "isAmbiguous" | "isKnownPeer">,
    private readonly dependencies: Pick<AllocatorDependencies, "clock" | "random" | "log">,
    private readonly persistent: PersistentRing,
    private readonly messenger: RingMessenger,
    private readonly nicknames: Nicknames,
    private readonly changed: () => void,
  ) {}

  /** Ranges that another peer may have taken over at the same time. */
  get contested(): readonly AddressRange[] {
    return this.#contested;
  }

  stop(): void {
    this.#healing?.cancel();
  }

  /**
   * Take over the space of a peer that is gone for good. Resolves with the number of addresses that are ours by it, once
   * every peer has had time to hear of it: where several do it at once, one gets each range. Rejects with
   * UnknownPeerError for a peer that owns nothing, with IpamError for ourself and, unless forced, for a peer that is
   * connected and still hands out its addresses, and with StoreError.
   */
  async takeOver(nameOrNickname: string, force = false): Promise<number> {
    return this.#takeOver(this.#removable(nameOrNickname, force));
  }

  /** Take over ranges that nobody owns: peers of earlier versions gave theirs away when they left. */
  heal(): void {
    const isNeeded = () => this.persistent.ring.peerNames().has(UNKNOWN_PEER);
    if (this.#healing || !isNeeded()) return;
    const { clock, random, log } = this.dependencies;
    this.#healing = clock.after(HEAL_MS * (1 + random.float()), () => {
      this.#healing = undefined;
      if (!isNeeded()) return;
      log.info("claiming ranges of the ring that no peer owns");
      this.#takeOver(UNKNOWN_PEER).catch((error) => log.error(reasonOf(error)));
    });
  }

  async #takeOver(name: PeerName): Promise<number> {
    const { persistent } = this;
    const ranges = persistent.takeOver(name);
    if (ranges.length === 0) return 0;
    this.#contested.push(...ranges);
    persistent.updateSpace();
    this.changed();
    this.messenger.broadcast();
    await sleep(this.dependencies.clock, SETTLE_MS);
    const settled = new Set(ranges);
    this.#contested = this.#contested.filter((range) => !settled.has(range));
    this.changed();
    return ranges.reduce((sum, range) => sum + persistent.ring.ownedIn(range), 0);
  }

  /** Return the peer whose space may be taken over; throws why not. */
  #removable(nameOrNickname: string, force: boolean): PeerName {
    const { config, nicknames } = this;
    const { ring } = this.persistent;
    if (ring.empty) {
      throw new IpamError(`cannot remove peer ${nameOrNickname}: the peers have not divided the range yet`);
    }
    const owners = ring.peerNames();
    const found = nicknames.find(nameOrNickname);
    const candidates = found.length > 1 ? found.filter((name) => owners.has(name)) : found;
    const [name] = candidates;
    if (candidates.length > 1) {
      throw new IpamError(`"${nameOrNickname}" is the nickname of ${candidates.join(" and ")}: use the name`);
    }
    if (name === config.ourName) {
      throw new IpamError(`cannot remove peer ${nameOrNickname}: it is this host; use 'weave reset'`);
    }
    if (name === undefined || !owners.has(name)) {
      throw new UnknownPeerError(
        `no peer "${nameOrNickname}" owns addresses; 'weave status ipam' shows the owners`,
      );
    }
    if (config.isAmbiguous?.(name) && !force) {
      throw new IpamError(
        `peer ${nicknames.annotate(name)} is two hosts, and one of them may still use its addresses; give one ` +
          "another name first, or use --force if the containers of both are gone",
      );
    }
    if (config.isKnownPeer(name) && !force) {
      throw new IpamError(
        `peer ${nicknames.annotate(name)} is connected and still uses its addresses, which would be ` +
          "allocated twice; run 'weave reset' on that host, or use --force if its containers are gone",
      );
    }
    return name;
  }
}
