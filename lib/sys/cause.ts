// Why a connection or a listener failed: the code that the kernel, the resolver or TLS gave, in plain words, and where to
// look. The one table of them: whoever connects or listens takes its texts from here.
import { getSystemErrorName } from "node:util";

/** What a failure says to a person. */
export interface Cause {
  /** As errno(3) names it: "ECONNREFUSED". */
  readonly code: string;
  /** In plain words, lower case. */
  readonly cause: string;
  /** Where to look, for a connection to another host; empty where the cause says all. */
  readonly remedy: string;
}

const refused = "nothing listens on that port there; check that it runs, and the port";
const noRoute = "that host is down or does not answer ARP, or a firewall on the way rejects the packets";
const unreachable = "this host has no route there; see 'ip route get' with that address";
const dropped = "that host is down, or a firewall on the way drops the packets";
const cut = "the other end, or something on the way, ended the connection; see its log";
const blocked = "a firewall rule on this host blocks it, or its conntrack table is full";
const untrusted = "name the certificate authority that signed it, or correct the address";

const CAUSES: Readonly<Record<string, readonly [cause: string, remedy: string]>> = {
  ECONNREFUSED: ["connection refused", refused],
  EHOSTUNREACH: ["no route to host", noRoute],
  EHOSTDOWN: ["host is down", noRoute],
  ENETUNREACH: ["network is unreachable", unreachable],
  ENETDOWN: ["network is down", "the link there is down; see 'ip link'"],
  ETIMEDOUT: ["connection timed out", dropped],
  ECONNRESET: ["connection reset by peer", cut],
  ECONNABORTED: ["connection aborted", cut],
  EPIPE: ["connection closed by the other end", cut],
  EACCES: ["permission denied", "a prohibit route on this host leads there; see 'ip route get'"],
  EPERM: ["operation not permitted", blocked],
  EINVAL: ["invalid argument", "a blackhole route on this host leads there; see 'ip route get'"],
  EADDRINUSE: ["address already in use", "stop what uses it, or take another port"],
  EADDRNOTAVAIL: ["address is not on this host", "see 'ip address' for those that are"],
  EMSGSIZE: ["message too long", "the path's MTU is too small for it"],
  ENOBUFS: ["no buffer space available", ""],
  ENOMEM: ["out of memory", ""],
  EMFILE: ["too many open files", ""],
  ENFILE: ["too many open files on this host", ""],
  ENOENT: ["no such file or directory", ""],
  ENOTSOCK: ["not a socket", ""],
  // getaddrinfo(3), as libuv names its codes.
  ENOTFOUND: ["no such host name", "correct the name, or see /etc/hosts and /etc/resolv.conf"],
  ENODATA: ["the host name has no address", "correct the name, or see /etc/hosts and /etc/resolv.conf"],
  EAI_AGAIN: ["name servers do not answer", "see /etc/resolv.conf"],
  EAI_FAIL: ["name servers cannot answer", "see /etc/resolv.conf"],
  // X509_verify_cert(3), as Node names its codes.
  DEPTH_ZERO_SELF_SIGNED_CERT: ["certificate is self-signed", untrusted],
  SELF_SIGNED_CERT_IN_CHAIN: ["certificate authority is unknown", untrusted],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ["certificate authority is unknown", untrusted],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ["certificate authority is unknown", untrusted],
  CERT_HAS_EXPIRED: ["certificate has expired", "renew it, or set the clock of this host right"],
  CERT_NOT_YET_VALID: ["certificate is not valid yet", "set the clock of this host right"],
  ERR_TLS_CERT_ALTNAME_INVALID: ["certificate is for another host name", untrusted],
  // Bun's own.
  ConnectionRefused: ["connection refused", refused],
  ConnectionClosed: ["connection closed by the other end", cut],
  FailedToOpenSocket: ["cannot open a socket", ""],
  // DOMException of AbortSignal.timeout().
  TimeoutError: ["no answer in time", dropped],
};

/** Calls whose errors are those of a connection, a listener, a datagram or a name. */
const CALLS = new Set([
  "connect",
  "listen",
  "bind",
  "send",
  "sendto",
  "recv",
  "write",
  "read",
  "getaddrinfo",
  "accept",
]);

/** What an errno means, as a connection or a listener meets it; undefined for those that it never meets. */
export function causeOfErrno(errno: number): Cause | undefined {
  return causeOfCode(getSystemErrorName(-Math.abs(errno)));
}

/** What a code such as "ECONNREFUSED" means; undefined where it is none of a connection or a listener. */
function causeOfCode(code: string): Cause | undefined {
  const known = CAUSES[code];
  return known && { code, cause: known[0], remedy: known[1] };
}

/** The code of an error ("EADDRINUSE"), whether it has that or, as SysError and NetlinkError have, the errno alone. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { code, errno } = error as { code?: unknown; errno?: unknown };
  if (typeof code === "string") return code;
  return typeof errno === "number" && errno !== 0 ? getSystemErrorName(-Math.abs(errno)) : undefined;
}

/**
 * What an error of a connection, a listener or a name look-up means; undefined for any other. Bun words its own ("Was there
 * a typo in the url or port?"), and means every cause by that.
 */
export function causeOf(error: unknown): Cause | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error.name === "TimeoutError") return causeOfCode(error.name);
  const { code, syscall } = error as { code?: unknown; syscall?: unknown };
  if (typeof code !== "string") return undefined;
  // What fetch throws has no call in it; a file's errors have others ("open").
  const isOfConnection =
    syscall === undefined ? error.name === "TypeError" || error.name === "Error" : CALLS.has(String(syscall));
  return isOfConnection ? causeOfCode(code) : undefined;
}
