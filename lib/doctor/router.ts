// The router of this host, by what it says of itself.
import { existsSync } from "node:fs";
import * as v from "valibot";
import { parseCidr } from "../address/ipv4.ts";
import { type ApiClient, ApiError, RouterDownError } from "../api/client.ts";
import { stateFile } from "../api/paths.ts";
import { type Finding, ok, problem, warning } from "./finding.ts";
import { RepairsSchema, repairFindings } from "./repairs.ts";

const Report = v.object({
  Ready: v.boolean(),
  Repairs: v.optional(RepairsSchema),
  Problems: v.optional(v.array(v.object({ Check: v.string(), Found: v.string(), Advice: v.string() })), []),
  Router: v.object({
    Encryption: v.boolean(),
    Interface: v.string(),
    Connections: v.array(v.object({ Address: v.string(), State: v.string(), Info: v.string() })),
  }),
  IPAM: v.object({
    Range: v.string(),
    RangeNumIPs: v.number(),
    Paxos: v.nullish(v.unknown()),
    Entries: v.nullish(
      v.array(
        v.object({ Size: v.number(), Peer: v.string(), Nickname: v.string(), IsKnownPeer: v.boolean() }),
      ),
    ),
    PendingAllocates: v.nullish(v.array(v.string())),
  }),
});
type Report = v.InferOutput<typeof Report>;

const ANSWER_MS = 5_000;
/** Shares of the range that nobody can reach are worth a word from here on. */
const UNREACHABLE = 0.05;

/** What a router says; undefined where none runs. */
export async function askRouter(api: ApiClient): Promise<Report | undefined> {
  try {
    return v.parse(
      Report,
      JSON.parse(await api("GET", "/report", { accept: "application/json", timeoutMs: ANSWER_MS })),
    );
  } catch (error) {
    if (error instanceof RouterDownError) return undefined;
    if (error instanceof ApiError) throw new Error(`the router does not answer: ${error.message}`);
    throw error;
  }
}

/** The link that other hosts are behind: "vxlan-6784 (fast datapath: …)". */
export const portOf = ({ Router }: Report) => Router.Interface.split(" ")[0] ?? "";

export const rangeOf = (report: Report | undefined) => report && parseCidr(report.IPAM.Range);

export function routerFindings(report: Report | undefined): Finding[] {
  if (!report) {
    const start = "'weave launch' starts it";
    if (!existsSync(stateFile())) return [warning("router", "it was never launched on this host", start)];
    return [problem("router", "it does not run", start)];
  }
  const { Router, IPAM } = report;
  const established = Router.Connections.filter(({ State }) => State === "established");
  // A peer that is refused has its own problem, with the cause and what to do about it.
  const failing = Router.Connections.filter(
    ({ State, Address }) =>
      (State === "failed" || State === "retrying") &&
      !report.Problems.some(({ Found }) => Found.includes(` at ${Address} `)),
  );
  const slow = established.filter(({ Info }) => /\bsleeve\b/.test(Info));
  const unreachable = (IPAM.Entries ?? []).filter(({ IsKnownPeer }) => !IsKnownPeer);
  const share = unreachable.reduce((sum, { Size }) => sum + Size, 0) / IPAM.RangeNumIPs;
  const names = [
    ...new Set(unreachable.map(({ Peer, Nickname }) => (Nickname ? `${Nickname} (${Peer})` : Peer))),
  ];
  return [
    report.Ready
      ? ok("router", `it is ready, with ${established.length} connections`)
      : problem("router", "it is not ready yet", "see its log"),
    ...(report.Repairs ? repairFindings(report.Repairs, Date.now()) : []),
    ...report.Problems.map(({ Check, Found, Advice }) => problem(Check, Found, Advice)),
    ...failing.map(({ Address, Info }) =>
      problem(
        "connections",
        `${Address} is not reached: ${Info}`,
        /password|decrypt/i.test(Info)
          ? "launch all hosts with the same password"
          : "open TCP 6783 and UDP 6783, 6784 between hosts, or 'weave forget' it",
      ),
    ),
    ...slow.map(({ Address, Info }) =>
      warning(
        "connections",
        `${Address} is reached by sleeve only: ${Info}`,
        "open UDP 6784 between hosts, and see its MTU; 'weave status connections' says why",
      ),
    ),
    ...(share > UNREACHABLE
      ? [
          warning(
            "addresses",
            `${Math.round(share * 100)} % of the range belongs to peers that cannot be reached: ${names.join(", ")}`,
            "'weave rmpeer NAME' takes over from those that are gone for good",
          ),
        ]
      : []),
    ...((IPAM.PendingAllocates ?? []).length > 0
      ? [
          problem(
            "addresses",
            `${IPAM.PendingAllocates?.length} containers wait for addresses`,
            "see 'weave status ipam'",
          ),
        ]
      : []),
  ];
}
