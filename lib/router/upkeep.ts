// What the network needs of this host, looked after: the bridge, the containers' ports, the overlay's links with their
// programs, and the packet filter. What others (a network manager, a firewall, an administrator) remove or change is put back.
import { type Clock, every, type Timer } from "../clock/clock.ts";
import { type BridgeSettings, ensureBridge } from "../host/bridge.ts";
import type { Exposure } from "../host/expose.ts";
import { BRIDGE, isContainerVeth } from "../host/names.ts";
import { limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { linkByName, linkList, linkSet } from "../netlink/link.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import type { NetworkOverlay } from "../overlay/network.ts";
import { reasonOf } from "../sys/reason.ts";

/** Changes of programs and of the packet filter are not told of: they are found by looking. */
const CHECK_MS = 10_000;
/** Several changes come together, and who changes them again and again is not answered faster than this. */
const DELAY_MS = 500;

export interface UpkeepParts {
  readonly route: NetlinkSocket;
  readonly bridge: BridgeSettings;
  readonly exposure: Pick<Exposure, "restore"> & { repairFilter(): string[] };
  readonly overlay: Pick<NetworkOverlay, "repair">;
  readonly clock: Clock;
  readonly log: Log;
}

export class Upkeep {
  readonly #warn: (kind: string, text: string) => void;
  readonly #regular: Timer;
  #soon: Timer | undefined;
  #repairs = 0;
  #last = "";
  /** Why something could not be put back. */
  #trouble: string | undefined;

  constructor(private readonly parts: UpkeepParts) {
    this.#warn = limitedWarnings(parts.log, () => parts.clock.now());
    this.#regular = every(parts.clock, CHECK_MS, () => this.#check());
  }

  stop(): void {
    this.#regular.cancel();
    this.#soon?.cancel();
  }

  /** A link has changed or gone; it need not be one of ours. */
  linkChanged(): void {
    this.#soon ??= this.parts.clock.after(DELAY_MS, () => {
      this.#soon = undefined;
      this.#check();
    });
  }

  notes(): string[] {
    if (this.#trouble !== undefined) return [`cannot repair what others changed: ${this.#trouble}`];
    if (this.#repairs === 0) return [];
    return [`repaired what others changed: ${this.#repairs} in all, the last: ${this.#last}`];
  }

  #check(): void {
    try {
      const wrong = this.#repairBridge();
      wrong.push(...this.parts.overlay.repair(linkByName(this.parts.route, BRIDGE)?.index));
      wrong.push(...this.parts.exposure.repairFilter());
      this.#trouble = undefined;
      if (wrong.length === 0) return;
      this.#repairs++;
      this.#last = wrong.join("; ");
      this.#warn("repaired", `repaired: ${this.#last}`);
    } catch (error) {
      this.#trouble = reasonOf(error);
      this.#warn("trouble", `cannot repair what others changed: ${this.#trouble}`);
    }
  }

  #repairBridge(): string[] {
    const { route, bridge, exposure } = this.parts;
    const before = linkByName(route, BRIDGE);
    if (before?.up) return [];
    const { index } = ensureBridge(route, bridge);
    if (before) return [`bridge ${BRIDGE} was down`];
    exposure.restore();
    for (const link of linkList(route)) {
      if (isContainerVeth(link.name) && link.master === undefined)
        linkSet(route, link.name, link.index, { master: index, up: true });
    }
    return [`bridge ${BRIDGE} was removed`];
  }
}
