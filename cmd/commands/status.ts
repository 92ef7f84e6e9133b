// weave status, report, ps, version.
import * as v from "valibot";
import { formatCidr } from "../../lib/address/ipv4.ts";
import { ApiError, apiClient, holders } from "../../lib/api/client.ts";
import { connectionsTable } from "../../lib/api/connections.ts";
import { emptyText } from "../../lib/api/empty.ts";
import type { Report } from "../../lib/api/report.ts";
import { Attached, Versions } from "../../lib/api/shapes.ts";
import {
  connectionsSummary,
  namesSummary,
  ownersSummary,
  peersSummary,
  statusSummary,
  targetsSummary,
} from "../../lib/api/summary.ts";
import { findContainer } from "../../lib/container/runtime.ts";
import { suggestion } from "../../lib/help/nearest.ts";
import { bridgeAddresses, requireBridge } from "../../lib/host/bridge.ts";
import { attachedContainers } from "../../lib/host/containers.ts";
import { EXPOSE_ID } from "../../lib/host/names.ts";
import { printableLines } from "../../lib/log/printable.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { askLocally } from "../../lib/sys/localhttp.ts";
import { netnsInode } from "../../lib/sys/netnsinode.ts";
import { VERSION } from "../../lib/version.ts";
import { answer, JSON_OPTION, remark } from "../answer.ts";
import { type Command, UsageError } from "../arguments.ts";
import { intervalOf, WATCH_OPTION } from "../live/interval.ts";
import { watchStatus } from "../live/statuswatch.ts";
import { requireRoot } from "../main.ts";
import { show, warn, write } from "../output/output.ts";
import { runtimeSockets } from "./target.ts";

const NPC_STATUS = "http://127.0.0.1:6781/status";
const NPC_QUESTION = { limit: 1 << 20, timeoutMs: 1_000 };

const PARTS = ["targets", "connections", "peers", "dns", "ipam"];

export const status: Command = {
  name: "status",
  group: "Troubleshooting",
  description: "Show the status of the router, or of one part of it",
  positionals: `[${PARTS.join("|")}]`,
  positionalsComplete: PARTS,
  examples: [
    { command: "weave status", does: "Show whether all is well, and problems" },
    { command: "weave status connections", does: "List peers: overlay, MTU, encryption, reasons" },
    { command: "weave status connections --watch", does: "Watch connections come and go" },
    { command: "weave status ipam", does: "Show who owns which part of the address range" },
  ],
  details: [
    "--watch marks changed words, or their lines without colour. If the output is not a terminal, it prints everything once, then new and changed lines; with --json, one line of JSON each time. It waits for a router that is down.",
  ],
  options: { ...JSON_OPTION, ...WATCH_OPTION },
  async run(args) {
    const [part, ...rest] = args.positionals;
    if (rest.length > 0 || (part !== undefined && !PARTS.includes(part))) {
      const words = [part, ...rest].join(" ");
      throw new UsageError(`invalid 'weave status' sub-command: ${words}${suggestion(words, PARTS)}`);
    }
    const everyMs = intervalOf(args, "watch");
    if (everyMs !== undefined) {
      return watchStatus(args, {
        part: part ?? "",
        everyMs,
        text: () => (part === undefined ? overview() : partText(part)),
        json: () => summary(part ?? ""),
      });
    }
    if (args.options["json"]) return answer(args, v.unknown(), await summary(part ?? ""), "");
    if (part === undefined) show(await overview());
    else await showPart(part);
  },
};

const SUMMARIES: Readonly<Record<string, (report: Report) => unknown>> = {
  "": statusSummary,
  targets: targetsSummary,
  connections: connectionsSummary,
  peers: peersSummary,
  dns: namesSummary,
  ipam: ownersSummary,
};

async function askReport(): Promise<Report> {
  return JSON.parse(await apiClient()("GET", "/report", { accept: "application/json" }));
}

async function summary(part: string): Promise<unknown> {
  return SUMMARIES[part]?.(await askReport());
}

/** Return the overview, with that of weave-npc. */
async function overview(): Promise<string> {
  return `\n${await apiClient()("GET", "/status")}\n${await policyStatus()}`;
}

/** Return one part: the original's lines for scripts, more on a terminal. Empty only for scripts. */
async function partText(part: string): Promise<string> {
  const text = await apiClient()("GET", `/status/${part}`);
  if (!process.stdout.isTTY) return text;
  if (text === "") return `${emptyText(part, await askReport())}\n`;
  return part === "connections" ? connectionsTable(await askReport()) : text;
}

async function showPart(part: string): Promise<void> {
  const text = await partText(part);
  show(text);
  // Scripts count lines on standard output, so the text goes to standard error.
  if (text === "" && process.stderr.isTTY) warn(emptyText(part, await askReport()));
}

/** Return the status of weave-npc; "" if none runs here. */
async function policyStatus(): Promise<string> {
  try {
    const { status, body } = await askLocally(NPC_STATUS, NPC_QUESTION);
    return status === 200 ? `${body}\n` : "";
  } catch {
    return "";
  }
}

export const report: Command = {
  name: "report",
  group: "Troubleshooting",
  description: "Print the state of the router, as JSON or in a format",
  details: [
    "A template is text with {{actions}}: {{.Path.To.Value}}, range, if, with, else, break, continue, variables and pipes; functions and, or, not, eq, ne, lt, le, gt, ge, len, index, slice, print, printf, println and json. Objects are printed as Go prints structs; json prints them as JSON.",
  ],
  options: {
    format: {
      type: "string",
      alias: "f",
      description: "Fill in this template, in the language of Go's text/template",
      defaultText: "JSON",
      valueHint: "FORMAT",
    },
    json: { type: "boolean", default: false, description: "Print JSON; the default" },
  },
  examples: [
    { command: "weave report", does: "Print everything as JSON" },
    { command: "weave report -f '{{.Router.Name}}'", does: "Print the name of this peer" },
    { command: "weave report -f '{{json .DNS}}'", does: "Print a part of it as JSON" },
    {
      command: `weave report -f '{{range .Router.Peers}}{{println .Name .NickName}}{{end}}'`,
      does: "Print a line for each peer",
    },
  ],
  async run({ options }) {
    const format = options["format"];
    if (format !== undefined && options["json"]) throw new UsageError("--format or --json, not both");
    const text =
      typeof format === "string"
        ? await apiClient()("GET", `/report?format=${encodeURIComponent(format)}`).catch(asUsageError)
        : await apiClient()("GET", "/report", { accept: "application/json" });
    // A format may end its lines itself. Peers choose their nicknames, also escape sequences.
    const shown = process.stdout.isTTY ? printableLines(text) : text;
    write(shown.endsWith("\n") ? shown : `${shown}\n`);
  },
};

/** Status of a template that cannot be read, or asks for what is not there. */
const BAD_FORMAT = 400;

function asUsageError(error: unknown): never {
  if (error instanceof ApiError && error.status === BAD_FORMAT)
    throw new UsageError(error.message, { cause: error });
  throw error;
}

/** Part of the report for ps: links of containers. */
const Kept = v.array(
  v.object({
    ContainerID: v.string(),
    Interface: v.string(),
    Netns: v.string(),
    Mac: v.string(),
    Addresses: v.array(v.string()),
    Problem: v.optional(v.string()),
  }),
);

export const ps: Command = {
  name: "ps",
  group: "Containers",
  description: "List attached containers: ID, MAC address, addresses",
  positionals: "[CONTAINER…]",
  positionalsComplete: "containers",
  details: [
    "CONTAINER is a name, an ID or the beginning of one, and is shown in place of the ID. weave:expose is the host itself.",
    "If the link of a container has a problem, its line ends with # and the problem.",
  ],
  examples: [
    { command: "weave ps", does: "List all" },
    { command: "weave ps weave:expose", does: "Show the addresses of this host on the network" },
  ],
  options: JSON_OPTION,
  async run(args) {
    requireRoot();
    const api = apiClient();
    const held = await holders(api);
    const format = encodeURIComponent("{{json .Containers}}");
    const kept = v.parse(Kept, JSON.parse(await api("GET", `/report?format=${format}`)));
    const wrong = new Map(
      kept
        .filter(({ Problem }) => Problem !== undefined)
        .map((each) => [`${netnsInode(each.Netns)} ${each.Interface}`, each]),
    );
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    const holderOf = new Map(
      [...held].flatMap(([id, addresses]) => addresses.map((address) => [address, id])),
    );
    const present = attachedContainers(nl).map(({ netns, inode, link, mac, addresses, owner }) => {
      const key = `${inode} ${link.name}`;
      const problem = wrong.get(key)?.Problem;
      wrong.delete(key);
      const id = addresses.map((cidr) => holderOf.get(formatCidr(cidr))).find(Boolean);
      return { id: id ?? owner?.containerId ?? netns, mac, addresses: addresses.map(formatCidr), problem };
    });
    const rows = [
      {
        id: EXPOSE_ID,
        mac: requireBridge(nl).address ?? "",
        addresses: bridgeAddresses(nl).map(formatCidr),
        problem: undefined,
      },
      ...present,
      // Those whose link is gone.
      ...[...wrong.values()].map(({ ContainerID, Netns, Mac, Addresses, Problem }) => ({
        id: ContainerID || Netns,
        mac: Mac,
        addresses: Addresses,
        problem: Problem,
      })),
    ];
    const wanted = await Promise.all(args.positionals.map(async (word) => ({ word, id: await idOf(word) })));
    const nameOf = (id: string) => wanted.find((each) => id.startsWith(each.id))?.word;
    const shown = rows
      .filter(({ id }) => wanted.length === 0 || nameOf(id) !== undefined)
      .map(({ problem, ...row }) => ({ ...row, ...(problem !== undefined && { problem }) }));
    const lines = shown.map(({ id, mac, addresses, problem }) => {
      const mark = problem === undefined ? [] : [`# ${problem}`];
      return [nameOf(id) ?? id.slice(0, 12), mac, ...addresses, ...mark].join(" ");
    });
    for (const { word, id } of wanted)
      if (!rows.some((row) => row.id.startsWith(id)))
        remark(args, `weave ps: no container "${word}" is attached; 'weave ps' lists all`);
    answer(args, Attached, shown, lines.join("\n"));
  },
};

/** The id of a container that Docker or podman knows by this name, else the word itself. */
async function idOf(word: string): Promise<string> {
  return (await findContainer(runtimeSockets(), word))?.id ?? word;
}

/** The version of the running router; null where none runs. */
async function routerVersion(): Promise<string | null> {
  try {
    return await apiClient()("GET", `/report?format=${encodeURIComponent("{{.Version}}")}`);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    return null;
  }
}

export const version: Command = {
  name: "version",
  group: "Life cycle",
  description: "Print the versions of this command and of the router",
  options: JSON_OPTION,
  async run(args) {
    const router = await routerVersion();
    const text = [`weave ${VERSION}`, ...(router === null ? [] : [`weave-router ${router}`])].join("\n");
    answer(args, Versions, { weave: VERSION, router }, text);
  },
};
