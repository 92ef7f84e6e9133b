// Why the kernel would not send a datagram, in words: what it said, and where to look.
import { EACCES, EAGAIN, EHOSTUNREACH, EINVAL, EMSGSIZE, ENETUNREACH, ENOBUFS } from "../sys/errno.ts";
import { strerror } from "../sys/libc.ts";

const EPERM = 1;
const ENOMEM = 12;
const ENETDOWN = 100;

/** Refusals that say nothing of the path: the socket or the link has no room for the moment. */
export const isTransient = (errno: number): boolean => errno === EAGAIN || errno === ENOBUFS;

/** `errno` of a datagram to UDP port `port`. */
export function refusalText(errno: number, port: number): string {
  switch (errno) {
    case EPERM:
      return `EPERM; a firewall rule on this host blocks UDP ${port}, or its conntrack table is full`;
    case EACCES:
      return "EACCES; a prohibit route on this host leads to the peer";
    case EINVAL:
      return "EINVAL; a blackhole route on this host leads to the peer";
    case ENETUNREACH:
      return "ENETUNREACH; this host has no route to the peer";
    case EHOSTUNREACH:
      return "EHOSTUNREACH; the peer's host does not answer ARP, or a route on this host refuses it";
    case ENETDOWN:
      return "ENETDOWN; the link to the peer is down";
    case EMSGSIZE:
      return "EMSGSIZE; the path's MTU is too small for the MTU of this network";
    case ENOMEM:
      return "ENOMEM; this host is out of memory";
    default:
      return strerror(errno);
  }
}
