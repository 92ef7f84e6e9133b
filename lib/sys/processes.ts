// Visible processes, from /proc.
import { readdirSync, readlinkSync } from "node:fs";
import { textOf } from "./textfile.ts";

/** Return their pids; any process may end before it is looked at. */
export function processIds(): string[] {
  try {
    return readdirSync("/proc").filter((entry) => /^\d+$/.test(entry));
  } catch {
    return [];
  }
}

/** Return whether a process is stopped by a signal ("T" in proc_pid_status(5)) or a debugger ("t"). */
export const isStopped = (pid: string | number): boolean =>
  /^State:\s+[Tt]/m.test(textOf(`/proc/${pid}/status`));

const CAP_NET_ADMIN = 12n;

/**
 * Return whether a process can change this network namespace, as programs that manage a host's network can: in it, and with
 * CAP_NET_ADMIN in our user namespace. Anyone, in a container or not, can call a process what they like; such a one is none.
 */
export function managesNetwork(pid: string | number): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(textOf(`/proc/${pid}/status`))?.[1];
  const capabilities = BigInt(`0x${effective ?? "0"}`);
  return ((capabilities >> CAP_NET_ADMIN) & 1n) === 1n && ["net", "user"].every((kind) => isOurs(pid, kind));
}

/** A kernel may have no namespaces of a kind. */
const isOurs = (pid: string | number, kind: string) =>
  namespaceOf(pid, kind) === namespaceOf("thread-self", kind);

function namespaceOf(process: string | number, kind: string): string | undefined {
  try {
    return readlinkSync(`/proc/${process}/ns/${kind}`);
  } catch {
    return undefined;
  }
}
