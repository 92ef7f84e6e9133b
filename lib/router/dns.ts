// weaveDNS in a router: the nameserver on the mesh, and the server that answers this host's containers.
import { networkInterfaces } from "node:os";
import { type Cidr, formatIPv4 } from "../address/ipv4.ts";
import type { DnsSources } from "../api/report.ts";
import { systemClock } from "../clock/clock.ts";
import { Forwarder } from "../dns/forwarder.ts";
import { Nameserver } from "../dns/nameserver.ts";
import { ResolvConf } from "../dns/resolvconf.ts";
import { namesStore } from "../dns/saved.ts";
import { DnsServer } from "../dns/server.ts";
import { CHANNEL } from "../dns/wire.ts";
import type { Log } from "../log/log.ts";
import type { MeshRouter } from "../mesh/router.ts";
import type { Store } from "../store/store.ts";
import { reasonOf } from "../sys/reason.ts";
import type { RouterOptions } from "./options.ts";

const PORT = 53;
const ANY = "0.0.0.0";

export interface RunningDns extends DnsSources {
  /** Answers on the bridge's addresses, unless told where to. */
  bridgeHas(addresses: readonly Cidr[]): Promise<void>;
  stop(): void;
}

/** Starts weaveDNS; rejects where it is to listen on an address and cannot. */
export async function startDns(
  options: RouterOptions,
  mesh: MeshRouter,
  store: Store,
  log: Log,
): Promise<RunningDns> {
  const fixed = options["dns-listen-address"];
  const nameserver = new Nameserver(
    {
      ourName: mesh.ourself.name,
      domain: options["dns-domain"],
      isKnownPeer: (peer) => mesh.peers.get(peer) !== undefined,
    },
    { clock: systemClock, log, store: namesStore(store) },
  );
  mesh.listen({ peerGone: (peer) => nameserver.peerGone(peer.name) });
  nameserver.start((gossiper) => mesh.channel(CHANNEL, gossiper));

  const resolvConf = new ResolvConf(options["resolv-conf"], (text) => log.warning(`[dns] ${text}`));
  const isOurs = (address: string) =>
    server.addresses.some((own) => own === `${address}:${PORT}`) ||
    (server.addresses.includes(`${ANY}:${PORT}`) && isLocal(address));
  // Whoever asks us must not be asked by us.
  const upstream = () => resolvConf.servers.filter((address) => !isOurs(address));
  const forwarder = new Forwarder(upstream, options["dns-fallback-timeout"]);
  const config = { domain: options["dns-domain"], ttl: options["dns-ttl"] };
  const server = new DnsServer(config, { names: nameserver, forwarder, log });
  if (fixed) await server.listen(`${fixed.host}:${fixed.port}`);

  return {
    nameserver,
    server,
    upstream,
    async bridgeHas(addresses) {
      if (fixed) return;
      const wanted = addresses.map(({ address }) => `${formatIPv4(address)}:${PORT}`);
      for (const address of server.addresses) if (!wanted.includes(address)) server.unlisten(address);
      for (const address of wanted) {
        await server.listen(address).catch((error) => log.error(`[dns] ${reasonOf(error)}`));
      }
    },
    stop() {
      nameserver.stop();
      server.stop();
    },
  };
}

function isLocal(address: string): boolean {
  return Object.values(networkInterfaces()).some((list) => list?.some((own) => own.address === address));
}
