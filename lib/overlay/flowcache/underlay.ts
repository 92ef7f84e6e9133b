// The flow cache's programs on the links of the underlay that lead to neighbours, as desired state. Programs of others on these links
// stay, and come first.
import type { IPv4 } from "../../address/ipv4.ts";
import { openProgram, type Program, programId } from "../../bpf/program.ts";
import { tcxAttach, tcxDetach, tcxPrograms } from "../../bpf/tcx.ts";
import type { Change, Resource } from "../../host/reconcile/resource.ts";
import { linkByIndex, linkList } from "../../netlink/link.ts";
import { pathTo } from "../../netlink/path.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import {
  bpfFilterDelete,
  bpfFilterList,
  bpfFilterReplace,
  clsactEnsure,
  type Direction,
} from "../../netlink/trafficcontrol.ts";
import { ENODEV, ENOENT, isErrno } from "../../sys/errno.ts";

/** Names of the programs. */
export const UNDERLAY_PROGRAMS = { ingress: "weave_arrive", egress: "weave_depart" } as const;
const DIRECTIONS = ["ingress", "egress"] as const;
/** Priority of filters of traffic control: behind all that others add without one. */
const PRIORITY = 0xc000;

interface Place {
  readonly link: number;
  readonly name: string;
  readonly direction: Direction;
}

interface PlaceChange extends Change, Place {
  readonly wanted: boolean;
}

type Found = ReadonlyMap<
  string,
  { readonly place: Place; readonly wanted: boolean; readonly id: number | undefined }
>;

export interface UnderlayPrograms {
  readonly ingress: Program;
  readonly egress: Program;
}

/** The programs on links; a host may have many links, and few lead to neighbours. */
export class UnderlayHooks implements Resource<ReadonlySet<number>, Found, PlaceChange> {
  readonly name = "flow cache programs";
  readonly sources = ["underlay", "maps"] as const;
  /** Links that have had programs of ours. */
  readonly #hooked = new Set<number>();
  /** The link to each neighbour, as last looked up; undefined without a route. */
  readonly #paths = new Map<IPv4, number | undefined>();

  constructor(
    private readonly nl: NetlinkSocket,
    private readonly neighbours: () => Iterable<IPv4>,
    readonly programs: () => UnderlayPrograms,
    readonly trouble: (reason: string | undefined) => void,
  ) {}

  /** The links by which neighbours are reached. */
  desired(): ReadonlySet<number> {
    this.#paths.clear();
    return this.#lookForPaths();
  }

  /** Return whether the neighbours of now need other links than those of the last call; looks up only new neighbours. */
  isOutdated(): boolean {
    const before = new Set(this.#paths.values());
    const links = this.#lookForPaths();
    before.delete(undefined);
    return links.size !== before.size || [...links].some((link) => !before.has(link));
  }

  #lookForPaths(): Set<number> {
    const neighbours = new Set(this.neighbours());
    for (const address of this.#paths.keys()) if (!neighbours.has(address)) this.#paths.delete(address);
    for (const address of neighbours)
      if (!this.#paths.has(address)) this.#paths.set(address, pathTo(this.nl, address)?.link);
    return new Set([...this.#paths.values()].filter((link) => link !== undefined));
  }

  observe(desired: ReadonlySet<number>): Found {
    const found = new Map<string, { place: Place; wanted: boolean; id: number | undefined }>();
    for (const index of new Set([...desired, ...this.#hooked])) {
      const link = linkByIndex(this.nl, index);
      if (!link || link.leaving) this.#hooked.delete(index);
      // Only Ethernet headers can be written.
      else if (link.address !== undefined)
        for (const direction of DIRECTIONS) {
          const place = { link: index, name: link.name, direction };
          const id = programsOn(this.nl, index, direction)[0];
          found.set(`${index} ${direction}`, { place, wanted: desired.has(index), id });
        }
    }
    return found;
  }

  difference(_desired: ReadonlySet<number>, found: Found): PlaceChange[] {
    return [...found.values()].flatMap(({ place, wanted, id }): PlaceChange[] => {
      const object = `program ${UNDERLAY_PROGRAMS[place.direction]} at ${place.direction} of ${place.name}`;
      if (!wanted) return id === undefined ? [] : [{ ...place, object, wrong: "not needed", wanted }];
      if (id === programId(this.programs()[place.direction])) return [];
      return [{ ...place, object, wrong: id === undefined ? "missing" : "built for another router", wanted }];
    });
  }

  apply(changes: readonly PlaceChange[]): void {
    for (const { link, name, direction, wanted } of changes) {
      try {
        if (wanted) {
          attach(this.nl, name, link, direction, this.programs()[direction]);
          this.#hooked.add(link);
        } else detach(this.nl, name, link, direction);
      } catch (error) {
        // The link has gone since.
        if (!isErrno(error, ENODEV)) throw error;
      }
    }
  }
}

function attach(nl: NetlinkSocket, name: string, link: number, direction: Direction, program: Program): void {
  if (tcxPrograms(link, direction) === undefined) {
    clsactEnsure(nl, name, link);
    bpfFilterReplace(nl, name, link, direction, program, PRIORITY);
    return;
  }
  const [before] = programsOn(nl, link, direction);
  const instead = before === undefined ? undefined : openProgram(before);
  try {
    tcxAttach(link, direction, program, instead);
  } finally {
    instead?.close();
  }
}

function detach(nl: NetlinkSocket, name: string, link: number, direction: Direction): void {
  for (const id of programsOn(nl, link, direction)) {
    if (tcxPrograms(link, direction) === undefined) {
      bpfFilterDelete(nl, name, link, direction, PRIORITY);
      return;
    }
    const program = openProgram(id);
    try {
      tcxDetach(link, direction, program);
    } finally {
      program.close();
    }
  }
}

/** Return the ids of our programs on a link. */
function programsOn(nl: NetlinkSocket, link: number, direction: Direction): number[] {
  const tcx = tcxPrograms(link, direction);
  if (tcx === undefined)
    return bpfFilterList(nl, link, direction)
      .filter(({ name }) => name === UNDERLAY_PROGRAMS[direction])
      .map(({ id }) => id);
  return tcx.filter((id) => nameOf(id) === UNDERLAY_PROGRAMS[direction]);
}

function nameOf(id: number): string | undefined {
  try {
    const program = openProgram(id);
    program.close();
    return program.name;
  } catch (error) {
    if (isErrno(error, ENOENT)) return undefined;
    throw error;
  }
}

/** Remove the programs from all links of the namespace. Returns whether there were any. */
export function removeUnderlayPrograms(nl: NetlinkSocket): boolean {
  let found = false;
  for (const { index, name } of linkList(nl))
    for (const direction of DIRECTIONS) {
      if (programsOn(nl, index, direction).length === 0) continue;
      detach(nl, name, index, direction);
      found = true;
    }
  return found;
}
