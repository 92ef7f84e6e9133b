// The table of `weave top`, for 80 columns. Pure.
import { rateText } from "../../lib/api/quantities.ts";
import type { Shape, Top } from "../../lib/api/shapes.ts";
import { printable } from "../../lib/log/printable.ts";

type TopAnswer = Shape<typeof Top>;
type Row = TopAnswer["containers"][number];

const NAME_WIDTH = 24;
const MORE = "…";

/** Widths of the columns after the name; negative: to the left. */
const COLUMNS: readonly (readonly [heading: string, width: number, text: (row: Row) => string])[] = [
  ["ADDRESS", -16, ({ addresses }) => addressText(addresses)],
  ["IN", 9, ({ receivedBytesPerS }) => rateText(receivedBytesPerS)],
  ["OUT", 9, ({ sentBytesPerS }) => rateText(sentBytesPerS)],
  ["PKTS/S", 8, ({ receivedPacketsPerS, sentPacketsPerS }) => String(receivedPacketsPerS + sentPacketsPerS)],
  ["DROPS", 8, dropText],
];

/** "10.32.0.5", and how many more it has. */
function addressText([first, ...more]: readonly string[]): string {
  if (first === undefined) return "-";
  const address = first.replace(/\/.*/, "");
  return more.length === 0 ? address : `${address} +${more.length}`;
}

/** All drops, and how many are new: "1204 +16". */
function dropText({ receivedDropped, sentDropped, newlyDropped }: Row): string {
  const all = String(receivedDropped + sentDropped);
  return newlyDropped === 0 ? all : `${all} +${newlyDropped}`;
}

const fit = (text: string, width: number) =>
  text.length <= Math.abs(width)
    ? width < 0
      ? text.padEnd(-width)
      : text.padStart(width)
    : `${text.slice(0, Math.abs(width) - 1)}${MORE}`;

/** What is above the table: the host, how much there is, and all traffic. */
export function topSummary({ nickname, peers, containers }: TopAnswer): string {
  const sum = (of: (row: Row) => number) => rateText(containers.reduce((all, row) => all + of(row), 0));
  const some = (count: number, what: string) => `${count} ${what}${count === 1 ? "" : "s"}`;
  return [
    `${printable(nickname)}: ${some(containers.length, "container")}, ${some(peers, "peer")} connected`,
    `in ${sum((row) => row.receivedBytesPerS)}, out ${sum((row) => row.sentBytesPerS)}`,
  ].join("; ");
}

/** A heading and a line for each container; a sentence where there is none. */
export function topLines(answer: TopAnswer): string[] {
  if (answer.containers.length === 0)
    return ["no containers on the network: 'weave attach' or the CNI plugin attaches them"];
  const line = (name: string, cells: readonly string[]) =>
    [fit(name, -NAME_WIDTH), ...cells].join(" ").trimEnd();
  return [
    line(
      "CONTAINER",
      COLUMNS.map(([heading, width]) => fit(heading, width)),
    ),
    ...answer.containers.map((row) =>
      line(
        printable(row.name),
        COLUMNS.map(([, width, text]) => fit(text(row), width)),
      ),
    ),
  ];
}
