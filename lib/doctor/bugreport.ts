// Contents of a bug report: status, report, findings, log and the kernel's state, without secrets.
// A part that is not available says why.
import { closeSync, existsSync, fstatSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import type { ApiClient } from "../api/client.ts";
import { crashFiles } from "../api/crashes.ts";
import { crashDirectory } from "../api/paths.ts";
import { redact } from "../log/redact.ts";
import { addressList } from "../netlink/address.ts";
import { linkList } from "../netlink/link.ts";
import { neighbourList } from "../netlink/neighbour.ts";
import { chainList } from "../netlink/nftables/chain.ts";
import type { TableFamily } from "../netlink/nftables/message.ts";
import { ruleList } from "../netlink/nftables/rule.ts";
import { tableList } from "../netlink/nftables/table.ts";
import { routeList, ruleList as routingRules } from "../netlink/route.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { bpfFilterList } from "../netlink/trafficcontrol.ts";
import { reasonOf } from "../sys/reason.ts";
import { knownSecrets } from "../sys/secrets.ts";
import { VERSION } from "../version.ts";
import { diagnose } from "./doctor.ts";

/** A call of the control API. */
const TIMEOUT_MS = 5_000;
/** The end of a log. */
const LOG_BYTES = 4 << 20;

const PARTS = ["", "/connections", "/peers", "/targets", "/ipam", "/dns"];
const PROC = [
  "version",
  "uptime",
  "modules",
  "net/snmp",
  "net/netstat",
  "net/softnet_stat",
  "net/dev",
  "meminfo",
];
const SYSCTLS = ["net/ipv4/ip_forward", "net/bridge", "net/ipv4/conf", "net/ipv4/neigh", "net/netfilter"];
const MAX_SYSCTLS = 5_000;

export interface BugReportSources {
  readonly api: ApiClient;
  readonly cni: Parameters<typeof diagnose>[1];
  /** By the name of the part. */
  readonly logFiles: Readonly<Record<string, string>>;
  /** The journal's lines, where the router logs there. */
  journal(): string | undefined;
  /** Process id of the router; undefined where none runs. */
  readonly pid: number | undefined;
}

/** The parts by the name of their file. */
export async function collect(sources: BugReportSources): Promise<Record<string, string>> {
  const secrets = knownSecrets(sources.pid);
  const parts: Record<string, string> = {};
  const add = async (name: string, make: () => string | undefined | Promise<string | undefined>) => {
    try {
      const text = await make();
      if (text !== undefined) parts[name] = redact(text, secrets);
    } catch (error) {
      parts[name] = `not available: ${redact(reasonOf(error), secrets)}\n`;
    }
  };
  const ask = (path: string) => () => sources.api("GET", path, { timeoutMs: TIMEOUT_MS });
  await add("version.txt", () => `weave ${VERSION}\n`);
  for (const part of PARTS) await add(`status${part.replace("/", "-")}.txt`, ask(`/status${part}`));
  await add("report.json", () =>
    sources.api("GET", "/report", { accept: "application/json", timeoutMs: TIMEOUT_MS }),
  );
  await add("addresses.json", ask("/ip"));
  await add("doctor.json", async () => json(await diagnose(sources.api, sources.cni)));
  for (const [name, file] of Object.entries(sources.logFiles)) await add(name, () => endOf(file));
  await add("journal.txt", sources.journal);
  for (const name of crashFiles())
    await add(`crashes/${name}`, () => readFileSync(join(crashDirectory(), name), "utf8"));
  await add("links.json", () => route((nl) => json(linkList(nl))));
  await add("link-addresses.json", () => route((nl) => json(addressList(nl))));
  await add("routes.json", () => route((nl) => json({ routes: routeList(nl), rules: routingRules(nl) })));
  await add("neighbours.json", () => route((nl) => json(neighbourList(nl))));
  await add("filters.json", () => route((nl) => json(filters(nl))));
  await add("nftables.json", nftables);
  for (const name of PROC)
    await add(`proc/${name.replace("/", "-")}.txt`, () => readFileSync(`/proc/${name}`, "utf8"));
  await add("proc/limits.txt", () => processFile(sources.pid, "limits"));
  await add("proc/status.txt", () => processFile(sources.pid, "status"));
  await add("sysctls.txt", sysctls);
  return parts;
}

const json = (value: unknown) =>
  `${JSON.stringify(value, (_key, each) => (typeof each === "bigint" ? String(each) : each), 2)}\n`;

function route<T>(read: (nl: NetlinkSocket) => T): T {
  using nl = new NetlinkSocket(NETLINK_ROUTE);
  return read(nl);
}

function filters(nl: NetlinkSocket) {
  return linkList(nl).flatMap(({ name, index }) =>
    (["ingress", "egress"] as const).flatMap((direction) => {
      const found = bpfFilterList(nl, index, direction);
      return found.length === 0 ? [] : [{ link: name, direction, filters: found }];
    }),
  );
}

function nftables(): string {
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  const families: TableFamily[] = ["ip", "inet", "bridge"];
  return json(
    families.map((family) => ({
      family,
      tables: tableList(nf, family),
      chains: chainList(nf, family).map((chain) => ({
        ...chain,
        rules: ruleList(nf, { family, name: chain.table }, chain.name).length,
      })),
    })),
  );
}

/** The last bytes of a file; undefined where there is none. */
function endOf(file: string): string | undefined {
  if (!existsSync(file)) return undefined;
  const fd = openSync(file, "r");
  try {
    const { size } = fstatSync(fd);
    const bytes = Buffer.alloc(Math.min(size, LOG_BYTES));
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, size - bytes.length)).toString();
  } finally {
    closeSync(fd);
  }
}

const processFile = (pid: number | undefined, name: string) =>
  pid === undefined ? undefined : readFileSync(`/proc/${pid}/${name}`, "utf8");

function sysctls(): string {
  const lines: string[] = [];
  const visit = (path: string) => {
    if (lines.length >= MAX_SYSCTLS) return;
    try {
      for (const name of readdirSync(path)) visit(join(path, name));
    } catch {
      try {
        lines.push(`${path.slice("/proc/sys/".length)} = ${readFileSync(path, "utf8").trim()}`);
      } catch {
        // Some may only be written.
      }
    }
  };
  for (const name of SYSCTLS) visit(`/proc/sys/${name}`);
  return `${lines.join("\n")}\n`;
}
