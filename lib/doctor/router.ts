// The router of this host: whether it runs and answers, and the findings of its report.
import { existsSync } from "node:fs";
import * as v from "valibot";
import { parseCidr } from "../address/ipv4.ts";
import { type ApiClient, ApiError, NO_ANSWER, RouterDownError, RouterSilentError } from "../api/client.ts";
import { controlSocket, stateFile } from "../api/paths.ts";
import { isInstanceLocked, runningPid } from "../router/instance.ts";
import { isStopped } from "../sys/processes.ts";
import { reasonOf } from "../sys/reason.ts";
import type { Trouble } from "../sys/trouble.ts";
import { addressFindings, IpamSchema } from "./addresses.ts";
import { type Finding, ok, problem, reported, warning } from "./finding.ts";
import { ConnectionSchema, connectionFindings } from "./peers.ts";
import { RepairsSchema, repairFindings } from "./repairs.ts";

const Report = v.object({
  Ready: v.boolean(),
  Repairs: v.optional(RepairsSchema),
  Problems: v.optional(
    v.array(
      v.object({ Check: v.string(), Found: v.string(), Advice: v.string(), Address: v.optional(v.string()) }),
    ),
    [],
  ),
  Router: v.object({
    Encryption: v.boolean(),
    Interface: v.string(),
    Port: v.optional(v.number()),
    Mtu: v.optional(v.object({ Auto: v.boolean() })),
    Connections: v.array(ConnectionSchema),
  }),
  /** Missing where no addresses are allocated. */
  IPAM: v.optional(IpamSchema),
});
export type RouterSeen = v.InferOutput<typeof Report>;

/** Longer than the client takes to detect a stopped router. */
const ANSWER_MS = 8_000;

export type RouterState =
  | {
      readonly state: "answers";
      readonly report: RouterSeen;
      /** Why no address can be allocated now. */
      readonly obstacle: Trouble | undefined;
    }
  /** It runs and does not answer; `stopped`: by a signal. */
  | { readonly state: "silent"; readonly pid: number | undefined; readonly stopped: boolean }
  /** It has the instance's lock, and no control socket. */
  | { readonly state: "no socket"; readonly pid: number | undefined }
  /** It answers with an error, or not with a report. */
  | { readonly state: "failing"; readonly reason: string }
  | { readonly state: "down"; readonly launchedBefore: boolean };

/** Ask the router for its report. Never rejects. */
export async function askRouter(api: ApiClient): Promise<RouterState> {
  try {
    const answer = await api("GET", "/report", { accept: "application/json", timeoutMs: ANSWER_MS });
    const report = v.safeParse(Report, JSON.parse(answer));
    if (!report.success) return { state: "failing", reason: "its report is of another version" };
    // Asking a router that has no ring yet would begin the division of the range.
    const obstacle = report.output.IPAM?.Entries ? await obstacleNow(api) : undefined;
    return { state: "answers", report: report.output, obstacle };
  } catch (error) {
    if (error instanceof RouterSilentError) return silent();
    if (error instanceof RouterDownError) return absent();
    if (error instanceof ApiError && error.status === NO_ANSWER) return silent();
    return { state: "failing", reason: reasonOf(error) };
  }
}

const ObstacleJson = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({ cause: v.string(), reason: v.string(), remedy: v.string() }),
);

async function obstacleNow(api: ApiClient): Promise<Trouble | undefined> {
  try {
    await api("GET", "/ipinfo/available", { accept: "application/json", timeoutMs: ANSWER_MS });
    return undefined;
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 503)) throw error;
    const read = v.safeParse(ObstacleJson, error.message);
    // A router of an earlier version tells the reason alone.
    return read.success
      ? read.output
      : { cause: "other", reason: error.message, remedy: "see 'weave status ipam'" };
  }
}

function silent(): RouterState {
  const pid = runningPid();
  return { state: "silent", pid, stopped: pid !== undefined && isStopped(pid) };
}

function absent(): RouterState {
  if (isInstanceLocked()) return { state: "no socket", pid: runningPid() };
  return { state: "down", launchedBefore: existsSync(stateFile()) };
}

/** The link that other hosts are behind: "vxlan-6784 (fast datapath: …)". */
export const portOf = ({ Router }: RouterSeen) => Router.Interface.split(" ")[0] ?? "";

/** Return what the overlays of established connections report. */
export const overlaysInUse = (report: RouterSeen | undefined) =>
  (report?.Router.Connections ?? []).flatMap(({ State, Attrs }) =>
    State === "established" && Attrs?.["name"] !== undefined ? [Attrs] : [],
  );

export const rangeOf = (report: RouterSeen | undefined) => report?.IPAM && parseCidr(report.IPAM.Range);

/** What is wrong with a router, answering or not. */
export function routerFindings(router: RouterState): Finding[] {
  const process = "pid" in router && router.pid !== undefined ? ` (pid ${router.pid})` : "";
  switch (router.state) {
    case "answers":
      return reportFindings(router.report, router.obstacle);
    case "silent":
      return [
        router.stopped
          ? problem(
              "router",
              `it runs${process} and does not answer: stopped by a signal`,
              `'kill -CONT ${router.pid}' resumes it`,
            )
          : problem(
              "router",
              `it runs${process} and does not answer: this host is overloaded, or the router hangs`,
              "see 'top' and 'weave logs'; 'weave stop' and 'weave launch' restart it",
            ),
      ];
    case "no socket":
      return [
        problem(
          "router",
          `it runs${process} but does not listen at ${controlSocket()}: it is starting or stopping, or the socket was removed`,
          "wait a moment; if that persists, 'weave stop' and 'weave launch' restart it",
        ),
      ];
    case "failing":
      return [problem("router", `cannot read its report: ${router.reason}`, "see 'weave logs'")];
    case "down":
      return router.launchedBefore
        ? [problem("router", "not running", "'weave launch' starts it")]
        : [warning("router", "never launched on this host", "'weave launch' starts it")];
  }
}

/** What a router's own report says is wrong. `obstacle`: why a container would get no address now. */
export function reportFindings(report: RouterSeen, obstacle?: Trouble): Finding[] {
  const { Router, IPAM, Problems } = report;
  const established = Router.Connections.filter(({ State }) => State === "established").length;
  const told = new Set(Problems.flatMap(({ Address }) => Address ?? []));
  const addresses = IPAM ? addressFindings(IPAM, obstacle) : [];
  // What keeps it from being ready is said on its own, where it is known.
  const notReady = problem("router", "not ready for containers yet", "see 'weave logs'");
  return [
    report.Ready
      ? ok("router", `ready, with ${established} connection${established === 1 ? "" : "s"}`)
      : addresses.some(({ level }) => level === "problem")
        ? warning("router", "not ready for containers yet", "see 'addresses'")
        : notReady,
    ...(report.Repairs ? repairFindings(report.Repairs, Date.now()) : []),
    ...Problems.map(reported),
    ...connectionFindings(Router.Connections, told),
    ...addresses,
  ];
}
