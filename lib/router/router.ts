// One daemon out of many rooms: host, mesh, addresses, overlay and control API, started in order and stopped in reverse.

import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { cidrContains, formatCidr, parseIPv4 } from "../address/ipv4.ts";
import type { CniCall, CniOutcome } from "../api/bodies.ts";
import type { ApiClient } from "../api/client.ts";
import { localClient } from "../api/listen.ts";
import type { PageSources, StatusPage } from "../api/page.ts";
import { releaseDirectory, stateFile } from "../api/paths.ts";
import { makeReport } from "../api/report.ts";
import type { ApiTarget } from "../api/target.ts";
import type { TcpServers } from "../api/tcpservers.ts";
import { every, systemClock, type Timer } from "../clock/clock.ts";
import { systemRandom } from "../clock/random.ts";
import { watchContainers } from "../container/events.ts";
import { askAboutGone } from "../container/gone.ts";
import { findContainer } from "../container/runtime.ts";
import { loadNacl } from "../crypto/nacl.ts";
import { requireBridge } from "../host/bridge.ts";
import type { ContainerWork } from "../host/containerwork.ts";
import { Exposure, exposedByBridge } from "../host/expose.ts";
import { removeFirewall } from "../host/firewall.ts";
import { BRIDGE, EXPOSE_ID, isContainerVeth } from "../host/names.ts";
import { overlappingRoute } from "../host/overlap.ts";
import { KeptSettings } from "../host/ports/settings.ts";
import { Reconciler } from "../host/reconcile/reconciler.ts";
import type { Keeper } from "../host/reconcile/resource.ts";
import { WorkThread } from "../host/workthread.ts";
import { Allocator } from "../ipam/allocator.ts";
import { settleReleases } from "../ipam/releases.ts";
import { allocatorStore } from "../ipam/saved.ts";
import { CHANNEL as IPAM_CHANNEL } from "../ipam/wire.ts";
import { limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { detached, unexpectedNotes } from "../log/unexpected.ts";
import type { Answerer } from "../mesh/ask.ts";
import { type Gossiper, MUTE } from "../mesh/gossip.ts";
import { ratedLog } from "../mesh/ratedlog.ts";
import { drawShortId, MeshRouter } from "../mesh/router.ts";
import { listenTcp, tcpTransport } from "../mesh/tcp.ts";
import { linkByName, linkDelete } from "../netlink/link.ts";
import { RouteMonitor } from "../netlink/monitor.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { watchXfrm } from "../netlink/xfrmwatch.ts";
import { Datapath } from "../overlay/datapath/datapath.ts";
import { Esp } from "../overlay/fastdp/esp.ts";
import { espKeepers } from "../overlay/fastdp/espstate.ts";
import { NetworkOverlay } from "../overlay/network.ts";
import { Probes } from "../overlay/probe/probes.ts";
import { Store } from "../store/store.ts";
import { EHOSTUNREACH } from "../sys/errno.ts";
import { isOwnAddress, listenReason, notOurs } from "../sys/listening.ts";
import { reasonOf } from "../sys/reason.ts";
import { forgetStart, STARTED_MS } from "../sys/runtime.ts";
import type { Scope } from "../sys/scope.ts";
import { VERSION } from "../version.ts";
import { takeUpAttachments } from "./attaching.ts";
import { startDns } from "./dns.ts";
import { Exposures } from "./exposures.ts";
import { identity } from "./identity.ts";
import { followKernel, keepHost } from "./kernelstate.ts";
import { NamedPeers } from "./named.ts";
import type { RouterOptions } from "./options.ts";
import { OptionError } from "./options.ts";
import { findName } from "./peername.ts";
import { Pinger } from "./ping.ts";
import { startPorts } from "./ports.ts";
import { attachmentsStore } from "./savedattachments.ts";
import { exposuresStore } from "./savedexposures.ts";
import { serveAll } from "./servers.ts";
import { initialTargets, noteLaunch } from "./targets.ts";
import { Underlay } from "./underlay.ts";

/** How long a link that has gone may be the beginning of a DEL. */
const LEAVING_MS = 1_000;

/** Shown where a password is given and protocol 1 is allowed all the same. */
const V1_ALLOWED =
  "--min-protocol-version 1: names of peers that speak protocol 1 can be changed on the path";

/** Interval of settling remembered releases. */
const SETTLE_MS = 5_000;

/** When a container runtime that did not answer is asked again; it stops with the addresses that are to be released. */
const ASK_AGAIN_MS = 5_000;

/** What is assumed of a container whose runtime does not answer. */
const RUNNING = { pid: 1 };

/** What the daemon does for others beside being a router; wired in by cmd/. */
export interface RouterServices {
  cni(
    call: CniCall,
    api: ApiClient,
    work: ContainerWork,
    caller: AbortSignal,
  ): Promise<CniOutcome | undefined>;
  /** The cluster says who the peers are: what was kept of them does not count. */
  readonly peersAreTold?: boolean;
  /** Whether all is done that makes this host one of the network, where more belongs to that than being a router. */
  ready?(): boolean;
  /** Answer other routers' questions, by subject: read-only, small, within seconds. */
  answerers?(api: ApiClient): ReadonlyMap<string, Answerer>;
  /** What the status has to say of them. */
  notes?(): string[];
  /** The status page. */
  page?(sources: PageSources): StatusPage;
  /** Kernel state that they want kept. */
  keepers?(nf: NetlinkSocket): Keeper[];
}

/**
 * Start a router in a scope, with whose end it ends; the kernel's part stays as it is, and containers go on talking.
 * Rejects with one clear error; the scope then takes everything back. Resolves with the control API, without a socket.
 */
export async function startRouter(
  options: RouterOptions,
  services: RouterServices,
  log: Log,
  scope: Scope,
): Promise<ApiClient> {
  const { port, mtu } = options;
  const route = new NetlinkSocket(NETLINK_ROUTE);
  scope.defer("the netlink socket", () => route.close());
  const filter = new NetlinkSocket(NETLINK_NETFILTER);
  scope.defer("the netfilter socket", () => filter.close());
  const store = Store.open(stateFile());
  scope.defer("the state file", () => store.close());

  checkHost(options.host);
  checkOverlap(route, options, log);
  const damaged = (what: string) => log.error(what);
  const kept = identity(store, damaged);
  const name = findName(options.name, kept.name, route);
  const existed = linkByName(route, BRIDGE) !== undefined;
  if (!existed) scope.deferUnlessStarted("the bridge", () => linkDelete(route, BRIDGE));
  const monitor = new RouteMonitor((error) => log.error(`rtnetlink monitor: ${error.message}`));
  scope.defer("the rtnetlink monitor", () => monitor.stop());
  const reconciler = new Reconciler(systemClock, log.with({ component: "host" }));
  scope.defer("the reconciler", () => reconciler.stop());
  const stopFollowing = followKernel(monitor, reconciler, { route, filter, port }, log);
  scope.defer("kernel notifications", stopFollowing);
  if (!existed) scope.deferUnlessStarted("the packet filter", () => removeFirewall(filter));
  const exposure = new Exposure(route, reconciler);
  const exposures = new Exposures({
    store: exposuresStore(store, damaged),
    kernel: exposure,
    range: options.range,
    clock: systemClock,
    log: log.with({ component: "host" }),
  });
  const controlPort = options["http-addr"]?.port;
  const settings = { route, filter, address: name, mtu, port, controlPort };
  const forwarding = keepHost(
    reconciler,
    exposure,
    settings,
    () => exposures.start(exposedByBridge(route)),
    log.with({ component: "host" }),
  );
  for (const each of services.keepers?.(filter) ?? []) reconciler.keepTrying(each);

  const encryption = options.password
    ? { password: new TextEncoder().encode(options.password), nacl: await scope.wait(loadNacl()) }
    : undefined;
  log.info(
    encryption
      ? "communication between peers via untrusted networks is encrypted"
      : "communication between peers is not encrypted",
  );
  if (encryption && options["min-protocol-version"] === 1) log.warning(V1_ALLOWED);
  // The one of the last time, if there was one: frames bear it, and others forward by it.
  const shortId = kept.shortId.get() ?? drawShortId(systemRandom);
  const keepShortId = () => {
    try {
      kept.shortId.set(mesh.ourself.shortId);
    } catch (error) {
      log.error(reasonOf(error));
    }
  };
  const datapath = new Datapath(route, { name, port, mtu, self: shortId, fastdp: options.fastdp }, (keeper) =>
    reconciler.keep(keeper),
  );
  scope.deferUnlessStarted("the overlay's links", () => datapath.remove());
  const portSettings = new KeptSettings(store, damaged);
  const ports = startPorts(
    route,
    filter,
    datapath,
    shortId,
    options["anti-spoof"],
    portSettings,
    reconciler,
    log.with({ component: "ports" }),
  );
  scope.defer("container ports", () => ports.stop());
  const { withoutFastdp } = datapath;
  const esp = new Esp(systemRandom, port + 1);
  scope.defer("ESP", () => esp.close());
  if (encryption && esp.unavailable === undefined) {
    for (const each of espKeepers(esp)) reconciler.keep(each);
    const watch = watchXfrm(
      () => esp.kernel.port,
      () => reconciler.urgent("xfrm"),
      (error) => log.error(`XFRM monitor: ${error.message}`),
    );
    scope.defer("the XFRM monitor", () => watch.stop());
  }
  const overlay = new NetworkOverlay(
    datapath,
    esp,
    { name, host: options.host, port, mtu },
    systemClock,
    ratedLog(log.with({ component: "overlay" }), systemClock),
  );
  scope.defer("the overlay", () => overlay.stop());
  const mesh = new MeshRouter(
    {
      name,
      nickName: options.nickname ?? hostname(),
      port,
      encryption,
      trusts: (ip) => options["trusted-subnets"].some((subnet) => trusted(subnet, ip)),
      connectionLimit: options["conn-limit"],
      discovery: options.discovery,
      minVersion: options["min-protocol-version"],
      shortId,
    },
    {
      clock: systemClock,
      random: systemRandom,
      transport: tcpTransport(options.host),
      overlay,
      log: log.with({ component: "mesh" }),
    },
  );
  scope.defer("the mesh", () => mesh.stop());
  log.info("starting the router", { peer: `${mesh.ourself}` });

  overlay.start(mesh);
  // Before the mesh stops: the kernel is to go on by the last topology.
  scope.defer("forwarding tables", () => overlay.freeze());
  // Before its links go.
  scope.defer("repairs", () => reconciler.stop());
  keepShortId();
  mesh.listen({
    shortIdsChanged: () => {
      keepShortId();
      ports.renumber(mesh.ourself.shortId);
    },
  });

  const targets = initialTargets(options, kept, services.peersAreTold ?? false);
  const named = new NamedPeers(targets.peers, {
    maker: mesh.maker,
    ourself: mesh.ourself,
    clock: systemClock,
    log: log.with({ component: "mesh" }),
    kept: kept.targets,
    isReachable: (peer) => mesh.peers.get(peer) !== undefined,
    hasSpoken: (peer) => allocator.sharing.spoken.has(peer),
  });
  scope.defer("named peers", () => named.stop());
  const init = options["ipalloc-init"];
  const count = init.kind === "consensus" ? init.count : undefined;
  const work = new WorkThread();
  const allocator = new Allocator(
    {
      ourName: name,
      ourUid: mesh.ourself.uid,
      ourNickName: mesh.ourself.nickName,
      universe: options.range,
      seed: init.kind === "seed" ? init.peers : [],
      observer: init.kind === "observer",
      quorum: () => Math.floor((count ?? named.count) / 2) + 1,
      unheard: () => (count === undefined ? named.unheard() : []),
      isKnownPeer: (peer) => mesh.peers.get(peer) !== undefined,
      nameIsTaken: () => mesh.collisions.nameIsTaken,
      isAmbiguous: (peer) => mesh.collisions.isAmbiguous(peer),
      reachablePeers: () => mesh.reachablePeers(),
    },
    {
      clock: systemClock,
      random: systemRandom,
      log: log.with({ component: "ipam" }),
      store: allocatorStore(store),
      attached: () => work.attached(),
      released: (id) => unname(id),
      divisionChanged: () => mesh.refusals.lift(),
      gone: (ids) => askRuntime(ids),
      ...(options["masq-local"] ? {} : { owns: (ranges) => exposure.keepSourcesTo(ranges) }),
    },
  );
  const askRuntime = (ids: ReadonlySet<string>) => {
    const destroyed = (id: string) => allocator.releaser.destroyed(id);
    askAboutGone(options["docker-api"], ids, { destroyed, unname }).catch((error) => {
      warn("runtime", `cannot ask which containers have ended: ${reasonOf(error)}; trying again`);
      systemClock.after(ASK_AGAIN_MS, () => askRuntime(allocator.releaser.departing()));
    });
  };
  const attachments = takeUpAttachments({
    store: attachmentsStore(store, damaged),
    clock: systemClock,
    log: log.with({ component: "containers" }),
    sockets: options["docker-api"],
    allocator,
    work,
    nameserver: () => dns?.nameserver,
  });
  scope.defer("attachments", () => attachments.stop());
  const unname = (id: string) => {
    attachments.died(id);
    try {
      dns?.nameserver.delete({ containerId: id });
    } catch (error) {
      log.error(reasonOf(error));
    }
  };
  scope.defer("address allocation", () => allocator.stop());
  mesh.listen({ peerGone: (peer) => allocator.sharing.peerGone(peer) });
  if (options.allocates) mesh.guard(allocator.sharing);
  const sighting = await scope.wait(work.attached());
  // A router that allocates nothing passes on what others say of addresses.
  const channel = (gossiper: Gossiper) => (options.allocates ? mesh.channel(IPAM_CHANNEL, gossiper) : MUTE);
  allocator.start(channel, sighting);
  ports.follow({ addresses: allocator.releaser, work });
  const dns = options.dns ? await scope.wait(startDns(options, mesh, store, route, monitor, log)) : undefined;
  scope.defer("DNS", () => dns?.stop());
  const warn = limitedWarnings(log, systemClock.now);
  const settle = () =>
    settleReleases(
      releaseDirectory(),
      (id, attachment) => {
        log.info("releasing the addresses of a container that was removed while weave did not answer", {
          container: id,
        });
        detached(`releasing the addresses of ${id}`, allocator.delete(id, { attachment }));
      },
      (text) => warn("release notes", text),
    );
  settle();
  // A stopped or overloaded router gets them later.
  const settling = every(systemClock, SETTLE_MS, settle);
  scope.defer("remembered releases", () => settling.cancel());
  scope.defer("exposures", () => exposures.stop());
  const exposedChanged = () => dns?.bridgeHas(exposure.addresses);
  await exposures.claim((cidr) => allocator.claim(EXPOSE_ID, cidr), exposedChanged);
  await exposedChanged();

  const listener = await listenTcp(
    options.host ?? "0.0.0.0",
    port,
    (stream) => mesh.accept(stream),
    (text) => warn("accept", text),
  ).catch((error) => {
    const at = { protocol: "tcp", hostname: options.host ?? "", port, option: "--port" } as const;
    throw new Error(`cannot listen for peers on ${at.hostname}:${port}: ${listenReason(error, at)}`);
  });
  scope.defer("the mesh's port", () => listener.close());
  mesh.start();
  const underlay = new Underlay(route, mesh, systemClock, log);
  scope.defer("watching the underlay", () => underlay.stop());

  let ready = false;
  let servers: TcpServers | undefined;
  const probes = new Probes({
    clock: systemClock,
    random: systemRandom,
    log,
    name: mesh.ourself.name,
    mtu,
    bridge: () => requireBridge(route).index,
    sendBy: (by, peer, frame) => {
      const known = mesh.peers.get(peer);
      return known ? overlay.sendBy(by, known, frame) : EHOSTUNREACH;
    },
  });
  scope.defer("probes", () => probes.stop());
  const pinger = new Pinger({ mesh, overlay, probes, clock: systemClock, random: systemRandom, mtu });
  const target: ApiTarget = {
    log: log.with({ component: "api" }),
    allocator,
    allocates: options.allocates,
    defaultSubnet: options.defaultSubnet,
    report: () =>
      makeReport({
        version: VERSION,
        ready,
        mesh,
        allocator,
        allocates: options.allocates,
        defaultSubnet: options.defaultSubnet,
        dns,
        interfaceName: `${datapath.portName} (${withoutFastdp ? "sleeve" : "fast datapath: VXLAN and eBPF"})`,
        diagnostics: overlay.diagnostics(),
        trustedSubnets: options["trusted-subnets"].map(formatCidr),
        macs: overlay.macs(),
        links: ports.states(),
        problems: [...exposures.problems(), ...attachments.problems()],
        repairs: reconciler,
        notes: [
          ...(encryption && options["min-protocol-version"] === 1 ? [V1_ALLOWED] : []),
          ...mesh.notes(),
          ...(servers?.notes() ?? []),
          ...forwarding.dropping.map(
            (program) => `${program} drops forwarded packets by policy; chain WEAVE-FORWARD accepts ours`,
          ),
          ...(dns?.notes() ?? []),
          ...store.notes(),
          ...allocator.releaser.notes(),
          ...(withoutFastdp ? [`no fast datapath, only sleeve: ${withoutFastdp.reason}`] : []),
          ...ports.notes(),
          ...reconciler.notes(),
          ...(services.notes?.() ?? []),
          ...overlay.notes(),
          ...work.notes(),
          ...unexpectedNotes(),
        ],
      }),
    traffic: () => ({
      name,
      nickname: mesh.ourself.nickName,
      peers: [...mesh.maker.connections].filter(({ established }) => established).length,
      links: ports.traffic(),
    }),
    attachments,
    connect: (peers, replace) => named.connect(peers, replace),
    forget: (peers) => named.forget(peers),
    async isRunning(id) {
      const sockets = options["docker-api"].filter((path) => existsSync(path));
      if (sockets.length === 0) return true;
      const container = await findContainer(sockets, id).catch((error) => {
        log.warning(reasonOf(error));
        return RUNNING;
      });
      return container !== undefined && container.pid !== 0;
    },
    ask: (peer, subject, body, ms) => mesh.questions.ask(peer, subject, body, ms),
    ping: (peers, count) => pinger.ping(peers, count),
    dns,
    async expose(cidr, masquerade) {
      exposures.expose(cidr, masquerade);
      await exposedChanged();
    },
    async hide(cidr) {
      const hidden = exposures.hide(cidr);
      await exposedChanged();
      return hidden;
    },
    isReady: () => ready && (services.ready?.() ?? true),
    cni: (call, caller) => services.cni(call, localClient(target, caller), ports.letGo(work), caller),
  };
  for (const [subject, answerer] of services.answerers?.(localClient(target)) ?? [])
    mesh.questions.answer(subject, answerer);
  const { report, traffic } = target;
  const shown = { report, traffic, allocator, store, runtimes: options["docker-api"], clock: systemClock };
  const page = services.page?.({ ...shown, log: target.log });
  scope.defer("the status page", () => page?.stop());
  servers = await serveAll({ ...target, routes: page?.routes ?? [] }, options);
  scope.defer("the control API", () => servers?.stop());
  // A container that ends takes its link along, and a DEL gives the addresses back right after the link is gone.
  let leaving: Timer | undefined;
  scope.defer("container removal", () => leaving?.cancel());
  const containersLeft = () => {
    leaving ??= systemClock.after(LEAVING_MS, () => {
      leaving = undefined;
      detached("noticing containers that have gone", allocator.releaser.noticeGone());
    });
  };
  monitor.add({
    changed(event) {
      ports.changed(event);
      if (event.link?.removed && isContainerVeth(event.link.name)) containersLeft();
    },
    lost: containersLeft,
  });
  const containers = watchContainers(
    options["docker-api"],
    {
      connected() {
        askRuntime(allocator.releaser.departing());
        attachments.look();
      },
      started(id) {
        allocator.releaser.started(id);
        ports.ended(id, false);
        attachments.started(id);
      },
      died(id) {
        ports.ended(id, true);
        allocator.releaser.died(id);
        unname(id);
      },
      destroyed(id) {
        attachments.destroyed(id);
        allocator.releaser.destroyed(id);
      },
    },
    log.with({ component: "containers" }),
  );
  scope.defer("container events", () => containers.stop());

  if (targets.remembered && targets.peers.length > 0)
    log.info("connecting to the peers of the last run", { peers: targets.peers });
  noteLaunch(kept, options.peers, log);
  // A host boots before its nameservers: what does not resolve yet is no reason to fail.
  const connecting = named.start().then((errors) => {
    for (const error of errors) log.warning(`${error}; trying again`);
  });
  detached("connecting to peers", connecting);
  ready = true;
  log.info("weave is ready");
  const settled = systemClock.after(STARTED_MS, forgetStart);
  scope.defer("memory release", () => settled.cancel());
  return localClient(target);
}

function trusted(subnet: Parameters<typeof cidrContains>[0], ip: string): boolean {
  try {
    return cidrContains(subnet, parseIPv4(ip));
  } catch {
    return false;
  }
}

/** Throws OptionError for a --host that nothing here can listen on. */
function checkHost(host: string | undefined): void {
  if (host === undefined || isOwnAddress(host)) return;
  throw new OptionError(`--host ${host}: ${notOurs("--host")}`);
}

function checkOverlap(route: NetlinkSocket, options: RouterOptions, log: Log): void {
  if (!options.allocates) return;
  const range = formatCidr(options.range);
  const overlap = overlappingRoute(route, options.range);
  if (!overlap) return;
  if (options["ipalloc-range"] === undefined) {
    throw new OptionError(
      `Default --ipalloc-range ${range} overlaps with existing route ${overlap} on host. ` +
        "You must pick another range and set it on all hosts.",
    );
  }
  log.warning(
    `--ipalloc-range ${range} overlaps with the route ${overlap} of this host; ` +
      "choose another range, the same on all hosts, unless this is deliberate",
  );
}
