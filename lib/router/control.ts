// The control API of a router: what it answers, and what it does to the router's parts.
import { existsSync } from "node:fs";
import { formatCidr } from "../address/ipv4.ts";
import type { ApiClient } from "../api/client.ts";
import { CniTimes } from "../api/cnitimes.ts";
import { crashNotes, crashSummaries } from "../api/crashes.ts";
import { localClient } from "../api/listen.ts";
import { makeReport, type Report } from "../api/report.ts";
import { RequestTimes } from "../api/requesttimes.ts";
import type { ApiTarget } from "../api/target.ts";
import type { TcpServers } from "../api/tcpservers.ts";
import { systemRandom } from "../clock/random.ts";
import { findContainer } from "../container/runtime.ts";
import { requireBridge } from "../host/bridge.ts";
import { conntrackProblems } from "../host/conntrack.ts";
import type { Log } from "../log/log.ts";
import { unexpectedNotes } from "../log/unexpected.ts";
import { targetState } from "../mesh/report/targets.ts";
import type { MeshRouter } from "../mesh/router.ts";
import { Probes } from "../overlay/probe/probes.ts";
import { withoutFastdpText } from "../overlay/trouble.ts";
import { EHOSTUNREACH } from "../sys/errno.ts";
import type { Limit } from "../sys/limit.ts";
import { reasonOf } from "../sys/reason.ts";
import { VERSION } from "../version.ts";
import type { Addresses } from "./addresses.ts";
import type { RouterContext } from "./context.ts";
import type { RouterDatapath } from "./datapath.ts";
import type { RunningDns } from "./dns.ts";
import type { Exposing } from "./exposing.ts";
import { warnOfMtu } from "./hostmtu.ts";
import type { HostNetwork } from "./hostnetwork.ts";
import type { HostPortBook } from "./hostports.ts";
import { meshNotes } from "./mesh.ts";
import { mtuProblems, mtuReport } from "./mtureport.ts";
import type { NamedPeers } from "./named.ts";
import type { RouterOptions } from "./options.ts";
import { Pinger } from "./ping.ts";
import { serveAll } from "./servers.ts";
import { Silences } from "./silences.ts";
import type { Started } from "./started.ts";

/** What the control API reports on and acts on. */
export interface RouterParts {
  readonly host: HostNetwork;
  readonly datapath: RouterDatapath;
  readonly mesh: MeshRouter;
  readonly named: NamedPeers;
  readonly addresses: Addresses;
  readonly dns: RunningDns | undefined;
  readonly exposing: Exposing;
  readonly hostPorts: HostPortBook;
}

/** What is counted while the router runs. */
interface Measures {
  readonly cni: CniTimes;
  readonly requests: RequestTimes;
  readonly silences: Silences;
}

/** Serve the control API and answer other routers' questions. Resolves with a client that needs no socket. */
export async function startControl(context: RouterContext, parts: RouterParts): Promise<ApiClient> {
  const { options, services, clock, scope, log } = context;
  const { datapath, mesh, named, addresses, dns, exposing, hostPorts } = parts;
  const { ports } = datapath;
  const { allocator, attachments, declared, work } = addresses;
  const pinger = startPinger(context, mesh, datapath);
  let servers: TcpServers | undefined;
  const cniWork = warnOfMtu(ports.forgetOnDetach(work), context.warn);
  const now = () => performance.now();
  const measures = {
    cni: new CniTimes(now),
    requests: new RequestTimes(now),
    silences: new Silences(),
  };
  mesh.listen({ fellSilent: (peer) => measures.silences.count(peer) });
  const limits = () => [
    ...mesh.limits(),
    ...allocator.limits(),
    ...(dns?.limits() ?? []),
    ...datapath.overlay.limits(),
    ...pinger.limits(),
    ...attachments.limits(),
    ...work.limits(),
    ...(page?.limits() ?? []),
    ...(servers?.limits() ?? []),
  ];
  const target: ApiTarget = {
    log: log.with({ component: "api" }),
    allocator,
    allocates: options.allocates,
    defaultSubnet: options.defaultSubnet,
    report: () => report(context, parts, measures, servers, limits()),
    traffic: () => ({
      name: context.name,
      nickname: mesh.ourself.nickName,
      peers: [...mesh.maker.connections].filter(({ established }) => established).length,
      links: ports.traffic(),
    }),
    attachments: {
      note: (...noted) => attachments.note(...noted),
      forget(id, some) {
        attachments.forget(id, some);
        if (!attachments.knows(id)) declared.detached(id);
      },
      attach: (wish, signal) => declared.attach(wish, signal),
    },
    hostPorts,
    connect: (peers, replace) => named.connect(peers, replace),
    forget: (peers) => named.forget(peers),
    isRunning: (id) => isRunning(options["docker-api"], id, log),
    ask: (peer, subject, body, ms) => mesh.questions.ask(peer, subject, body, ms),
    ping: (peers, count) => pinger.ping(peers, count),
    dns,
    expose: exposing.expose,
    hide: exposing.hide,
    isReady: () => scope.state === "ready" && (services.ready?.() ?? true),
    cni: (call, caller) =>
      measures.cni.measure(call, () => services.cni(call, localClient(target, caller), cniWork, caller)),
  };
  const api = localClient(target);
  for (const [subject, answerer] of services.answerers?.(api) ?? []) mesh.questions.answer(subject, answerer);
  const page = services.page?.({
    report: target.report,
    traffic: target.traffic,
    allocator,
    store: context.store,
    places: [options["http-addr"], options["status-addr"]].flatMap((at) =>
      at?.port === undefined ? [] : [{ host: at.host, port: at.port }],
    ),
    runtimes: options["docker-api"],
    clock,
    log: target.log,
  });
  if (page) scope.use("the status page", page);
  servers = await serveAll({ ...target, routes: page?.routes ?? [], times: measures.requests }, context);
  return api;
}

function startPinger(
  { clock, scope, route, log }: RouterContext,
  mesh: MeshRouter,
  { overlay }: RouterDatapath,
): Pinger {
  const shared = { clock, random: systemRandom, mtu: () => overlay.mtu.mtu };
  const probes = new Probes({
    ...shared,
    log,
    name: mesh.ourself.name,
    bridge: () => requireBridge(route).index,
    sendBy: (by, peer, frame) => {
      const known = mesh.peers.get(peer);
      return known ? overlay.sendBy(by, known, frame) : EHOSTUNREACH;
    },
  });
  scope.use("probes", probes);
  return new Pinger({ ...shared, mesh, overlay, probes });
}

function report(
  { options, services, scope, store, files }: RouterContext,
  { host, datapath: { datapath, overlay, ports, onlyClear }, mesh, addresses, dns }: RouterParts,
  { cni, requests, silences }: Measures,
  servers: TcpServers | undefined,
  limits: readonly Limit[],
): Report {
  const { allocator, attachments, declared, work } = addresses;
  const { withoutFastdp } = datapath;
  return makeReport({
    version: VERSION,
    ready: scope.state === "ready",
    mesh,
    allocator,
    allocates: options.allocates,
    defaultSubnet: options.defaultSubnet,
    dns,
    overlay: {
      Port: datapath.portName,
      Kind: overlayKind(options, { datapath, onlyClear }),
    },
    mtu: mtuReport(overlay.mtu, mesh),
    diagnostics: () => overlay.diagnostics(),
    trustedSubnets: options["trusted-subnets"].map(formatCidr),
    macs: () => overlay.macs(),
    links: ports.states(),
    problems: [
      ...store.problems(),
      ...files.problems(),
      ...host.exposures.problems(),
      ...attachments.problems(),
      ...declared.problems(),
      ...(dns?.problems() ?? []),
      ...mtuProblems(overlay.mtu, mesh),
      ...conntrackProblems(),
    ],
    repairs: host.reconciler,
    dropped: () => ports.dropped(),
    cni: cni.report(),
    requests: requests.report(),
    silences: silences.report(),
    limits,
    crashes: crashSummaries(),
    notes: [
      ...meshNotes(options),
      ...mesh.notes(),
      ...(servers?.notes() ?? []),
      ...host.forwarding.dropping.map(
        (program) => `${program} drops forwarded packets by policy; chain WEAVE-FORWARD accepts ours`,
      ),
      ...(dns?.notes() ?? []),
      ...allocator.notes(),
      ...(withoutFastdp ? [`no fast datapath, only sleeve: ${withoutFastdpText(withoutFastdp)}`] : []),
      ...(onlyClear
        ? [`encrypted connections have no fast datapath, only sleeve: ${withoutFastdpText(onlyClear)}`]
        : []),
      ...ports.notes(),
      ...host.reconciler.notes(),
      ...(services.notes?.() ?? []),
      ...overlay.notes(),
      ...work.notes(),
      ...unexpectedNotes(),
      ...crashNotes(Date.now()),
    ],
  });
}

/** Return the overlays in use, for the status; connections between trusted subnets are not encrypted. */
function overlayKind(
  options: RouterOptions,
  { datapath, onlyClear }: Pick<RouterDatapath, "datapath" | "onlyClear">,
): string {
  const trusts = options["trusted-subnets"].length > 0;
  if (datapath.onlySleeve || (onlyClear && !trusts)) return "sleeve";
  return onlyClear ? "fast datapath between trusted subnets, else sleeve" : "fast datapath: VXLAN and eBPF";
}

/** Return how the router has started, as launch tells it. */
export function startedState(
  { options }: RouterContext,
  datapath: RouterDatapath,
  mesh: MeshRouter,
): Started {
  return {
    name: mesh.ourself.name,
    nickname: mesh.ourself.nickName,
    range: options.allocates ? formatCidr(options.range) : null,
    overlay: overlayKind(options, datapath),
    encryption: mesh.encryption !== undefined,
    targets: mesh.maker.namedTargets().map(targetState),
  };
}

/** False for a container that a runtime of this host, if there is one, does not know or says is not running. */
async function isRunning(sockets: readonly string[], id: string, log: Log): Promise<boolean> {
  const there = sockets.filter((path) => existsSync(path));
  if (there.length === 0) return true;
  try {
    const container = await findContainer(there, id);
    return container !== undefined && container.pid !== 0;
  } catch (error) {
    // A runtime that does not answer says nothing against it.
    log.warning(reasonOf(error));
    return true;
  }
}
