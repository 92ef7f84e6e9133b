// What the kernel has in a network namespace, by the tools that people look with, as lines that can be compared: without
// numbers that the kernel gives out anew (ifindexes, handles, program ids), counters and timers.
import { eventually, type Host, must } from "./hosts.ts";

/** Lines about each thing, in an order of their own. */
export type KernelState = readonly string[];

// Few processes: tests look again and again.
const SYSCTLS = `cd /proc/sys/net; set --
for family in ipv4 ipv6; do
  for kind in conf neigh; do
    for path in $family/$kind/*; do
      case "\${path##*/}" in weave|vxlan-*|sleeve-*|vethwe*|eth0|all) set -- "$@" "$path"/*;; esac
    done
  done
done
grep -s . "$@" | grep -v -e stable_secret -e base_reachable_time_ms
grep -s . ipv4/ip_forward ipv6/conf/default/forwarding bridge/bridge-nf-call-ip*`;

/** What tc(8) shows of each link and way, with both before each line. */
const FILTERS = `for link in $(ls /sys/class/net); do
  for way in ingress egress; do echo "@ $link $way"; tc filter show dev "$link" "$way" 2>/dev/null; done
done | sed -n '/^@ /{h;d}; G; s/\\(.*\\)\\n@ \\(.*\\)/\\2 \\1/p'`;

/** Commands by what they print. */
const READINGS = {
  links: "ip -d -j addr show",
  ports: "bridge -d -j link show",
  vlans: "bridge -j vlan show",
  routes: "ip -j -N -d route show table all",
  routes6: "ip -6 -j -N -d route show table all",
  rules: "ip -j -N rule show",
  qdiscs: "tc qdisc show",
  filters: FILTERS,
  nftables: "nft list ruleset 2>/dev/null",
  legacy: "grep -q . /proc/net/ip_tables_names && iptables-legacy-save | grep -v '^#'",
  xfrm: "ip xfrm policy 2>/dev/null",
  sysctls: SYSCTLS,
} as const;

type Reading = keyof typeof READINGS;

/** Given out anew by the kernel, or running. */
const VOLATILE = new Set([
  ...["ifindex", "link_index", "valid_life_time", "preferred_life_time", "expires", "used", "age"],
  ...["gc_timer", "hello_timer", "topology_change_timer", "tcn_timer", "message_age_timer"],
  ...["forward_delay_timer", "hold_timer", "id", "no", "designated_port", "topology_change", "metrics"],
  ...["topology_change_detected", "tentative", "dadfailed", "cache_info", "inet6_stats"],
]);

/** "name.linkinfo.info_data.ageing_time 30000" for everything in a value of JSON. */
function flatten(path: string, value: unknown): string[] {
  if (Array.isArray(value)) {
    if (value.every((each) => typeof each !== "object")) return [`${path} ${[...value].sort().join(",")}`];
    return value.flatMap((each) => flatten(`${path}[${nameOf(each)}]`, each));
  }
  if (typeof value !== "object" || value === null) return [`${path} ${value}`];
  return Object.entries(value)
    .filter(([key]) => !VOLATILE.has(key))
    .flatMap(([key, each]) => flatten(`${path}.${key}`, each));
}

/** What tells an element of a list from others. */
function nameOf(element: object): string {
  const { ifname, family, local, dst, dev, vlan, type, priority } = element as Record<string, unknown>;
  return [ifname, family, local, type, dst, dev, vlan, priority]
    .filter((each) => each !== undefined)
    .join(" ");
}

function jsonLines(text: string): string[] {
  const list = JSON.parse(text.trim() || "[]") as object[];
  return list.flatMap((each) => flatten(nameOf(each), each));
}

/** Tables stand in the order in which they were made, which says nothing. */
function byTable(ruleset: readonly string[]): string[] {
  const tables: string[][] = [];
  for (const line of ruleset) {
    if (line.startsWith("table ")) tables.push([]);
    tables.at(-1)?.push(line);
  }
  return tables
    .sort(([a = ""], [b = ""]) => (a < b ? -1 : 1))
    .flatMap(([header = "", ...lines]) => [header, ...lines.map((line) => `${header} ${line.trim()}`)]);
}

const READ_JSON: ReadonlySet<Reading> = new Set<Reading>([
  "links",
  "ports",
  "vlans",
  "routes",
  "routes6",
  "rules",
]);

function lines(reading: Reading, text: string): string[] {
  if (READ_JSON.has(reading)) return jsonLines(text).sort();
  const plain = text.split("\n").filter((line) => line.trim() !== "");
  switch (reading) {
    case "filters":
      return plain.map((line) => line.replace(/ id \d+| tag [0-9a-f]+/g, "").trim()).sort();
    case "legacy":
      return plain.map((line) => line.replace(/\[\d+:\d+\]/, ""));
    case "nftables":
      return byTable(plain).map((line) => line.replace(/ packets \d+ bytes \d+/, ""));
    case "qdiscs":
      return plain.map((line) => line.replace(/ refcnt \d+/, "").trim()).sort();
    case "sysctls":
      return plain.sort();
    default:
      return plain;
  }
}

/** Reads it; `netns` is the namespace by name. */
export async function kernelState(netns: string): Promise<KernelState> {
  const script = Object.entries(READINGS)
    .map(([name, command]) => `echo "### ${name}"\n(${command})\n`)
    .join("");
  const text = await must(["ip", "netns", "exec", netns, "sh", "-c", `${script}true`]);
  return text
    .split(/^### /m)
    .slice(1)
    .flatMap((part) => {
      const [name = "", ...rest] = part.split("\n");
      if (!isReading(name)) throw new Error(`unexpected heading: ${name}`);
      return lines(name, rest.join("\n")).map((line) => `${name}: ${line}`);
    });
}

/**
 * Reads that of a host whose link is up, once it changes no more by itself: a moment later the kernel gives the link an address of
 * IPv6, and a route to it when duplicate address detection has ended.
 */
export async function settledState(host: Host): Promise<KernelState> {
  await eventually(
    `${host.name} has its address of IPv6`,
    () => host.must(["sh", "-c", "ip -6 addr; ip -6 route show table local dev eth0"]),
    (text) => /^local fe80:/m.test(text) && !text.includes("tentative"),
  );
  return kernelState(host.netns);
}

function isReading(name: string): name is Reading {
  return name in READINGS;
}

/** Lines that only one of them has: "- " before, "+ " after; what has changed places is told, too. */
export function stateDifference(before: KernelState, after: KernelState): string[] {
  const [was, is] = [new Set(before), new Set(after)];
  const different = [
    ...before.filter((line) => !is.has(line)).map((line) => `- ${line}`),
    ...after.filter((line) => !was.has(line)).map((line) => `+ ${line}`),
  ];
  if (different.length > 0 || before.join("\n") === after.join("\n")) return different;
  const first = before.findIndex((line, i) => line !== after[i]);
  return [`- ${before[first]} (in this place)`, `+ ${after[first]} (in this place)`];
}
