// The overlay of one router: fast datapath and sleeve behind a switch for each connection, and forwarding tables in step
// with the topology and with the overlays that work.
import { type Clock, every, type Timer } from "../clock/clock.ts";
import type { Log } from "../log/log.ts";
import { guarded } from "../log/unexpected.ts";
import { MTU_CHANNEL } from "../mesh/features.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Overlay, OverlayConnection, OverlayParams } from "../mesh/overlay.ts";
import type { Peer } from "../mesh/peer.ts";
import type { MeshRouter } from "../mesh/router.ts";
import { monotonicNow } from "../sys/clocks.ts";
import { EHOSTUNREACH } from "../sys/errno.ts";
import type { Limit } from "../sys/limit.ts";
import type { Datapath } from "./datapath/datapath.ts";
import { LEAST_MTU } from "./encapsulation.ts";
import type { Esp } from "./fastdp/esp.ts";
import { FastdpOverlay } from "./fastdp/overlay.ts";
import { ACKNOWLEDGES, MAX_MTU, TESTS_PATHS } from "./fastdp/protocol.ts";
import type { FlowCache } from "./flowcache/flowcache.ts";
import { NetworkMtu, type NetworkMtuParams } from "./networkmtu/networkmtu.ts";
import { PeerIds } from "./peerid.ts";
import { fastdpPort } from "./ports.ts";
import { RelayLinks } from "./relaylinks.ts";
import { SleeveOverlay } from "./sleeve/overlay.ts";
import { makeEngineThread } from "./sleeve/thread.ts";
import { overlayFeature, type SwitchedConnection, switchedConnection } from "./switch.ts";
import type { Neighbour } from "./tables.ts";
import { TableUpdates } from "./tableupdates.ts";
import { withoutFastdpText } from "./trouble.ts";

/** Age at which a MAC address is forgotten, as in the original. */
const MAC_MAX_AGE_NS = 10n * 60n * 1_000_000_000n;
const MAC_SWEEP_MS = 60_000;

export interface NetworkConfig {
  readonly name: PeerName;
  /** Address to listen on; undefined for all. */
  readonly host: string | undefined;
  /** Port of the mesh. */
  readonly port: number;
  readonly mtu: HostMtu;
  readonly flowCache?: FlowCache | undefined;
  /** Sleeve can seal by AEGIS-256. */
  readonly aegis?: boolean;
}

/** The MTU of the network on this host. */
export interface HostMtu extends Pick<NetworkMtuParams, "fixed" | "agreed" | "accept"> {
  /** Apply the MTU of the network. */
  changed(mtu: number): void;
}

/** The way of frames to a peer. */
export interface PathTo {
  /** Overlay of the first hop: "fastdp" or "sleeve". */
  readonly overlay: string;
  /** The next hop; undefined where that is the peer itself. */
  readonly via: Peer | undefined;
  /** Overlays ready to take over; for neighbours only. */
  readonly standby: readonly ("fastdp" | "sleeve")[];
  /** Why a better overlay is not in use. */
  readonly reason: string | undefined;
  /** False from a change of the topology until the forwarding tables have it. */
  readonly inForce: boolean;
}

export class NetworkOverlay implements Overlay {
  readonly #fastdp: FastdpOverlay;
  readonly #sleeve: SleeveOverlay;
  readonly #connections = new Map<Peer, SwitchedConnection>();
  readonly #relayLinks: RelayLinks;
  readonly #tables: TableUpdates;
  /** The MTU of the network, and what sets it. */
  readonly mtu: NetworkMtu;
  #mesh: MeshRouter | undefined;
  #ids: PeerIds | undefined;
  #sweep: Timer | undefined;
  readonly #flowCache: FlowCache | undefined;

  constructor(
    private readonly datapath: Datapath,
    esp: Esp,
    private readonly config: NetworkConfig,
    private readonly clock: Clock,
    private readonly log: Log,
    makeEngine = makeEngineThread,
  ) {
    const { name, host, port, flowCache, aegis } = config;
    this.#flowCache = flowCache;
    const fastdpConfig = {
      mtu: () => this.mtu.mtu,
      measures: config.mtu.fixed === undefined,
      port: fastdpPort(port),
      flowCache: flowCache !== undefined,
    };
    const changed = () => this.#changed();
    const { fixed, agreed } = config.mtu;
    this.mtu = new NetworkMtu({
      fixed,
      agreed,
      accept: (bytes) => config.mtu.accept(bytes),
      clock,
      self: name,
      peers: () => this.#mesh?.reachablePeers() ?? [],
      takesPart: (peer) => this.#mesh?.connections.get(peer)?.announces(MTU_CHANNEL),
      changed: (bytes) => this.#mtuChanged(bytes),
    });
    this.#fastdp = new FastdpOverlay(
      datapath,
      esp,
      fastdpConfig,
      () => this.#mesh,
      clock,
      changed,
      () => this.#measured(),
    );
    const { maps, tap, withoutFastdp } = datapath;
    const sleeve = { name, host, port, tapFd: tap.fd, macsFd: maps.macs.fd, aegis };
    const tapRemoved = () =>
      log.error(`link ${tap.link} was removed: sleeve loses frames until the link is restored`);
    const restarted = () => this.#sleeveRestarted();
    this.#sleeve = new SleeveOverlay(sleeve, clock, log, changed, tapRemoved, restarted, makeEngine);
    this.#relayLinks = new RelayLinks(this.#sleeve, fastdpConfig, log);
    this.#tables = new TableUpdates({
      clock,
      log,
      datapath,
      neighbours: (numbers) => this.#neighbours(numbers),
      vxlanSources: () => this.#fastdp.sources(),
      configure: (tables) => this.#sleeve.configure(tables),
    });
    tap.recreated = () => this.#sleeve.tapRestored();
    datapath.onTrouble = () => this.#fastdp.linksChanged();
    if (withoutFastdp) {
      const level = withoutFastdp.cause === "switched off" ? "info" : "warning";
      log[level](`no fast datapath: ${withoutFastdpText(withoutFastdp)}`);
    } else if (datapath.onlySleeve) log.warning(`no fast datapath: ${datapath.fastdpTrouble}`);
  }

  get #overlays() {
    return this.datapath.withoutFastdp === undefined ? [this.#fastdp, this.#sleeve] : [this.#sleeve];
  }

  /** Follow the topology of a router. */
  start(mesh: MeshRouter): void {
    this.#mesh = mesh;
    const ids = new PeerIds(mesh.peers);
    this.#ids = ids;
    this.#sleeve.start((peer) => ids.of(peer));
    mesh.listen({
      routesChanged: () => {
        this.#tables.schedule();
        this.mtu.evaluate();
      },
      shortIdsChanged: () => {
        // Frames in flight, and what was learned from them, may have ids that now mean another peer.
        guarded("overlay", () => this.datapath.renumber(mesh.ourself.shortId));
        guarded("overlay", () => this.#flowCache?.renumber(mesh.ourself.shortId));
        this.datapath.forgetMacs(monotonicNow());
        this.#tables.schedule();
      },
    });
    this.#sweep = every(this.clock, MAC_SWEEP_MS, () =>
      this.datapath.forgetMacs(monotonicNow() - MAC_MAX_AGE_NS),
    );
    this.#tables.start(mesh, ids);
    this.mtu.start(mesh.channel(MTU_CHANNEL, this.mtu));
  }

  /** Stop following the topology: the kernel goes on forwarding by its last table. */
  freeze(): void {
    this.#mesh = undefined;
    this.#sweep?.cancel();
    this.#tables.stop();
    this.mtu.stop();
    this.#fastdp.freeze();
  }

  /** Stop all but the kernel's part of the fast datapath. */
  async stop(): Promise<void> {
    this.freeze();
    this.#fastdp.stop();
    const ended = await this.#sleeve.stop();
    this.datapath.close(ended);
  }

  features(): Record<string, string> {
    return {
      ...overlayFeature(this.#overlays),
      ...this.#sleeve.features(),
      [ACKNOWLEDGES.feature]: ACKNOWLEDGES.value,
      [TESTS_PATHS.feature]: TESTS_PATHS.value,
    };
  }

  prepare(params: OverlayParams): OverlayConnection {
    const { withoutFastdp } = this.datapath;
    const peer = params.remotePeer;
    return switchedConnection(params, {
      overlays: this.#overlays,
      compatible: this.#sleeve,
      missing: new Map(withoutFastdp === undefined ? [] : [[this.#fastdp.name, withoutFastdp]]),
      log: this.log,
      clock: this.clock,
      confirmed: (connection) => this.#connections.set(peer, connection),
      changed: () => this.#changed(),
      stopped: (connection) => {
        if (this.#connections.get(peer) === connection) this.#connections.delete(peer);
        this.#changed();
      },
    });
  }

  /** An overlay, its route, or what its path carries has changed. */
  #changed(): void {
    this.#flowCache?.tableChanged();
    this.#tables.schedule();
    this.#measured();
  }

  /** Tell the network what our paths carry. */
  #measured(): void {
    let least: { mtu: number; by: PeerName } | undefined;
    for (const [peer, { pathMtu = 0 }] of this.#connections) {
      const mtu = Math.min(MAX_MTU, pathMtu);
      if (mtu >= LEAST_MTU && mtu < (least?.mtu ?? Number.POSITIVE_INFINITY)) least = { mtu, by: peer.name };
    }
    this.mtu.measured(least);
  }

  #mtuChanged(mtu: number): void {
    this.log.info(`the MTU of the network is ${mtu}`);
    this.config.mtu.changed(mtu);
    this.#flowCache?.tableChanged();
    this.#relayLinks.mtuChanged();
    this.#fastdp.mtuChanged();
  }

  /** Renew connections that lost sleeve, as nonces must not be used twice. The kernel forwards by its tables meanwhile. */
  #sleeveRestarted(): void {
    this.#relayLinks.forget();
    for (const connection of [...this.#connections.values()])
      if (connection.lost(this.#sleeve.name)) connection.renew("the sleeve engine was restarted");
    this.#tables.schedule();
  }

  /** Return the way of frames to a peer; undefined where there is none. */
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
      inForce: this.#tables.forwardTo(peer.name),
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

  /** Return MAC addresses and the peers they are at. */
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

  /** Return what status shows of the overlays. */
  diagnostics(): Record<string, unknown> {
    const { withoutFastdp, portName } = this.datapath;
    return {
      fastdp:
        withoutFastdp === undefined
          ? { interface: portName, ...(this.#flowCache && { flowCache: this.#flowCache.report() }) }
          : { unavailable: withoutFastdpText(withoutFastdp) },
      sleeve: this.#sleeve.diagnostics(),
    };
  }

  /** What peers and containers can make grow here, and how far. */
  limits(): Limit[] {
    return [...this.#sleeve.limits(), ...this.mtu.limits()];
  }

  /** Return what is wrong with the overlay, for status. */
  notes(): string[] {
    const behind =
      this.#tables.behind === undefined ? [] : [`forwarding tables are out of date: ${this.#tables.behind}`];
    return [...behind, ...this.#sleeve.notes()];
  }

  #neighbours(numbers: ReadonlyMap<PeerName, number>): Neighbour[] {
    this.#relayLinks.retain(this.#connections);
    return Array.from(this.#connections).flatMap(([peer, connection]) => {
      const id = numbers.get(peer.name);
      if (id === undefined) return [];
      const best = connection.route;
      const fastdp =
        best?.kind === "fastdp"
          ? { address: best.address, link: this.#relayLinks.to(peer, id, best.address) }
          : undefined;
      const bySleeve = connection.routeBy("sleeve");
      return [{ id, fastdp, sleeve: bySleeve?.kind === "sleeve" ? bySleeve.link : undefined }];
    });
  }
}
