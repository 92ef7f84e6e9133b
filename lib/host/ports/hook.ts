// Attachment of programs to links: by traffic control, which takes 0.2 ms; or by TCX, which takes 10 ms (the kernel waits for
// all processors) but leaves the queueing discipline of the link to others: CNI's bandwidth plugin adds its own.
import { openProgram, type Program, programId } from "../../bpf/program.ts";
import { tcxAttach, tcxDetach, tcxPrograms } from "../../bpf/tcx.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import {
  bpfFilterAttach,
  bpfFilterDelete,
  bpfFilterList,
  type Direction,
} from "../../netlink/trafficcontrol.ts";
import { EEXIST, ENOENT, isErrno } from "../../sys/errno.ts";
import { PROGRAM_NAMES } from "./program.ts";

/** A link of the namespace that both this thread and the socket are in. */
export interface HookLink {
  readonly name: string;
  readonly index: number;
}

export type How = "tc" | "tcx";

/** The flow cache's program at egress of ports. */
export const CONFIRM_PROGRAM = "weave_confirm";

const NAMES: readonly string[] = Object.values(PROGRAM_NAMES);

/** Open our program on a link, if there is one; `known` itself if it is that one. Throws NetlinkError, SysError. */
export function findProgram(
  nl: NetlinkSocket,
  link: HookLink,
  direction: Direction,
  known?: Program,
): { program: Program; how: How } | undefined {
  for (const how of ["tc", "tcx"] as const) {
    const program = findBy(how, nl, link, direction, known);
    if (program) return { program, how };
  }
  return undefined;
}

/** Return the ids of the programs on a link. */
export function hookedPrograms(
  how: How,
  nl: NetlinkSocket,
  link: HookLink,
  direction: Direction,
): readonly number[] {
  return how === "tc"
    ? bpfFilterList(nl, link.index, direction).map(({ id }) => id)
    : (tcxPrograms(link.index, direction) ?? []);
}

function findBy(
  how: How,
  nl: NetlinkSocket,
  link: HookLink,
  direction: Direction,
  known?: Program,
): Program | undefined {
  const knownId = known && programId(known);
  for (const id of hookedPrograms(how, nl, link, direction)) {
    if (id === knownId) return known;
    const program = open(id);
    if (program && NAMES.includes(program.name)) return program;
    program?.close();
  }
  return undefined;
}

/** Attach a program to a link; by traffic control, atomically in place of the one before. */
export function hook(
  how: How,
  nl: NetlinkSocket,
  link: HookLink,
  direction: Direction,
  program: Program,
): void {
  if (how === "tc") {
    bpfFilterAttach(nl, link.name, link.index, direction, program);
    return;
  }
  // The process that attached the container may have attached it, and be doing so now.
  if (!replaceTcx(nl, link, direction, program)) replaceTcx(nl, link, direction, program);
}

/** Attach a program by TCX in place of ours, unless it is there; false if another one was attached meanwhile. */
function replaceTcx(nl: NetlinkSocket, link: HookLink, direction: Direction, program: Program): boolean {
  const before = findBy("tcx", nl, link, direction, program);
  if (before === program) return true;
  try {
    tcxAttach(link.index, direction, program, before);
    return true;
  } catch (error) {
    if (isErrno(error, EEXIST)) return false;
    throw error;
  } finally {
    before?.close();
  }
}

/** Detach a program of ours that is attached in the other way. */
export function unhookOther(how: How, nl: NetlinkSocket, link: HookLink, direction: Direction): void {
  const other = how === "tc" ? "tcx" : "tc";
  const program = findBy(other, nl, link, direction);
  if (!program) return;
  try {
    if (other === "tc") bpfFilterDelete(nl, link.name, link.index, direction);
    else tcxDetach(link.index, direction, program);
  } finally {
    program.close();
  }
}

/** Whether the kernel has TCX. */
export function hasTcx(link: HookLink): boolean {
  return tcxPrograms(link.index, "ingress") !== undefined;
}

function open(id: number): Program | undefined {
  try {
    return openProgram(id);
  } catch (error) {
    // The program has gone since.
    if (isErrno(error, ENOENT)) return undefined;
    throw error;
  }
}
