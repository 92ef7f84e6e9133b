// Why the kernel would not send a datagram: what it said, and what to do about it.
import { causeOfErrno } from "../sys/cause.ts";
import { EAGAIN, EMSGSIZE, ENOBUFS } from "../sys/errno.ts";
import { strerror } from "../sys/libc.ts";
import { type OverlayTrouble, overlayTrouble } from "./trouble.ts";

const EPERM = 1;
const EACCES = 13;

/** Refusals that say nothing of the path: the socket or the link has no room for the moment. */
export const isTransient = (errno: number): boolean => errno === EAGAIN || errno === ENOBUFS;

/** Return the trouble with datagrams to UDP port `port` that `errno` stands for; `what` could not be done. */
export function refusal(what: string, errno: number, port: number): OverlayTrouble {
  const trouble = (cause: Parameters<typeof overlayTrouble>[0], why: string) =>
    overlayTrouble(cause, `${what}: ${why}`, port);
  if (errno === EPERM)
    return trouble(
      "blocked",
      `EPERM; a firewall rule on this host blocks UDP ${port}, or its conntrack table is full`,
    );
  // Of a datagram, not of a port below 1024.
  if (errno === EACCES)
    return trouble("prohibited", "EACCES; a prohibit route on this host leads to the peer");
  const known = causeOfErrno(errno);
  const why = known ? `${known.code}; ${known.remedy || known.cause}` : strerror(errno);
  return trouble(errno === EMSGSIZE ? "too large" : "cannot send", why);
}
