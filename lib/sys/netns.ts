// Network namespaces: run a function in one and always return. See setns(2), network_namespaces(7).
import { closeSync, constants, fstatSync, openSync, statfsSync, statSync } from "node:fs";
import { reasonOf } from "./reason.ts";
import { syscall, trySyscall } from "./syscall.ts";

/** For unshare(2) and setns(2). */
export const CLONE_NEWNET = 0x40000000;
/** include/uapi/linux/magic.h, include/uapi/linux/nsfs.h */
const NSFS_MAGIC = 0x6e736673;
const NS_GET_NSTYPE = 0xb703;
const NO_NETNS = "not a network namespace";
// setns(2) moves the calling thread only: "self" would be the process.
export const OWN_NETNS = "/proc/thread-self/ns/net";

/** A network namespace: a path such as /run/netns/blue or /proc/4711/ns/net, or the pid of a process in it. */
export type Netns = string | number;

export function netnsPath(netns: Netns): string {
  return typeof netns === "number" ? `/proc/${netns}/ns/net` : netns;
}

/**
 * Open a network namespace; the caller closes it. Throws NetnsError. Never blocks: FIFOs and devices are not opened.
 */
export function openNetns(netns: Netns): number {
  const path = netnsPath(netns);
  let fd: number;
  try {
    if (statfsSync(path).type !== NSFS_MAGIC) throw new NetnsError(path, NO_NETNS, "not a namespace");
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw error instanceof NetnsError ? error : unreachable(path, error);
  }
  if (trySyscall("ioctl", fd, NS_GET_NSTYPE) === CLONE_NEWNET) return fd;
  closeSync(fd);
  throw new NetnsError(path, NO_NETNS, "not a namespace");
}

function unreachable(path: string, error: unknown): NetnsError {
  const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
  return missing
    ? new NetnsError(path, "no such network namespace", "missing")
    : new NetnsError(path, reasonOf(error), "unreachable");
}

/** A namespace cannot be entered. */
export class NetnsError extends Error {
  override readonly name: string = "NetnsError";
  constructor(
    readonly path: string,
    readonly reason: string,
    /** "missing": it does not exist (any more). "not a namespace": something else is at that path. */
    readonly kind: "missing" | "not a namespace" | "own" | "unreachable",
  ) {
    super(`network namespace ${path}: ${reason}`);
  }

  /** True if the path cannot be that of a running container. */
  get gone(): boolean {
    return this.kind === "missing" || this.kind === "not a namespace";
  }
}

/** Throw NetnsError if the path names the namespace of this thread. */
export function refuseOwnNetns(netns: Netns): void {
  if (isOwnNetns(netns))
    throw new NetnsError(
      netnsPath(netns),
      "is the network namespace of the host; name one of a container",
      "own",
    );
}

/**
 * Run `fn`, which gets an open fd of the namespace, with this thread in a network namespace, and return its result; the thread
 * returns to its own namespace in any case. `fn` must be synchronous, since what follows an await would run in the wrong
 * namespace: a promise throws TypeError. Throws NetnsError, and SysError without CAP_SYS_ADMIN unless it is our own namespace.
 */
export function inNetns<T>(netns: Netns, fn: (fd: number) => T): T {
  const target = openNetns(netns);
  try {
    const home = openSync(OWN_NETNS, "r");
    try {
      if (inode(target) === inode(home)) return synchronous(fn(target));
      syscall(`entering network namespace ${netnsPath(netns)}`, "setns", target, CLONE_NEWNET);
      return andBack(home, () => fn(target));
    } finally {
      closeSync(home);
    }
  } finally {
    closeSync(target);
  }
}

/** Run a synchronous function in a new network namespace, which the kernel removes afterwards with its contents. */
export function inNewNetns<T>(fn: () => T): T {
  const home = openSync(OWN_NETNS, "r");
  try {
    syscall("making a network namespace", "unshare", CLONE_NEWNET);
    return andBack(home, fn);
  } finally {
    closeSync(home);
  }
}

function andBack<T>(home: number, fn: () => T): T {
  try {
    return synchronous(fn());
  } finally {
    syscall("returning from a network namespace", "setns", home, CLONE_NEWNET);
  }
}

const inode = (fd: number) => fstatSync(fd, { bigint: true }).ino;

function synchronous<T>(result: T): T {
  if (!isThenable(result)) return result;
  result.then(ignore, ignore);
  throw new TypeError("inNetns takes a synchronous function");
}

function ignore(): void {}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}

/** True if the path names the network namespace of this thread. Throws NetnsError if it cannot be read. */
export function isOwnNetns(netns: Netns): boolean {
  const path = netnsPath(netns);
  const own = statSync(OWN_NETNS, { bigint: true });
  try {
    const other = statSync(path, { bigint: true });
    return own.dev === other.dev && own.ino === other.ino;
  } catch (error) {
    throw unreachable(path, error);
  }
}
