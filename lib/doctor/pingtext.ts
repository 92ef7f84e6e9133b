// What weave ping prints: a line for each peer and overlay, and below it what is wrong and the remedy.
import type { Pings, Shape } from "../api/shapes.ts";
import { printable, printedLines } from "../log/printable.ts";

type Ping = Shape<typeof Pings>[number];
type Way = Ping["overlays"][number];

/** Columns of a peer; longer nicknames are cut. */
const PEER_WIDTH = 20;
const HEADING = ["PEER", "OVERLAY", "LOST", "ROUND TRIP (MS)", "MTU"];
const WIDTHS = [PEER_WIDTH, 14, 9, 20, 12];

export function pingText(pings: readonly Ping[]): string {
  if (pings.length === 0) return "no peer is connected: 'weave status connections' shows why\n";
  return printedLines([row(HEADING), ...pings.flatMap(pingLines)]);
}

function pingLines(ping: Ping): string[] {
  const name = nameOf(ping.peer).slice(0, PEER_WIDTH);
  if (ping.overlays.length === 0) {
    if (ping.note !== null) return [row([name, "-", "-", "-", "-"]), remark(ping.note)];
    return [row([name, "-", "all", "-", "-"]), ...wrong(ping)];
  }
  return ping.overlays.flatMap((way, i) => [
    row([i === 0 ? name : "", overlayOf(way, ping.via), lost(way), trip(way), mtuOf(way, ping.networkMtu)]),
    ...wrong(way),
  ]);
}

const nameOf = ({ name, nickname }: Ping["peer"]) => printable(nickname || name);

function overlayOf({ overlay, inUse }: Way, via: Ping["via"]): string {
  if (via) return `via ${nameOf(via)}`.slice(0, (WIDTHS[1] ?? 0) - 1);
  return inUse ? overlay : `(${overlay})`;
}

const lost = ({ sent, received }: Way) => (received === 0 ? "all" : `${sent - received} of ${sent}`);

function trip({ roundTripMs }: Way): string {
  if (!roundTripMs) return "-";
  const { min, median, max } = roundTripMs;
  return [min, median, max].map((ms) => ms.toFixed(ms < 10 ? 2 : 0)).join("/");
}

const mtuOf = ({ mtu }: Way, network: number) =>
  mtu === null ? "-" : mtu < network ? `${mtu} of ${network}` : `${mtu}`;

const remark = (text: string) => `  ${text}`;

function wrong({ problem, remedy }: { problem: string | null; remedy: string | null }): string[] {
  if (problem === null) return [];
  return [remark(`problem: ${problem}`), ...(remedy === null ? [] : [remark(`-> ${remedy}`)])];
}

function row(cells: readonly string[]): string {
  return cells
    .map((cell, i) => cell.padEnd(WIDTHS[i] ?? 0))
    .join(" ")
    .trimEnd();
}

/** Whether anything is wrong with the path to any of the peers. */
export function hasPingProblem(pings: readonly Ping[]): boolean {
  return pings.some(
    ({ problem, overlays }) => problem !== null || overlays.some((way) => way.problem !== null),
  );
}
