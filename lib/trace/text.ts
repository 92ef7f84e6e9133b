// A trace for people: a line for each hop, which fits 80 columns or goes on indented.
import { WIDTH, wrap } from "../log/paragraph.ts";
import { printable } from "../log/printable.ts";
import type { Hop } from "./hops/hop.ts";
import type { Outcome } from "./trace.ts";

const STATE = { ok: "ok", fail: "FAIL", unknown: "?" } as const;
const MAX_HOST = 16;

export function traceText({ from, to, protocol, port, hops, reached }: Outcome): string {
  const what = protocol === "icmp" ? "ICMP echo" : `${protocol.toUpperCase()} port ${port}`;
  const name = (end: Outcome["from"] | Outcome["to"]) =>
    `${end.name === end.address ? "" : `${end.name} `}${end.address}${end.host === null ? "" : ` (${end.host})`}`;
  const title = printable(`${what}: ${name(from)} -> ${name(to)}`);
  const width = Math.max(...hops.map(({ host }) => shown(host).length));
  const lines = hops.flatMap((hop, i) => hopLines(hop, i + 1, width));
  return [...wrap(title, WIDTH), ...lines, conclusion(hops, reached), ""].join("\n");
}

const shown = (host: string) => printable(host).slice(0, MAX_HOST);

function hopLines({ host, name, state, found, advice }: Hop, number: number, width: number): string[] {
  const place = `${shown(host).padEnd(width)} ${name.padEnd(9)}`;
  const head = `${String(number).padStart(2)} ${STATE[state].padEnd(4)} ${place} `;
  const body = (text: string) => wrap(printable(text), WIDTH - head.length);
  const indent = " ".repeat(head.length);
  const told = body(found).map((line, i) => (i === 0 ? head : indent) + line);
  return [...told, ...(advice === undefined ? [] : body(`-> ${advice}`).map((line) => indent + line))];
}

function conclusion(hops: readonly Hop[], reached: boolean): string {
  if (reached) return "reached";
  const stop = hops.at(-1);
  return `stopped at ${stop?.name}${stop?.host ? ` on ${shown(stop.host)}` : ""}`;
}
