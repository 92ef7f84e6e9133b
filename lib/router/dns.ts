// weaveDNS in a router: names of containers, shared over the mesh, and the server that answers this host's containers.
import { type Cidr, formatIPv4 } from "../address/ipv4.ts";
import type { Clock, Timer } from "../clock/clock.ts";
import { Forwarder } from "../dns/forwarder.ts";
import { Nameserver } from "../dns/nameserver.ts";
import type { DnsSources } from "../dns/report.ts";
import { ResolvConf } from "../dns/resolvconf.ts";
import { namesStore } from "../dns/saved.ts";
import { DnsServer } from "../dns/server.ts";
import type { LocalAddresses } from "../dns/udp.ts";
import { CHANNEL } from "../dns/wire.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import type { MeshRouter } from "../mesh/router.ts";
import { addressList } from "../netlink/address.ts";
import { linkByName } from "../netlink/link.ts";
import type { RouteMonitor } from "../netlink/monitor.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import type { Limit } from "../sys/limit.ts";
import { reasonOf } from "../sys/reason.ts";
import { type ProblemReport, problemOf } from "../sys/trouble.ts";
import type { RouterContext } from "./context.ts";
import type { HostNetwork } from "./hostnetwork.ts";

const PORT = 53;
const ANY = "0.0.0.0";
/** An address that we cannot listen on (somebody else does, say) is tried again after this. */
const LISTEN_AGAIN_MS = 5_000;

export interface RunningDns extends DnsSources {
  /** Answers on the bridge's addresses and those of Docker's bridge, unless told where to. */
  bridgeHas(addresses: readonly Cidr[]): Promise<void>;
  /** Lines for the status. */
  notes(): string[];
  /** Addresses at which containers ask, and get no answer. */
  problems(): ProblemReport[];
  limits(): Limit[];
}

/** Share names over the mesh. Undefined without DNS. */
export function startNames(
  { options, clock, scope, store, log, damaged }: RouterContext,
  mesh: MeshRouter,
): Nameserver | undefined {
  if (!options.dns) return undefined;
  const nameserver = new Nameserver(
    {
      ourName: mesh.ourself.name,
      domain: options["dns-domain"],
      isKnownPeer: (peer) => mesh.peers.get(peer) !== undefined,
    },
    { clock, log: log.with({ component: "dns" }), store: namesStore(store, damaged) },
  );
  scope.use("names", nameserver);
  mesh.listen({ peersGone: (peers) => nameserver.peersGone(peers) });
  nameserver.start((gossiper) => mesh.channel(CHANNEL, gossiper));
  return nameserver;
}

/** Answer queries; rejects if --dns-listen-address is in use. */
export async function startDns(
  context: RouterContext,
  { monitor }: HostNetwork,
  nameserver: Nameserver,
): Promise<RunningDns> {
  const { options, clock, scope, route } = context;
  const log = context.log.with({ component: "dns" });
  const fixed = options["dns-listen-address"];
  const resolvConf = new ResolvConf(options["resolv-conf"], (text) => log.warning(text));
  const local = localAddresses(route, monitor);
  const isOurs = (address: string) =>
    server.addresses.some((own) => own === `${address}:${PORT}`) ||
    (server.addresses.includes(`${ANY}:${PORT}`) && local.list().includes(address));
  // Whoever asks us must not be asked by us.
  const upstream = () => resolvConf.servers.filter((address) => !isOurs(address));
  const warn = limitedWarnings(log, () => clock.now());
  const forwarder = new Forwarder(upstream, options["dns-fallback-timeout"], PORT, (text) =>
    warn(text, text),
  );
  const config = { domain: options["dns-domain"], ttl: options["dns-ttl"] };
  const server = scope.use("DNS", new DnsServer(config, { names: nameserver, forwarder, local, log }));
  if (fixed) await scope.wait(server.listen(`${fixed.host}:${fixed.port}`));
  const bridge = scope.use("DNS on the bridge", new BridgeListeners(server, clock, log));
  let exposed: readonly Cidr[] = [];
  // Containers of Docker know its bridge before they are attached.
  const wanted = () =>
    [...addressesOf(route, options["docker-bridge"]), ...exposed].map(
      ({ address }) => `${formatIPv4(address)}:${PORT}`,
    );
  const settle = async () => {
    if (!fixed) await bridge.listenOn(wanted());
  };
  const changed = () => detached("DNS addresses", settle());
  const following = monitor.add({
    changed: ({ kind }) => (kind === "addresses" ? changed() : undefined),
    lost: changed,
  });
  scope.defer("DNS addresses", () => following.close());

  return {
    nameserver,
    server,
    upstream,
    limits: () => [...nameserver.limits(), ...server.limits()],
    problems: () => bridge.problems(),
    notes: () => [...nameserver.notes(), ...forwarder.notes()],
    address: () => (fixed ? server.addresses : wanted()).find((each) => server.addresses.includes(each)),
    async bridgeHas(addresses) {
      exposed = addresses;
      await settle();
    },
  };
}

/** The addresses of a link; none where there is no such link. */
function addressesOf(route: NetlinkSocket, name: string): readonly Cidr[] {
  const link = name === "" ? undefined : linkByName(route, name);
  return link ? addressList(route, link.index).map(({ cidr }) => cidr) : [];
}

function localAddresses(route: NetlinkSocket, monitor: RouteMonitor): LocalAddresses {
  return {
    list: () => [...new Set(addressList(route).map(({ cidr }) => formatIPv4(cidr.address)))],
    watch: (changed) =>
      monitor.add({
        changed({ kind }) {
          if (kind === "addresses") changed();
        },
        lost: changed,
      }),
  };
}

/** Keeps a server listening on what it was last told, one change at a time. */
class BridgeListeners {
  #wanted: readonly string[] = [];
  #settled: Promise<void> = Promise.resolve();
  #again: Timer | undefined;
  #stopped = false;
  /** Why it does not listen on an address. */
  #failures: readonly string[] = [];
  readonly #warn: LimitedWarning;

  constructor(
    private readonly server: DnsServer,
    private readonly clock: Clock,
    log: Log,
  ) {
    this.#warn = limitedWarnings(log, () => clock.now());
  }

  /** Listens on these addresses and no others, those that are taken as soon as they are free. */
  listenOn(wanted: readonly string[]): Promise<void> {
    if (JSON.stringify(wanted) === JSON.stringify(this.#wanted)) return this.#settled;
    this.#wanted = wanted;
    this.#settled = this.#settled.then(() => this.#settle());
    return this.#settled;
  }

  problems(): ProblemReport[] {
    return this.#failures.map((why) => problemOf("dns", why, "it is tried again every 5 s"));
  }

  stop(): void {
    this.#stopped = true;
    this.#again?.cancel();
  }

  async #settle(): Promise<void> {
    this.#again?.cancel();
    if (this.#stopped) return;
    const { server } = this;
    for (const address of server.addresses) if (!this.#wanted.includes(address)) server.unlisten(address);
    const failures: string[] = [];
    for (const address of this.#wanted) {
      await server.listen(address).catch((error) => {
        failures.push(reasonOf(error));
        this.#warn(address, reasonOf(error));
      });
    }
    this.#failures = failures;
    if (failures.length > 0) {
      this.#again = this.clock.after(LISTEN_AGAIN_MS, () => {
        this.#settled = this.#settled.then(() => this.#settle());
      });
    }
  }
}
