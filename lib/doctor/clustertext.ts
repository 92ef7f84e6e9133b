// What weave doctor --cluster prints: a line for each host, what is wrong there, and then the paths between hosts.
import type { Cluster, Shape } from "../api/shapes.ts";
import { printable, printedLines } from "../log/printable.ts";

type Found = Shape<typeof Cluster>;
type Host = Found["hosts"][number];
type Path = Found["paths"][number];

/** Columns; longer text is cut. */
const HOST_WIDTH = 20;
const VERSION_WIDTH = 16;

const STATES: Readonly<Record<Host["state"], string>> = {
  answers: "",
  older: "not asked: Weave Net 2.x or an older version, or only reached through one",
  silent: "no answer",
  refused: "no usable answer",
  lost: "lost",
};

export function clusterText(found: Found): string {
  return printedLines([
    row("HOST", "VERSION", "PROBLEMS"),
    ...found.hosts.flatMap(hostLines),
    ...found.paths.flatMap((path) => pathLines(path, found.hosts)),
    "",
    pathsSummary(found.paths),
  ]);
}

/** Return whether any host or path has a problem; hosts that cannot be asked have none. */
export function hasClusterProblem({ hosts, paths }: Found): boolean {
  return (
    hosts.some(({ problems }) => problems.some(({ level }) => level === "problem")) ||
    paths.some(({ ping }) => ping.problem !== null || ping.overlays.some(({ problem }) => problem !== null))
  );
}

function row(host: string, version: string, problems: string): string {
  return `${fit(host, HOST_WIDTH)} ${fit(version, VERSION_WIDTH)} ${problems}`;
}

const fit = (text: string, width: number) => printable(text).slice(0, width).padEnd(width);
const nameOf = ({ name, nickname }: Host["peer"]) => nickname || name;

function hostLines({ peer, state, version, problems, more }: Host): string[] {
  const counted = (["problem", "warning"] as const).flatMap((level) => {
    const count = problems.filter((each) => each.level === level).length;
    return count === 0 ? [] : [`${count} ${level}${count === 1 ? "" : "s"}`];
  });
  const known = counted.join(", ") || "none";
  return [
    row(nameOf(peer), version ?? "-", STATES[state] || known),
    ...problems.flatMap(({ level, check, found, advice }) => [
      `  ${level}: ${check}: ${found}`,
      ...(advice === "" ? [] : [`  -> ${advice}`]),
    ]),
    ...(more > 0 ? [`  ${more} more: 'weave doctor' there shows them`] : []),
  ];
}

function pathLines({ from, ping }: Path, hosts: readonly Host[]): string[] {
  // Problems of the whole host are listed with it.
  const told = hosts.some(({ peer, state }) => peer.name === ping.peer.name && state !== "answers");
  if (ping.overlays.length === 0 && told) return [];
  const between = `${nameOf(from)} -> ${nameOf(ping.peer)}`;
  return [ping, ...ping.overlays].flatMap(({ problem, remedy }) =>
    problem === null
      ? []
      : [`  problem: ${between}: ${problem}`, ...(remedy === null ? [] : [`  -> ${remedy}`])],
  );
}

function pathsSummary(paths: readonly Path[]): string {
  const tried = paths.filter(({ ping }) => ping.note === null);
  if (tried.length === 0) return "paths: none was tried";
  const carrying = tried.flatMap(({ ping }) =>
    ping.overlays.filter(({ inUse, problem }) => inUse && problem === null),
  );
  const total = `paths: ${carrying.length} of ${tried.length} carry frames by the overlay in use`;
  const medians = carrying.flatMap(({ roundTripMs }) => roundTripMs?.median ?? []).sort((a, b) => a - b);
  const mtus = carrying.flatMap(({ mtu }) => mtu ?? []).sort((a, b) => a - b);
  if (medians.length === 0 || mtus.length === 0) return `${total} without a problem`;
  const span = (values: readonly number[], digits: number) => {
    const [first = 0, last = 0] = [values[0], values.at(-1)].map((value) => value ?? 0);
    return first === last ? first.toFixed(digits) : `${first.toFixed(digits)} to ${last.toFixed(digits)}`;
  };
  return `${total} without a problem; round trip ${span(medians, 2)} ms, MTU ${span(mtus, 0)}`;
}
