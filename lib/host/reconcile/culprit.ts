// Who changed kernel state, as far as a notification tells.
import { readFileSync } from "node:fs";
import { printable } from "../../log/printable.ts";
import { managesNetwork } from "../../sys/processes.ts";

/** A process that changed kernel state. */
export interface Culprit {
  readonly pid: number;
  readonly name: string;
}

/** libnl puts the number of the socket into the bits above the pid. */
const PID_BITS = 22;

/** The pid that a netlink port may stand for; undefined for further sockets of a process, which get negative numbers. */
export function pidOf(port: number): number | undefined {
  return port === 0 || port >= 2 ** 31 ? undefined : port & ((1 << PID_BITS) - 1);
}

/**
 * Return the process that has this netlink port: most programs bind their first socket to their pid, or like libnl to the pid
 * in the low bits. Undefined where that is no live process that can change this network namespace: kernel threads, programs
 * that have ended, second sockets, other pid namespaces.
 */
export function culpritOf(port: number): Culprit | undefined {
  const pid = pidOf(port);
  if (pid === undefined || pid === process.pid || !managesNetwork(pid)) return undefined;
  try {
    return { pid, name: printable(readFileSync(`/proc/${pid}/comm`, "utf8").trim()) };
  } catch {
    return undefined;
  }
}
