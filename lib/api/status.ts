// The status texts, laid out as the original's (weave: prog/weaver/http.go), for people and for scripts that read them.
import { printedLines } from "../log/printable.ts";
import { healthText, ipamStatus } from "./health.ts";
import type { MtuReport, Report } from "./report.ts";

const STATES = ["established", "pending", "retrying", "failed", "connecting"] as const;

function counts(values: readonly string[], keys: readonly string[]): string {
  return keys
    .map((key) => [values.filter((value) => value === key).length, key] as const)
    .filter(([count]) => count > 0)
    .map(([count, key]) => `${count} ${key}`)
    .join(", ");
}

/** Problems listed; the rest are counted, as a hostile peer can cause many. */
const MAX_PROBLEMS = 10;

const inBrackets = (text: string) => (text === "" ? "" : ` (${text})`);

/** "weave status". */
export function statusText(report: Report): string {
  return printedLines([
    ...health(report),
    ...overview(report),
    ...ipamOverview(report),
    ...dnsOverview(report),
    ...notes(report),
  ]);
}

function overview({ Router: router, ...report }: Report): string[] {
  const { ProtocolMinVersion: min, ProtocolMaxVersion: max } = router;
  const onOff = (on: boolean) => (on ? "enabled" : "disabled");
  const peerConnections = router.Peers.flatMap((peer) => peer.Connections);
  const established = peerConnections.map((connection) =>
    connection.Established ? "established" : "pending",
  );
  const withConnections = counts(established, ["established", "pending"]);
  return [
    `        Version: ${report.Version} (version check update disabled)`,
    "",
    "        Service: router",
    `       Protocol: ${router.Protocol} ${min === max ? max : `${min}..${max}`}`,
    `           Name: ${router.Name}(${router.NickName})`,
    `     Encryption: ${onOff(router.Encryption)}`,
    `  PeerDiscovery: ${onOff(router.PeerDiscovery)}`,
    `        Targets: ${router.Targets.length}`,
    `    Connections: ${router.Connections.length}${inBrackets(
      counts(
        router.Connections.map(({ State }) => State),
        STATES,
      ),
    )}`,
    `          Peers: ${router.Peers.length}${inBrackets(withConnections && `with ${withConnections} connections`)}`,
    ...(router.Mtu ? [`            MTU: ${mtuText(router.Mtu)}`] : []),
    ` TrustedSubnets: ${router.TrustedSubnets.join(", ") || "none"}`,
  ];
}

/** Return the MTU and what sets it: "1450 (auto: the path from b to c)". */
const mtuText = ({ Network, Auto, By }: MtuReport) => `${Network} (${Auto ? `auto: ${By}` : By})`;

function ipamOverview({ IPAM: ipam }: Report): string[] {
  if (!ipam) return [];
  return [
    "",
    "        Service: ipam",
    `         Status: ${ipamStatus(ipam)}`,
    `          Range: ${ipam.Range}`,
    `  DefaultSubnet: ${ipam.DefaultSubnet}`,
  ];
}

function dnsOverview({ DNS: dns }: Report): string[] {
  if (!dns) return [];
  return [
    "",
    "        Service: dns",
    `         Domain: ${dns.Domain}`,
    `       Upstream: ${dns.Upstream?.join(", ") ?? "none"}`,
    `            TTL: ${dns.TTL}`,
    `        Entries: ${(dns.Entries ?? []).filter(({ Tombstone }) => Tombstone === 0).length}`,
  ];
}

/** Health and problems. The original has no such section; scripts that look for its lines find them below. */
function health(report: Report): string[] {
  const { Problems } = report;
  if (!Problems) return [];
  const more = Problems.length - MAX_PROBLEMS;
  return [
    `         Health: ${healthText(report)}`,
    ...Problems.slice(0, MAX_PROBLEMS).map(({ Found, Advice }) => `        Problem: ${Found}; ${Advice}`),
    ...(more > 0 ? [`        Problem: ${more} more; 'weave report' has them all`] : []),
    "",
  ];
}

function notes({ Notes }: Report): string[] {
  return Notes.length === 0 ? [] : ["", ...Notes.map((note) => `           Note: ${note}`)];
}

/** "weave status targets": the peers we were told to connect to. */
export function targetsText({ Router }: Report): string {
  return printedLines(Router.Targets);
}

/** "weave status peers": all peers and their connections. */
export function peersText({ Router }: Report): string {
  const lines = Router.Peers.flatMap((peer) => {
    const connections = peer.Connections.map(({ Name, NickName, Address, Outbound, Established }) => {
      const who = `${Name}(${NickName})`.padEnd(37);
      return `   ${Outbound ? "->" : "<-"} ${Address.padEnd(21)} ${who} ${Established ? "established" : "pending"}`;
    });
    return [`${peer.Name}(${peer.NickName})`, ...connections];
  });
  return printedLines(lines);
}

/** "weave status dns": all names. */
export function namesText({ DNS: dns }: Report): string {
  const suffix = `.${dns?.Domain}`;
  const lines = (dns?.Entries ?? [])
    .filter(({ Tombstone }) => Tombstone === 0)
    .map(({ Hostname, Address, ContainerID, Origin }) => {
      const name = Hostname.endsWith(suffix) ? Hostname.slice(0, -suffix.length) : Hostname;
      return `${name.padEnd(12)} ${Address.padEnd(15)} ${ContainerID.slice(0, 12).padStart(12)} ${Origin}`;
    });
  return printedLines(lines);
}

/** "weave status ipam": who owns how much of the range. */
export function ipamText({ Router, IPAM }: Report): string {
  if (!IPAM) return "";
  const owners = new Map<string, { nickname: string; addresses: number; note: string }>();
  for (const { Peer, Nickname, Size, IsKnownPeer, UnreachableSince } of IPAM.Entries ?? []) {
    const since = UnreachableSince === undefined ? "" : ` since ${UnreachableSince.replace(/\.\d+/, "")}`;
    const note = IsKnownPeer ? "" : `- unreachable!${since}`;
    const addresses = (owners.get(Peer)?.addresses ?? 0) + Size;
    owners.set(Peer, { nickname: Nickname, addresses, note });
  }
  const order = [...owners].sort(([a], [b]) => Number(b === Router.Name) - Number(a === Router.Name));
  const lines = order.map(([name, { nickname, addresses, note }]) => {
    const share = ((100 * addresses) / IPAM.RangeNumIPs).toFixed(1).padStart(4, "0");
    const last = name === Router.Name ? `(${IPAM.ActiveIPs} active)` : note;
    return `${`${name}(${nickname})`.padEnd(37)} ${String(addresses).padStart(8)} IPs (${share}% of total) ${last}`;
  });
  return printedLines(lines);
}
