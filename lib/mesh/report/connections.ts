// Connections and targets in the report.
import { type Clock, dateOf } from "../../clock/clock.ts";
import { type TroubleReport, troubleReport } from "../../sys/trouble.ts";
import type { LocalConnection } from "../connection.ts";
import type { Target } from "../dial/target.ts";
import type { MeshRouter } from "../router.ts";
import { type VitalsReport, vitalsReport } from "./peers.ts";

export interface ConnectionReport {
  Address: string;
  Outbound: boolean;
  State: "established" | "pending" | "retrying" | "failed" | "connecting" | "waiting";
  Info: string;
  Attrs: Record<string, string | number | boolean> | null;
  /** Why it is not connected, or why frames go by a slower overlay than they could. */
  Trouble?: TroubleReport;
  /** RFC 3339, when it is tried again; absent for a target that is connected, or never tried again. */
  RetryAt?: string;
  /** The peer at the other end, once it is known. */
  Peer?: { Name: string; NickName: string };
  /** Absent for targets that are not connected. */
  Vitals?: VitalsReport;
}

export function connectionReport(mesh: MeshRouter, connection: LocalConnection): ConnectionReport {
  const attributes = connection.attributes() ?? {};
  const trouble = connection.slowness();
  const secrecy = mesh.encryption ? `${(connection.trusted ? "unencrypted" : "encrypted").padEnd(11)} ` : "";
  return {
    Address: connection.address,
    Outbound: connection.outbound,
    State: connection.established ? "established" : "pending",
    Info: `${secrecy}${String(attributes["name"] ?? "none").padEnd(6)} ${connection.remote}`,
    Attrs: mesh.encryption && !connection.trusted ? { ...attributes, encrypted: true } : attributes,
    Peer: { Name: connection.remote.name, NickName: connection.remote.nickName },
    ...(trouble && { Trouble: troubleReport(trouble) }),
    Vitals: vitalsReport(mesh.clock, connection),
  };
}

export function targetReport(clock: Clock, Address: string, target: Target): ConnectionReport[] {
  const { lastError, trouble, tryAfter } = target;
  const error = lastError?.message;
  const retry = target.state === "waiting" && tryAfter !== undefined ? dateOf(clock, tryAfter) : undefined;
  const report = (State: ConnectionReport["State"], Info: string): ConnectionReport[] => [
    {
      ...{ Address, Outbound: true, State, Info, Attrs: null },
      ...(trouble && { Trouble: troubleReport(trouble) }),
      ...(retry && { RetryAt: retry.toISOString() }),
    },
  ];
  const state = targetStateName(target);
  const when = retry ? goTime(retry) : "never";
  switch (state) {
    case undefined:
      return [];
    case "waiting":
      return report(state, `until: ${when}`);
    case "failed":
      return report(state, `${error}, retry: ${when}`);
    default:
      return report(state, error ?? "");
  }
}

/** Return the state of a target in the report; undefined for one that is connected, which a connection shows. */
export function targetStateName({ state, lastError }: Target): ConnectionReport["State"] | undefined {
  switch (state) {
    case "attempting":
      return lastError ? "retrying" : "connecting";
    case "waiting":
      return lastError ? "failed" : "waiting";
    case "connected":
      return undefined;
  }
}

/** As Go prints a time: "2026-11-21 05:59:44.284 +0000 UTC". */
function goTime(date: Date): string {
  return `${date.toISOString().replace("T", " ").replace("Z", "")} +0000 UTC`;
}
