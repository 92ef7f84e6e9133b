// Why a TCP connection fails. Bun 1.4 reports every cause (no route, unreachable, prohibited) as ECONNREFUSED, so connect(2) is
// tried once more, on a socket of our own that is closed at once.
import { closeSync } from "node:fs";
import { isIPv4 } from "node:net";
import { setTimeout } from "node:timers/promises";
import { type Cause, causeOf, causeOfErrno } from "./cause.ts";
import { EINTR } from "./errno.ts";
import { AF_INET, bindSocket, openSocket, SOCK_NONBLOCK, SOCK_STREAM, sockaddrIn } from "./socket.ts";
import { SysError, trySyscall } from "./syscall.ts";

const IPPROTO_TCP = 6;
const EISCONN = 106;
const EALREADY = 114;
const EINPROGRESS = 115;

/** The kernel gives ARP 3 s, 3 probes of 1 s (neigh/default/mcast_solicit and retrans_time_ms). */
const GIVE_UP_MS = 4_000;
const FIRST_LOOK_MS = 1;
const LAST_LOOK_MS = 100;

export interface Attempted {
  /** Only IPv4 addresses are tried. */
  readonly host: string;
  readonly port: number;
  /** Source address. */
  readonly from?: string | undefined;
}

/**
 * Resolve with the cause of a failed connection: that of `error`, or for ECONNREFUSED the kernel's; undefined if neither is
 * known. Never rejects; takes 4 s at most.
 */
export async function causeOfFailedConnect(error: unknown, attempted: Attempted): Promise<Cause | undefined> {
  const told = causeOf(error);
  return told?.code === "ECONNREFUSED" ? ((await causeOfConnect(attempted)) ?? told) : told;
}

/** Resolve with the cause of a failing connection; undefined if it succeeds, or takes longer than 4 s. Never rejects. */
export async function causeOfConnect(attempted: Attempted): Promise<Cause | undefined> {
  try {
    return causeOfErrno(await connectErrno(attempted));
  } catch (failure) {
    return failure instanceof SysError ? causeOfErrno(failure.errno) : undefined;
  }
}

/** Resolve with the errno of one attempt; 0 if it succeeds or takes too long. Rejects with SysError. */
async function connectErrno({ host, port, from }: Attempted): Promise<number> {
  const what = `a connection to ${host}`;
  if (!isIPv4(host)) return 0;
  const to = sockaddr(host, port);
  const fd = openSocket(what, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP);
  try {
    if (from !== undefined && isIPv4(from)) bindSocket(`binding to ${from}`, fd, sockaddr(from, 0));
    const deadline = performance.now() + GIVE_UP_MS;
    for (let pause = FIRST_LOOK_MS; ; pause = Math.min(2 * pause, LAST_LOOK_MS)) {
      // A second connect(2) tells the outcome of the first.
      const errno = -trySyscall("connect", fd, to, to.length);
      if (errno === 0 || errno === EISCONN) return 0;
      const waits = errno === EINPROGRESS || errno === EALREADY || errno === EINTR;
      if (!waits) return errno;
      if (performance.now() >= deadline) return 0;
      await setTimeout(pause, undefined, { ref: false });
    }
  } finally {
    closeSync(fd);
  }
}

const sockaddr = (host: string, port: number) => sockaddrIn(Uint8Array.from(host.split("."), Number), port);
