// Why a connection or a listener failed: the one table from codes of kernel, resolver and TLS to a cause and a remedy.

/** A failure in words. */
export interface Cause {
  /** As errno(3) names it: "ECONNREFUSED". */
  readonly code: string;
  /** Lower case, no full stop. */
  readonly cause: string;
  /** What to do, for a connection to another host; empty if the cause says all. */
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

/** System calls of connections, listeners, datagrams and name look-ups. */
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

/** Return "ECONNREFUSED" for 111 or -111. node:util takes 1 ms to load, and few need it. */
const systemErrorName = (errno: number) =>
  process.getBuiltinModule("node:util").getSystemErrorName(-Math.abs(errno));

/** Return the meaning of an errno; undefined if connections and listeners never get it. */
export function causeOfErrno(errno: number): Cause | undefined {
  return causeOfCode(systemErrorName(errno));
}

/** Return the meaning of a code such as "ECONNREFUSED"; undefined as in causeOfErrno. */
function causeOfCode(code: string): Cause | undefined {
  const known = CAUSES[code];
  return known && { code, cause: known[0], remedy: known[1] };
}

/** Return the code of an error ("EADDRINUSE"), also of SysError and NetlinkError, which have only an errno. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { code, errno } = error as { code?: unknown; errno?: unknown };
  if (typeof code === "string") return code;
  return typeof errno === "number" && errno !== 0 ? systemErrorName(errno) : undefined;
}

/**
 * Return the meaning of an error of a connection, a listener or a name look-up; undefined for any other. Bun's own message
 * ("Was there a typo in the url or port?") is the same for every cause.
 */
export function causeOf(error: unknown): Cause | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error.name === "TimeoutError") return causeOfCode(error.name);
  const { code, syscall } = error as { code?: unknown; syscall?: unknown };
  if (typeof code !== "string") return undefined;
  // Errors of fetch name no system call; those of files name others ("open").
  const isOfConnection =
    syscall === undefined ? error.name === "TypeError" || error.name === "Error" : CALLS.has(String(syscall));
  return isOfConnection ? causeOfCode(code) : undefined;
}
