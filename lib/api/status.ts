// The status texts, laid out as the original's (weave: prog/weaver/http.go), for people and for scripts that read them.
import { nameCount } from "../dns/report.ts";
import { printedLines } from "../log/printable.ts";
import { countsOf } from "../mesh/report/counts.ts";
import { allocationStatus, healthText } from "./health.ts";
import type { MtuReport, Report } from "./report.ts";

const STATES = ["established", "pending", "retrying", "failed", "connecting"] as const;

/** Return "2 established, 1 failed". */
function countsText(counts: Readonly<Record<string, number>>, keys: readonly string[]): string {
  return keys
    .map((key) => [counts[key] ?? 0, key] as const)
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
    ...limits(report),
    ...notes(report),
  ]);
}

function overview({ Router: router, ...report }: Report): string[] {
  const { ProtocolMinVersion: min, ProtocolMaxVersion: max } = router;
  const onOff = (on: boolean) => (on ? "enabled" : "disabled");
  const { Connections, Peers, PeerConnections } = router.Counts ?? countsOf(router);
  const connections = Object.values(Connections).reduce((sum, count) => sum + count, 0);
  const { Established: established, Pending: pending } = PeerConnections;
  const withConnections = countsText({ established, pending }, ["established", "pending"]);
  return [
    `        Version: ${report.Version} (version check update disabled)`,
    "",
    "        Service: router",
    `       Protocol: ${router.Protocol} ${min === max ? max : `${min}..${max}`}`,
    `           Name: ${router.Name}(${router.NickName})`,
    `     Encryption: ${onOff(router.Encryption)}`,
    `  PeerDiscovery: ${onOff(router.PeerDiscovery)}`,
    `        Targets: ${router.Targets.length}`,
    `    Connections: ${connections}${inBrackets(countsText(Connections, STATES))}`,
    `          Peers: ${Peers}${inBrackets(withConnections && `with ${withConnections} connections`)}`,
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
    `         Status: ${allocationStatus(ipam)}`,
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
    `        Entries: ${nameCount(dns)}`,
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

/** Bounds that are reached, but for those at which the oldest is forgotten. */
function limits({ Limits = [] }: Report): string[] {
  const reached = Limits.filter(({ Value, Max, Forgets }) => Value >= Max && !Forgets);
  if (reached.length === 0) return [];
  const lines = reached.map(({ Name, Value, Max, Refused = 0 }) => {
    const refused = Refused > 0 ? `, ${Refused} refused` : "";
    return `          Limit: ${Name}: ${Value} of ${Max}${refused}; see 'weave help limits'`;
  });
  return ["", ...lines];
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
