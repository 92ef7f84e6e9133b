// Why the kernel would not send a datagram, in words: what it said, and where to look.
import { causeOfErrno } from "../sys/cause.ts";
import { EAGAIN, ENOBUFS } from "../sys/errno.ts";
import { strerror } from "../sys/libc.ts";

const EPERM = 1;
const EACCES = 13;

/** Refusals that say nothing of the path: the socket or the link has no room for the moment. */
export const isTransient = (errno: number): boolean => errno === EAGAIN || errno === ENOBUFS;

/** `errno` of a datagram to UDP port `port`. */
export function refusalText(errno: number, port: number): string {
  if (errno === EPERM)
    return `EPERM; a firewall rule on this host blocks UDP ${port}, or its conntrack table is full`;
  // Of a datagram, not of a port below 1024.
  if (errno === EACCES) return "EACCES; a prohibit route on this host leads to the peer";
  const known = causeOfErrno(errno);
  if (!known) return strerror(errno);
  return `${known.code}; ${known.remedy || known.cause}`;
}
