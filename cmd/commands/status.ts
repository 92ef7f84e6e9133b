// weave status.
import * as v from "valibot";
import { apiClient } from "../../lib/api/client.ts";
import { connectionsTable } from "../../lib/api/connections.ts";
import { emptyText } from "../../lib/api/empty.ts";
import type { Report } from "../../lib/api/report.ts";
import {
  connectionsSummary,
  namesSummary,
  ownersSummary,
  peersSummary,
  statusSummary,
  targetsSummary,
} from "../../lib/api/summary.ts";
import { suggestion } from "../../lib/help/nearest.ts";
import { askLocally } from "../../lib/sys/localhttp.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import { type Command, UsageError } from "../arguments.ts";
import { intervalOf, WATCH_OPTION } from "../live/interval.ts";
import { show, warn } from "../output/output.ts";
import { stdout } from "../output/stdout.ts";

const NPC_STATUS = "http://127.0.0.1:6781/status";
const NPC_QUESTION = { limit: 1 << 20, timeoutMs: 1_000 };

/** Parts of the status, as arguments. */
export const PARTS: readonly string[] = ["targets", "connections", "peers", "dns", "ipam"];

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
      // The screen takes as long to load as all else here.
      const { watchStatus } = await import("../live/statuswatch.ts");
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
  if (!stdout.isTTY) return text;
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
