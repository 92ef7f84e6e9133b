// "weave status connections": the original's lines, followed by new facts; on a terminal with a
// heading and more lines for each.
import { paragraph } from "../log/paragraph.ts";
import { printedLines } from "../log/printable.ts";
import type { ConnectionReport } from "../mesh/report/connections.ts";
import type { LostReport, RefusedReport, VitalsReport } from "../mesh/report/peers.ts";
import { ageText, rateText, roundTripText } from "./quantities.ts";
import type { Report } from "./report.ts";

/** Indent of details below a connection. */
const INDENT = 5;

const front = (outbound: boolean, address: string, state: string) =>
  `${outbound ? "->" : "<-"} ${address.padEnd(21)} ${state.padEnd(11)}`;

const named = ({ Name, NickName }: { Name: string; NickName: string }) => `${Name}(${NickName})`;

const toTheSecond = (time: string) => time.replace(/\.\d+/, "");

/** Attributes in order of their names, without the reason for a slower overlay. */
function attributes({ Attrs }: ConnectionReport): string[] {
  const { name, reason, ...shown } = Attrs ?? {};
  return Object.entries(shown)
    .sort()
    .map(([key, value]) => `${key}=${value}`);
}

const isTarget = ({ State, Peer }: ConnectionReport) =>
  !Peer && (State === "failed" || State === "retrying" || State === "waiting");

const silence = ({ Vitals }: ConnectionReport) =>
  Vitals?.Silent ? ` silent for ${ageText(Vitals.LastHeardMs)}` : "";

function connectionLine(connection: ConnectionReport): string {
  const { Address, Outbound, State, Info, Attrs } = connection;
  const reason = Attrs?.["reason"];
  const words = [...attributes(connection), ...(reason === undefined ? [] : [`(${reason})`])].join(" ");
  return `${front(Outbound, Address, State)} ${Info} ${words}${silence(connection)}`;
}

const lostLine = ({ Address, Outbound, At, Reason, ...peer }: LostReport) =>
  `${front(Outbound, Address, "lost")} ${named(peer)} at ${toTheSecond(At)}: ${Reason}`;

function refusedLine({ Address, Outbound, Peer, Reason, Remedy, Since }: RefusedReport): string {
  const who = Peer ? `${named(Peer)} ` : "";
  return `${front(Outbound, Address, "refused")} ${who}since ${toTheSecond(Since)}: ${Reason}; ${Remedy}`;
}

/** Refused hosts that have no line as a target, which would show cause and remedy. */
function untargetedRefusals({ Connections, Refused = [] }: Report["Router"]): RefusedReport[] {
  const shown = new Set(Connections.map(({ Address }) => Address));
  return Refused.filter(({ Address }) => !shown.has(Address));
}

/** For scripts: one line each, which begins as the original's. */
export function connectionsText({ Router }: Report): string {
  return printedLines([
    ...Router.Connections.map(connectionLine),
    ...(Router.Lost ?? []).map(lostLine),
    ...untargetedRefusals(Router).map(refusedLine),
  ]);
}

/** For people: a heading, the same columns, and details below each line. */
export function connectionsTable({ Router }: Report): string {
  const secrecy = Router.Encryption ? `${"ENCRYPTION".padEnd(11)} ` : "";
  return printedLines([
    `   ${"ADDRESS".padEnd(21)} ${"STATE".padEnd(11)} ${secrecy}${"BY".padEnd(6)} PEER`,
    ...Router.Connections.flatMap((connection) =>
      isTarget(connection) ? targetLines(connection) : connectionLines(connection),
    ),
    ...(Router.Lost ?? []).flatMap(({ Address, Outbound, At, Reason, Remedy, ...peer }) => [
      `${front(Outbound, Address, "lost")} ${named(peer)}`,
      ...below(`at ${toTheSecond(At)}: ${Reason}`, Remedy),
    ]),
    ...untargetedRefusals(Router).flatMap(({ Address, Outbound, Peer, Since, Reason, Remedy }) => [
      `${front(Outbound, Address, "refused")} ${Peer ? named(Peer) : ""}`.trimEnd(),
      ...below(`since ${toTheSecond(Since)}: ${Reason}`, Remedy),
    ]),
  ]);
}

const below = (text: string, remedy: string) => [
  ...paragraph(text, INDENT),
  ...paragraph(`remedy: ${remedy}`, INDENT),
];

function targetLines({ Address, Outbound, State, Trouble, RetryAt }: ConnectionReport): string[] {
  const tried = State === "waiting" ? "tried" : "retried";
  return [
    front(Outbound, Address, State).trimEnd(),
    ...(Trouble ? below(Trouble.Reason, Trouble.Remedy) : []),
    ...(RetryAt === undefined ? [] : [`     ${tried} at ${toTheSecond(RetryAt)}`]),
  ];
}

function connectionLines(connection: ConnectionReport): string[] {
  const { Address, Outbound, State, Info, Trouble, Vitals } = connection;
  const line = [front(Outbound, Address, State), Info, ...attributes(connection)].join(" ").trimEnd();
  return [
    `${line}${silence(connection)}`,
    ...(Vitals ? [`     ${vitalsText(Vitals)}`] : []),
    ...(Trouble ? below(Trouble.Reason, Trouble.Remedy) : []),
  ];
}

function vitalsText({ RoundTripMs, LastHeardMs, ReceivedBytesPerS, SentBytesPerS }: VitalsReport): string {
  return [
    ...(RoundTripMs === null ? [] : [`round trip ${roundTripText(RoundTripMs)}`]),
    `heard ${ageText(LastHeardMs)} ago`,
    ...(ReceivedBytesPerS === null ? [] : [`in ${rateText(ReceivedBytesPerS)}`]),
    ...(SentBytesPerS === null ? [] : [`out ${rateText(SentBytesPerS)}`]),
  ].join(", ");
}
