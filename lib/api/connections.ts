// "weave status connections": the lines of the original, and behind them what it did not tell; on a terminal with a
// heading and more lines for each.
import { printedLines } from "../log/printable.ts";
import type { LostReport, RefusedReport } from "./peers.ts";
import { ageText, rateText, roundTripText } from "./quantities.ts";
import { overlayRemedy } from "./remedies.ts";
import type { ConnectionReport, Report } from "./report.ts";

const front = (outbound: boolean, address: string, state: string) =>
  `${outbound ? "->" : "<-"} ${address.padEnd(21)} ${state.padEnd(11)}`;

const named = ({ Name, NickName }: { Name: string; NickName: string }) => `${Name}(${NickName})`;

const toTheSecond = (time: string) => time.replace(/\.\d+/, "");

/** Attributes in order of their names, and last, in brackets, why a better overlay is not in use. */
function attributes({ Attrs }: ConnectionReport): string {
  const { name, reason, ...shown } = Attrs ?? {};
  const words = Object.entries(shown)
    .sort()
    .map(([key, value]) => `${key}=${value}`);
  return [...words, ...(reason === undefined ? [] : [`(${reason})`])].join(" ");
}

function connectionLine(connection: ConnectionReport): string {
  const { Address, Outbound, State, Info, Vitals } = connection;
  const silent = Vitals?.Silent ? ` silent for ${ageText(Vitals.LastHeardMs)}` : "";
  return `${front(Outbound, Address, State)} ${Info} ${attributes(connection)}${silent}`;
}

const lostLine = ({ Address, Outbound, At, Reason, ...peer }: LostReport) =>
  `${front(Outbound, Address, "lost")} ${named(peer)} at ${toTheSecond(At)}: ${Reason}`;

function refusedLine({ Address, Outbound, Peer, Reason, Remedy, Since }: RefusedReport): string {
  const who = Peer ? `${named(Peer)} ` : "";
  return `${front(Outbound, Address, "refused")} ${who}since ${toTheSecond(Since)}: ${Reason}; ${Remedy}`;
}

/** Refused hosts without a line as a target: that tells the cause and the remedy, too. */
function callers({ Connections, Refused = [] }: Report["Router"]): RefusedReport[] {
  const shown = new Set(Connections.map(({ Address }) => Address));
  return Refused.filter(({ Address }) => !shown.has(Address));
}

/** For scripts: one line each, which begins as the original's. */
export function connectionsText({ Router }: Report): string {
  return printedLines([
    ...Router.Connections.map(connectionLine),
    ...(Router.Lost ?? []).map(lostLine),
    ...callers(Router).map(refusedLine),
  ]);
}

/** For people: the same lines below a heading, and what is known of each connection below it. */
export function connectionsTable(report: Report): string {
  const { Router } = report;
  const secrecy = Router.Encryption ? `${"ENCRYPTION".padEnd(11)} ` : "";
  return printedLines([
    `   ${"ADDRESS".padEnd(21)} ${"STATE".padEnd(11)} ${secrecy}${"BY".padEnd(6)} PEER`,
    ...Router.Connections.flatMap((connection) => [connectionLine(connection), ...vitalsLines(connection)]),
    ...(Router.Lost ?? []).map(lostLine),
    ...callers(Router).map(refusedLine),
  ]);
}

function vitalsLines({ Vitals, Attrs }: ConnectionReport): string[] {
  if (!Vitals) return [];
  const { RoundTripMs, LastHeardMs, ReceivedBytesPerS, SentBytesPerS } = Vitals;
  const facts = [
    ...(RoundTripMs === null ? [] : [`round trip ${roundTripText(RoundTripMs)}`]),
    `heard ${ageText(LastHeardMs)} ago`,
    ...(ReceivedBytesPerS === null ? [] : [`in ${rateText(ReceivedBytesPerS)}`]),
    ...(SentBytesPerS === null ? [] : [`out ${rateText(SentBytesPerS)}`]),
  ];
  const reason = Attrs?.["reason"];
  const remedy = reason === undefined ? [] : [`     remedy: ${overlayRemedy(String(reason))}`];
  return [`     ${facts.join(", ")}`, ...remedy];
}
