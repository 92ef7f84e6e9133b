// The overlay of one router: fast datapath and sleeve behind a switch for each connection, and the tables of kernel and
// sleeve engine kept in step with the topology and with what works.
import { formatIPv4, type IPv4 } from "../address/ipv4.ts";
import { type Clock, every, type Timer } from "../clock/clock.ts";
import type { Work } from "../clock/slices.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { guarded } from "../log/unexpected.ts";
import { nameToBytes, type PeerName } from "../mesh/name.ts";
import type { Overlay, OverlayConnection, OverlayParams } from "../mesh/overlay.ts";
import type { Peer } from "../mesh/peer.ts";
import type { MeshRouter } from "../mesh/router.ts";
import { EHOSTUNREACH } from "../sys/errno.ts";
import { monotonicNow } from "../sys/monotonic.ts";
import type { Datapath } from "./datapath/datapath.ts";
import type { Esp } from "./fastdp/esp.ts";
import { ACKNOWLEDGES } from "./fastdp/forwarder.ts";
import { FastdpOverlay } from "./fastdp/overlay.ts";
import { Linger } from "./linger.ts";
import { PeerIds } from "./peerid.ts";
import { SleeveOverlay } from "./sleeve/overlay.ts";
import { overlayFeature, type SwitchedConnection, switchedConnection } from "./switch.ts";
import { makeTables, type Neighbour } from "./tables.ts";

/** As the original: a MAC address not seen for so long is forgotten. */
const MAC_MAX_AGE_NS = 10n * 60n * 1_000_000_000n;
const MAC_SWEEP_MS = 60_000;
/** Several changes make one new table. */
const APPLY_DELAY_MS = 1;
/** Tables that take long are not computed again before so many times as long. */
const APPLY_PAUSE = 3;
/** After the kernel has refused one. */
const APPLY_AGAIN_MS = 1_000;

export interface NetworkConfig {
  readonly name: PeerName;
  /** Address to listen on; undefined for all. */
  readonly host: string | undefined;
  /** Port of the mesh. */
  readonly port: number;
  readonly mtu: number;
}

/** How frames to a peer go. */
export interface PathTo {
  /** That of the first hop: "fastdp" or "sleeve". */
  readonly overlay: string;
  /** The neighbour that passes them on; undefined where the peer is one. */
  readonly via: Peer | undefined;
  /** Overlays that are ready and not in use; for neighbours only. */
  readonly standby: readonly ("fastdp" | "sleeve")[];
  /** Why a better overlay is not in use. */
  readonly reason: string | undefined;
}

export class NetworkOverlay implements Overlay {
  readonly #fastdp: FastdpOverlay;
  readonly #sleeve: SleeveOverlay;
  readonly #connections = new Map<Peer, SwitchedConnection>();
  /** The engine's links for relaying to neighbours by VXLAN. */
  readonly #vxlanLinks = new Map<Peer, { link: number; address: IPv4; id: number }>();
  /** The numbers of all peers, as the tables have them. */
  #numbers: ReadonlyMap<PeerName, number> = new Map();
  #mesh: MeshRouter | undefined;
  #ids: PeerIds | undefined;
  #sweep: Timer | undefined;
  #apply: Timer | undefined;
  /** Gives up the tables that are being computed. */
  #applying: (() => void) | undefined;
  /** Something has changed since that began. */
  #outdated = false;
  #expiry: Timer | undefined;
  readonly #linger: Linger;
  readonly #warn: LimitedWarning;
  /** Why the kernel does not have the last tables. */
  #behind: string | undefined;

  constructor(
    private readonly datapath: Datapath,
    esp: Esp,
    private readonly config: NetworkConfig,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {
    const { name, host, port, mtu } = config;
    this.#linger = new Linger(datapath.table);
    this.#warn = limitedWarnings(log, () => clock.now());
    const changed = () => this.#changed();
    this.#fastdp = new FastdpOverlay(
      datapath,
      esp,
      { mtu, port: port + 1 },
      () => this.#mesh,
      clock,
      changed,
    );
    const { maps, tap, withoutFastdp } = datapath;
    const sleeve = { name, host, port, tapFd: tap.fd, macsFd: maps.macs.fd };
    const tapGone = () =>
      log.error(`link ${tap.link} was removed: sleeve loses frames until the link is restored`);
    this.#sleeve = new SleeveOverlay(sleeve, clock, log, changed, tapGone, () => this.#sleeveRestarted());
    tap.madeAnew = () => this.#sleeve.tapBack();
    datapath.troubled = () => this.#fastdp.linksChanged();
    if (withoutFastdp) log.warning(`no fast datapath: ${withoutFastdp.reason}`);
  }

  get #overlays() {
    return this.datapath.withoutFastdp === undefined ? [this.#fastdp, this.#sleeve] : [this.#sleeve];
  }

  /** Begins to follow the topology of a router. */
  start(mesh: MeshRouter): void {
    this.#mesh = mesh;
    const ids = new PeerIds(mesh.peers);
    this.#ids = ids;
    this.#sleeve.start((peer) => ids.of(peer));
    mesh.listen({
      routesChanged: () => this.#changed(),
      shortIdsChanged: () => {
        // Frames on their way may bear ids that now mean another peer; so may what was learned from them.
        guarded("overlay", () => this.datapath.renumber(mesh.ourself.shortId));
        this.datapath.forgetMacs(monotonicNow());
        this.#changed();
      },
    });
    this.#sweep = every(this.clock, MAC_SWEEP_MS, () =>
      this.datapath.forgetMacs(monotonicNow() - MAC_MAX_AGE_NS),
    );
    this.#changed();
  }

  /** Stops following the topology: the kernel goes on forwarding by what it was told last, whatever ends. */
  freeze(): void {
    this.#mesh = undefined;
    this.#sweep?.cancel();
    this.#apply?.cancel();
    this.#applying?.();
    this.#expiry?.cancel();
    this.#fastdp.freeze();
  }

  /** Ends; only the kernel's part of the fast datapath stays. */
  async stop(): Promise<void> {
    this.freeze();
    this.#fastdp.stop();
    const ended = await this.#sleeve.stop();
    this.datapath.close(ended);
  }

  features(): Record<string, string> {
    return { ...overlayFeature(this.#overlays), [ACKNOWLEDGES.feature]: ACKNOWLEDGES.value };
  }

  prepare(params: OverlayParams): OverlayConnection {
    const { withoutFastdp } = this.datapath;
    const connection = switchedConnection(params, {
      overlays: this.#overlays,
      compatible: this.#sleeve,
      missing: new Map(withoutFastdp === undefined ? [] : [[this.#fastdp.name, withoutFastdp]]),
      log: this.log,
      changed: () => this.#changed(),
    });
    const peer = params.remotePeer;
    return {
      confirm: () => {
        this.#connections.set(peer, connection);
        connection.confirm();
      },
      control: (tag, message) => connection.control(tag, message),
      attributes: () => connection.attributes(),
      vitals: () => connection.vitals(),
      slowness: () => connection.slowness(),
      stop: () => {
        connection.stop();
        if (this.#connections.get(peer) === connection) this.#connections.delete(peer);
        this.#changed();
      },
    };
  }

  /** Connections that lost sleeve end; the next ones have keys of their own. The kernel goes on by the tables it has. */
  #sleeveRestarted(): void {
    this.#vxlanLinks.clear();
    for (const connection of [...this.#connections.values()])
      if (connection.lost(this.#sleeve.name)) connection.renew("the sleeve engine was restarted");
    this.#changed();
  }

  /** How frames to a peer go; undefined where there is no way. */
  pathTo(peer: Peer): PathTo | undefined {
    const hop = this.#mesh?.routes.unicast.get(peer.name);
    const next = hop === undefined ? undefined : this.#mesh?.peers.get(hop);
    const connection = next && this.#connections.get(next);
    if (!next || !connection) return undefined;
    const { name, reason } = connection.attributes();
    const standby = (["fastdp", "sleeve"] as const).filter(
      (overlay) => next === peer && overlay !== name && connection.routeBy(overlay) !== undefined,
    );
    return {
      overlay: String(name ?? "none"),
      via: next === peer ? undefined : next,
      standby,
      reason: reason === undefined ? undefined : String(reason),
    };
  }

  /** Send a frame of ours to a neighbour by an overlay, in use or not; returns the errno of a refusal, else 0. */
  sendBy(overlay: "fastdp" | "sleeve", peer: Peer, frame: Uint8Array): number {
    if (overlay === "fastdp") return this.#fastdp.sendFrame(peer, frame);
    const route = this.#connections.get(peer)?.routeBy("sleeve");
    if (route?.kind !== "sleeve") return EHOSTUNREACH;
    this.#sleeve.sendFrame(route.link, frame);
    return 0;
  }

  /** MAC addresses and the peers they are at. */
  macs(): { mac: string; peer: Peer; seenAgoMs: number }[] {
    const now = monotonicNow();
    const peers = new Map<number, Peer>();
    for (const peer of this.#mesh?.peers.all() ?? []) {
      const id = this.#ids?.of(peer);
      if (id !== undefined) peers.set(id, peer);
    }
    return this.datapath.macs().flatMap(([mac, { peer: id, seen }]) => {
      const peer = peers.get(id);
      return peer ? [{ mac, peer, seenAgoMs: Number((now - seen) / 1_000_000n) }] : [];
    });
  }

  /** What status shows of the overlays. */
  diagnostics(): Record<string, unknown> {
    const { withoutFastdp, portName } = this.datapath;
    return {
      fastdp: withoutFastdp === undefined ? { interface: portName } : { unavailable: withoutFastdp.reason },
      sleeve: { crypto: this.#sleeve.crypto ?? "", ...this.#sleeve.counters.all() },
    };
  }

  /** What is wrong with the overlay, for status. */
  notes(): string[] {
    const behind = this.#behind === undefined ? [] : [`forwarding tables are out of date: ${this.#behind}`];
    return [...behind, ...this.#sleeve.notes()];
  }

  #changed(delayMs = APPLY_DELAY_MS): void {
    if (!this.#mesh) return;
    if (this.#applying) this.#outdated = true;
    else this.#apply ??= this.clock.after(delayMs, () => this.#applyNow());
  }

  #applyNow(): void {
    this.#apply = undefined;
    if (!this.#mesh || !this.#ids) return;
    const started = this.clock.now();
    this.#outdated = false;
    let ended = false;
    const giveUp = this.#mesh.slices.run(this.#applyTables(this.#mesh, this.#ids), (error) => {
      ended = true;
      this.#applying = undefined;
      this.#behind = error?.message;
      if (error) {
        this.#warn("tables", `forwarding tables are out of date: ${this.#behind}; retrying`);
        this.#changed(APPLY_AGAIN_MS);
      } else if (this.#outdated) {
        this.#changed(Math.max(APPLY_DELAY_MS, APPLY_PAUSE * (this.clock.now() - started)));
      }
    });
    if (!ended) this.#applying = giveUp;
  }

  /** Computes the tables of kernel and engine, peer by peer, and puts them in place at once. */
  *#applyTables(mesh: MeshRouter, ids: PeerIds): Work {
    const { routes, peers, ourself } = mesh;
    const names = new Map<number, Uint8Array>();
    const numbers = new Map<PeerName, number>();
    for (const peer of peers.all()) {
      const id = ids.of(peer);
      if (id === undefined) continue;
      names.set(id, nameToBytes(peer.name));
      numbers.set(peer.name, id);
    }
    const self = numbers.get(ourself.name);
    if (self === undefined) return;
    const unicast = new Map<number, number>();
    const broadcast = new Map<number, { from: number | undefined; to: number[] }>();
    for (const [name, id] of numbers) {
      const hop = numbers.get(routes.unicast.get(name) ?? name);
      if (hop !== undefined && routes.unicast.has(name) && id !== self) unicast.set(id, hop);
      const to = routes.broadcast(name).flatMap((next) => numbers.get(next) ?? []);
      const from = routes.broadcastFrom(name);
      broadcast.set(id, { from: from && numbers.get(from), to });
      yield;
    }
    const neighbours = this.#neighbours(numbers);
    const vxlanSources = this.#fastdp.sources();
    const { kernel, engine } = makeTables({ self, names, neighbours, vxlanSources, unicast, broadcast });
    const now = this.clock.now();
    const table = this.#linger.merge(kernel, now);
    this.#renumber(numbers, table.routes);
    this.datapath.apply(table);
    this.#sleeve.configure(engine);
    this.#expiry?.cancel();
    const { next } = this.#linger;
    this.#expiry = next === undefined ? undefined : this.clock.after(next - now, () => this.#changed());
  }

  /** A peer may get another number; what was learned of its pods stays true, as long as it is not forgotten. */
  #renumber(numbers: ReadonlyMap<PeerName, number>, routes: ReadonlyMap<number, IPv4>): void {
    const changes = new Map<number, number | undefined>();
    const known = new Map(numbers);
    for (const [name, id] of this.#numbers) {
      const now = numbers.get(name);
      if (now === undefined && routes.has(id)) known.set(name, id);
      else if (now !== id) changes.set(id, now);
    }
    if (changes.size > 0) this.datapath.renumberMacs(changes);
    this.#numbers = known;
  }

  #neighbours(numbers: ReadonlyMap<PeerName, number>): Neighbour[] {
    for (const peer of this.#vxlanLinks.keys()) {
      if (!this.#connections.has(peer)) this.#dropVxlanLink(peer);
    }
    return Array.from(this.#connections).flatMap(([peer, connection]) => {
      const id = numbers.get(peer.name);
      if (id === undefined) return [];
      const best = connection.route;
      const fastdp =
        best?.kind === "fastdp"
          ? { address: best.address, link: this.#vxlanLink(peer, id, best.address) }
          : undefined;
      const bySleeve = connection.routeBy("sleeve");
      return [{ id, fastdp, sleeve: bySleeve?.kind === "sleeve" ? bySleeve.link : undefined }];
    });
  }

  #vxlanLink(peer: Peer, id: number, address: IPv4): number {
    const known = this.#vxlanLinks.get(peer);
    if (known && known.address === address && known.id === id) return known.link;
    this.#dropVxlanLink(peer);
    const link = this.#sleeve.addLink("vxlan", id, peer.name);
    const { mtu, port } = this.config;
    this.#sleeve.setLink(link, { remote: { address, port: port + 1 }, local: 0, mtu, fragments: false });
    this.#vxlanLinks.set(peer, { link, address, id });
    this.log.debug("relaying frames from sleeve to VXLAN", { peer: `${peer}`, address: formatIPv4(address) });
    return link;
  }

  #dropVxlanLink(peer: Peer): void {
    const known = this.#vxlanLinks.get(peer);
    if (!known) return;
    this.#sleeve.removeLink(known.link);
    this.#vxlanLinks.delete(peer);
  }
}
