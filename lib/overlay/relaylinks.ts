// Links of the sleeve engine to neighbours by VXLAN: for frames that come by sleeve and go on by fast datapath.
import { formatIPv4, type IPv4 } from "../address/ipv4.ts";
import type { Log } from "../log/log.ts";
import type { Peer } from "../mesh/peer.ts";
import type { SleeveOverlay } from "./sleeve/overlay.ts";

export class RelayLinks {
  readonly #links = new Map<Peer, { link: number; address: IPv4; id: number }>();

  constructor(
    private readonly sleeve: Pick<SleeveOverlay, "addLink" | "setLink" | "removeLink">,
    /** `port`: the UDP port of the fast datapath. */
    private readonly config: { readonly port: number; mtu(): number },
    private readonly log: Log,
  ) {}

  /** Return the link to a neighbour with that number and address. Throws when there are too many. */
  to(peer: Peer, id: number, address: IPv4): number {
    const known = this.#links.get(peer);
    if (known && known.address === address && known.id === id) return known.link;
    this.#remove(peer);
    const link = this.sleeve.addLink("vxlan", id, peer.name);
    this.#set(link, address);
    this.#links.set(peer, { link, address, id });
    this.log.debug("relaying frames from sleeve to VXLAN", { peer: `${peer}`, address: formatIPv4(address) });
    return link;
  }

  /** The MTU of the network has changed. */
  mtuChanged(): void {
    for (const { link, address } of this.#links.values()) this.#set(link, address);
  }

  #set(link: number, address: IPv4): void {
    const { port, mtu } = this.config;
    this.sleeve.setLink(link, { remote: { address, port }, local: 0, mtu: mtu(), fragments: false });
  }

  /** Remove the links to all peers but these. */
  retain(peers: { has(peer: Peer): boolean }): void {
    for (const peer of this.#links.keys()) if (!peers.has(peer)) this.#remove(peer);
  }

  /** Forget all links after a restart of the engine. */
  forget(): void {
    this.#links.clear();
  }

  #remove(peer: Peer): void {
    const known = this.#links.get(peer);
    if (!known) return;
    this.sleeve.removeLink(known.link);
    this.#links.delete(peer);
  }
}
