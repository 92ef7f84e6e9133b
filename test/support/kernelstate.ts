// What the kernel has in a network namespace, by the tools that people look with, as lines that can be compared: without
// numbers that the kernel gives out anew (ifindexes, handles, program ids), counters and timers.
import { eventually, type Host, must } from "./hosts.ts";

/** Lines about each thing, in an order of their own. */
export type KernelState = readonly string[];

// Few processes: tests look again and again, and starting one takes longer than its work.
const SYSCTLS = `cd /proc/sys/net; set --
for family in ipv4 ipv6; do
  for kind in conf neigh; do
    for path in $family/$kind/*; do
      case "\${path##*/}" in weave|vxlan-*|sleeve-*|vethwe*|eth0|all) set -- "$@" "$path"/*;; esac
    done
  done
done
grep -s . "$@" ipv4/ip_forward ipv6/conf/default/forwarding bridge/bridge-nf-call-ip*`;

/** A list in JSON by each command. */
const ADDRESSES = `ip -d -j -N -batch - <<'.'
addr show
route show table all
rule show
.
ip -6 -j -N -d route show table all`;

/** All queueing disciplines, and the filters of links that have some; before those of each way, the link's disciplines. */
const FILTERS = `qdiscs=$(tc qdisc show); echo "$qdiscs"; echo @
while read -r _ kind _ _ link _; do
  case $kind in clsact|ingress) for way in ingress egress; do
    printf 'qdisc show dev %s\\nfilter show dev %s %s\\n' "$link" "$link" $way
  done;; esac
done <<. | tc -force -batch - 2>/dev/null
$qdiscs
.`;

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

const textLines = (text: string): string[] => text.split("\n").filter((line) => line.trim() !== "");

/** Put link and way before the filters. */
function qdiscsAndFilters(text: string): Readings {
  const [qdiscs = [], printed = []] = text.split("@\n").map(textLines);
  const linkOf = (line: string) => / dev (\S+) /.exec(line)?.[1];
  /** For each line on a discipline in what batches have printed, where the filters after it are. */
  const places = qdiscs
    .filter((line) => /^qdisc (clsact|ingress) /.test(line))
    .flatMap((line) => ["ingress", "egress"].map((way) => [linkOf(line), way] as const))
    .flatMap(([link, way]) => qdiscs.filter((line) => linkOf(line) === link).map(() => `${link} ${way}`));
  const filters: string[] = [];
  let place: string | undefined;
  for (const line of printed) {
    if (line.startsWith("qdisc ")) place = places.shift();
    else filters.push(`${place} ${line.replace(/ id \d+| tag [0-9a-f]+/g, "").trim()}`);
  }
  return {
    qdiscs: qdiscs.map((line) => line.replace(/ refcnt \d+/, "").trim()).sort(),
    filters: filters.sort(),
  };
}

/** Lists in JSON under these names. */
const lists =
  (...names: readonly string[]) =>
  (text: string): Readings => {
    const found = text.trim().split(/(?<=\])\s*(?=\[)/);
    if (found.length !== names.length) throw new Error(`not the lists ${names}: ${text}`);
    return Object.fromEntries(names.map((name, i) => [name, jsonLines(found[i] ?? "").sort()]));
  };

type Readings = Readonly<Record<string, readonly string[]>>;

/** Commands, and how to read what each prints. */
const COMMANDS: readonly (readonly [command: string, read: (text: string) => Readings])[] = [
  [ADDRESSES, lists("links", "routes", "rules", "routes6")],
  ["bridge -d -j link show; bridge -j vlan show", lists("ports", "vlans")],
  [FILTERS, qdiscsAndFilters],
  [
    "nft list ruleset 2>/dev/null",
    (text) => ({
      nftables: byTable(textLines(text)).map((line) => line.replace(/ packets \d+ bytes \d+/, "")),
    }),
  ],
  [
    "read -r _ 2>/dev/null </proc/net/ip_tables_names && iptables-legacy-save",
    (text) => ({
      legacy: textLines(text)
        .filter((line) => !line.startsWith("#"))
        .map((line) => line.replace(/\[\d+:\d+\]/, "")),
    }),
  ],
  ["ip xfrm policy 2>/dev/null", (text) => ({ xfrm: textLines(text) })],
  [
    SYSCTLS,
    (text) => ({
      sysctls: textLines(text)
        .filter((line) => !/stable_secret|base_reachable_time_ms/.test(line))
        .sort(),
    }),
  ],
];

/** Reads it; `netns` is the namespace by name. */
export async function kernelState(netns: string): Promise<KernelState> {
  const script = COMMANDS.map(([command]) => `${command}\necho "###"\n`).join("");
  const text = await must(["nsenter", `--net=/run/netns/${netns}`, "sh", "-c", script]);
  const printed = text.split("###\n");
  return COMMANDS.flatMap(([, read], i) => Object.entries(read(printed[i] ?? ""))).flatMap(
    ([reading, lines]) => lines.map((line) => `${reading}: ${line}`),
  );
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
