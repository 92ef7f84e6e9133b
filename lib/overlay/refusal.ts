// Errors of the kernel on sending a datagram, with remedies.
import { causeOfErrno } from "../sys/cause.ts";
import { EAGAIN, EMSGSIZE, ENOBUFS } from "../sys/errno.ts";
import { strerror } from "../sys/libc.ts";
import { type OverlayTrouble, overlayTrouble } from "./trouble.ts";

const EPERM = 1;
const EACCES = 13;

/** Return true for errors that say nothing of the path: the queue of the socket or the link is full. */
export const isTransient = (errno: number): boolean => errno === EAGAIN || errno === ENOBUFS;

/** Return the trouble with datagrams to UDP port `port` by errno; `what` failed. */
export function refusal(what: string, errno: number, port: number): OverlayTrouble {
  const trouble = (cause: Parameters<typeof overlayTrouble>[0], why: string) =>
    overlayTrouble(cause, `${what}: ${why}`, port);
  if (errno === EPERM)
    return trouble(
      "blocked",
      `EPERM; a firewall rule on this host blocks UDP ${port}, or its conntrack table is full`,
    );
  // Not the EACCES of binding a port below 1024.
  if (errno === EACCES)
    return trouble("prohibited", "EACCES; a prohibit route on this host leads to the peer");
  const known = causeOfErrno(errno);
  const why = known ? `${known.code}; ${known.remedy || known.cause}` : strerror(errno);
  return trouble(errno === EMSGSIZE ? "too large" : "cannot send", why);
}
