// Privileges of a daemon: capabilities are of a thread, so the bounding set is reduced before the program is executed, by the
// exec that a daemon's start has anyway. See capabilities(7), prctl(2), seccomp(2).
import { EPERM } from "./errno.ts";
import { capabilityBits, type DaemonName, namesOf } from "./privileges.ts";
import { filterCalls } from "./seccomp.ts";
import { trySyscall } from "./syscall.ts";
import { textOf } from "./textfile.ts";

/** linux/prctl.h */
const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;
/** linux/capability.h: _LINUX_CAPABILITY_VERSION_3, two words for each of the sets. */
const VERSION_3 = 0x20080522;

/** Privileges of a thread, from /proc/PID/status: proc_pid_status(5). */
export interface Privileges {
  readonly inheritable: bigint;
  readonly permitted: bigint;
  readonly effective: bigint;
  readonly bounding: bigint;
  readonly ambient: bigint;
  readonly noNewPrivileges: boolean;
  /** Filters of system calls. */
  readonly filtered: boolean;
}

/** Read a status file; sets that this kernel does not show are empty. */
export function privilegesIn(status: string): Privileges {
  const field = (name: string) => new RegExp(`^${name}:\\s*(\\S+)`, "m").exec(status)?.[1];
  const set = (name: string) => BigInt(`0x${field(name) ?? "0"}`);
  return {
    inheritable: set("CapInh"),
    permitted: set("CapPrm"),
    effective: set("CapEff"),
    bounding: set("CapBnd"),
    ambient: set("CapAmb"),
    noNewPrivileges: field("NoNewPrivs") === "1",
    filtered: field("Seccomp") === "2",
  };
}

const own = () => privilegesIn(textOf("/proc/thread-self/status"));

/**
 * Let programs that this thread executes have no capabilities but the daemon's; returns whether that has changed something. This
 * program keeps its own. Changes nothing without CAP_SETPCAP: a container's own set is the limit then.
 */
export function limitNextProgram(daemon: DaemonName): boolean {
  const before = own();
  const allowed = capabilityBits(namesOf(daemon));
  const surplus = before.bounding & ~allowed;
  if (surplus === 0n) return false;
  for (let number = 0; 1n << BigInt(number) <= surplus; number++) {
    if ((surplus >> BigInt(number)) & 1n && trySyscall("prctl", PR_CAPBSET_DROP, number) === -EPERM)
      return false;
  }
  trySyscall("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  clearInheritable(before);
  // Where something else refuses, as a filter that answers ENOSYS, executing again would change nothing, for ever.
  return own().bounding !== before.bounding;
}

/** Root would get what is inheritable, whatever the bounding set says. */
function clearInheritable({ permitted, effective, inheritable }: Privileges): void {
  if (inheritable === 0n) return;
  const header = new Uint8Array(Uint32Array.of(VERSION_3, 0).buffer);
  const word = (set: bigint, high: boolean) => Number((high ? set >> 32n : set) & 0xffffffffn);
  const sets = [false, true].flatMap((high) => [word(effective, high), word(permitted, high), 0]);
  trySyscall("capset", header, new Uint8Array(Uint32Array.from(sets).buffer));
}

/**
 * Confine this daemon: no programs with more privileges, and no system calls that it does not use, in all threads. Returns
 * what is missing of that, for the log.
 */
export function confine(daemon: DaemonName): string[] {
  const missing: string[] = [];
  const result = trySyscall("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const filtered = result < 0 ? result : filterCalls();
  if (filtered < 0) missing.push(`no filter of system calls (errno ${-filtered})`);
  const surplus = own().permitted & ~capabilityBits(namesOf(daemon));
  if (surplus !== 0n) missing.push(`cannot drop capabilities ${surplus.toString(16)}: no CAP_SETPCAP`);
  return missing;
}
