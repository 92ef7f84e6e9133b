// The report in the shapes of `weave status --json` and its parts.

import { livingNames, nameCount } from "../dns/report.ts";
import { countsOf } from "../mesh/report/counts.ts";
import { allocationStatus, healthText } from "./health.ts";
import type { Report } from "./report.ts";
import type { Connections, Names, Owners, PeerList, Shape, Status, Targets } from "./shapes.ts";

export function statusSummary(report: Report): Shape<typeof Status> {
  const { Router: router, IPAM: ipam, DNS: dns, Problems = [], Notes } = report;
  const { Connections: connections, Peers } = router.Counts ?? countsOf(router);
  return {
    ok: report.Ready && Problems.length === 0,
    health: healthText(report),
    ready: report.Ready,
    version: report.Version,
    name: router.Name,
    nickname: router.NickName,
    encryption: router.Encryption,
    discovery: router.PeerDiscovery,
    interface: router.Interface,
    mtu: router.Mtu ? { bytes: router.Mtu.Network, auto: router.Mtu.Auto, by: router.Mtu.By } : null,
    targets: router.Targets.length,
    connections,
    peers: Peers,
    trustedSubnets: router.TrustedSubnets,
    ipam: ipam
      ? {
          status: allocationStatus(ipam),
          range: ipam.Range,
          defaultSubnet: ipam.DefaultSubnet,
          addresses: ipam.RangeNumIPs,
          active: ipam.ActiveIPs,
        }
      : null,
    dns: dns
      ? {
          domain: dns.Domain,
          address: dns.Address,
          upstream: dns.Upstream ?? [],
          ttl: dns.TTL,
          names: nameCount(dns),
        }
      : null,
    problems: Problems.map(({ Check, Found, Advice }) => ({ check: Check, found: Found, advice: Advice })),
    notes: Notes,
  };
}

export function targetsSummary({ Router }: Report): Shape<typeof Targets> {
  return Router.Targets;
}

export function connectionsSummary({ Router }: Report): Shape<typeof Connections> {
  return [...connected(Router), ...unconnected(Router)];
}

const NO_VITALS = {
  overlay: null,
  encrypted: false,
  mtu: null,
  lastHeardMs: null,
  silent: false,
  roundTripMs: null,
  receivedBytes: null,
  sentBytes: null,
  receivedBytesPerS: null,
  sentBytesPerS: null,
};

/** Peers that were lost, and hosts that are refused. */
function unconnected({ Lost = [], Refused = [] }: Report["Router"]): Shape<typeof Connections> {
  return [
    ...Lost.map(({ Address, Outbound, Name, NickName, Reason, Remedy, At }) => ({
      address: Address,
      outbound: Outbound,
      state: "lost",
      peer: { name: Name, nickname: NickName },
      ...NO_VITALS,
      reason: Reason,
      remedy: Remedy,
      since: At,
    })),
    ...Refused.map(({ Address, Outbound, Peer, Reason, Remedy, Since }) => ({
      address: Address,
      outbound: Outbound,
      state: "refused",
      peer: Peer && { name: Peer.Name, nickname: Peer.NickName },
      ...NO_VITALS,
      reason: Reason,
      remedy: Remedy,
      since: Since,
    })),
  ];
}

function connected({ Connections: all, Refused = [] }: Report["Router"]): Shape<typeof Connections> {
  const isRefused = new Set(Refused.filter(({ Outbound }) => Outbound).map(({ Address }) => Address));
  const shown = all.filter(({ Peer, Address }) => Peer || !isRefused.has(Address));
  return shown.map(({ Address, Outbound, State, Info, Attrs, Peer, Trouble, Vitals }) => {
    const { name, mtu, encrypted } = Attrs ?? {};
    // A target before its first attempt has no trouble.
    const why = Trouble?.Reason ?? (Peer ? "" : Info);
    return {
      address: Address,
      outbound: Outbound,
      state: State,
      peer: Peer ? { name: Peer.Name, nickname: Peer.NickName } : null,
      overlay: name === undefined ? null : String(name),
      encrypted: encrypted === true,
      mtu: typeof mtu === "number" ? mtu : null,
      reason: why || null,
      remedy: Trouble?.Remedy ?? null,
      since: Vitals?.Since ?? null,
      lastHeardMs: Vitals?.LastHeardMs ?? null,
      silent: Vitals?.Silent ?? false,
      roundTripMs: Vitals?.RoundTripMs ?? null,
      receivedBytes: Vitals?.ReceivedBytes ?? null,
      sentBytes: Vitals?.SentBytes ?? null,
      receivedBytesPerS: Vitals?.ReceivedBytesPerS ?? null,
      sentBytesPerS: Vitals?.SentBytesPerS ?? null,
    };
  });
}

export function peersSummary({ Router }: Report): Shape<typeof PeerList> {
  return Router.Peers.map((peer) => ({
    name: peer.Name,
    nickname: peer.NickName,
    connections: peer.Connections.map(({ Name, NickName, Address, Outbound, Established }) => ({
      name: Name,
      nickname: NickName,
      address: Address,
      outbound: Outbound,
      established: Established,
    })),
  }));
}

export function ownersSummary({ Router, IPAM }: Report): Shape<typeof Owners> {
  const owners = new Map<string, Shape<typeof Owners>[number]>();
  for (const { Peer, Nickname, Size, IsKnownPeer, UnreachableSince } of IPAM?.Entries ?? []) {
    owners.set(Peer, {
      name: Peer,
      nickname: Nickname,
      addresses: (owners.get(Peer)?.addresses ?? 0) + Size,
      reachable: IsKnownPeer,
      unreachableSince: UnreachableSince ?? null,
    });
  }
  return [...owners.values()].sort((a, b) => Number(b.name === Router.Name) - Number(a.name === Router.Name));
}

export function namesSummary({ DNS }: Report): Shape<typeof Names> {
  return livingNames({ Entries: DNS?.Entries ?? null }).map(({ Hostname, Address, ContainerID, Origin }) => ({
    name: Hostname,
    address: Address,
    id: ContainerID,
    peer: Origin,
  }));
}
