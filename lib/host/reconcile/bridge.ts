// The bridge as desired state. A removed one is restored with the same Ethernet address.

import type { BridgeMode } from "../../netlink/link/bridge.ts";
import { type Link, linkAdd, linkByName } from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { type BridgeSettings, findBridge } from "../bridge.ts";
import { applyLinkSettings } from "../linksettings.ts";
import { BRIDGE } from "../names.ts";
import { alignLink, type DesiredLink, findLink, type LinkChange, linkDifference } from "./link.ts";
import { keeper, type Resource } from "./resource.ts";

/** Defaults of the kernel. */
const MODE: BridgeMode = {
  ageingTime: 30_000,
  stp: false,
  vlanFiltering: false,
  multicastSnooping: true,
};

/** Make the bridge, or align the existing one, once. */
export function makeBridge(nl: NetlinkSocket, settings: BridgeSettings): void {
  keeper(new BridgeResource(nl, settings)).reconcile(() => true);
}

export class BridgeResource implements Resource<DesiredLink, Link | undefined, LinkChange> {
  readonly name = "bridge";
  readonly sources = ["links"] as const;
  /** Others may rename it. */
  #index: number | undefined;

  constructor(
    private readonly nl: NetlinkSocket,
    private readonly settings: BridgeSettings,
  ) {}

  desired(): DesiredLink {
    return { name: BRIDGE, ...this.settings, arp: true, bridge: MODE };
  }

  observe(): Link | undefined {
    // While no router ran, others may have renamed it; the ports of containers are still on it.
    const link =
      this.#index === undefined
        ? findBridge(this.nl, this.settings.address)
        : findLink(this.nl, BRIDGE, this.#index);
    if (link && link.kind !== "bridge")
      throw new Error(`link "${BRIDGE}" is in the way: not a bridge; remove or rename it`);
    this.#index = link?.index;
    return link;
  }

  difference(desired: DesiredLink, link: Link | undefined): LinkChange[] {
    return linkDifference(desired, link, undefined);
  }

  apply([change]: readonly LinkChange[]): void {
    if (change?.index === undefined) {
      const { address, mtu } = this.settings;
      // Made with another MTU, so that it is set below: one that a bridge is made with follows the least of its ports
      // (br_mtu_auto_adjust).
      linkAdd(this.nl, { kind: "bridge", name: BRIDGE, address, mtu: mtu - 1 });
      const made = linkByName(this.nl, BRIDGE);
      if (made) applyLinkSettings(this.nl, made);
    }
    alignLink(this.nl, this.desired(), change?.index);
    this.observe();
  }
}
