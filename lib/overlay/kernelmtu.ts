// What the kernel knows of path MTUs: those of its links, and those that routers have told by ICMP (RFC 1191).
import { closeSync } from "node:fs";
import { type IPv4, ipv4Octets } from "../address/ipv4.ts";
import { sysctlSet } from "../host/sysctl.ts";
import { AF_INET, connectSocket, getOption, openSocket, SOCK_DGRAM, sockaddrIn } from "../sys/socket.ts";

const IPPROTO_IP = 0;
const IP_MTU = 14;

/**
 * Return the MTU of the path to a UDP port, in bytes with all headers but those of ESP, which the kernel has taken off.
 * Undefined where no route leads there.
 */
export function pathMtuTo(address: IPv4, port: number): number | undefined {
  const fd = openSocket("path MTU socket", AF_INET, SOCK_DGRAM, 0);
  try {
    if (connectSocket(fd, sockaddrIn(ipv4Octets(address), port)) !== 0) return undefined;
    return getOption("path MTU", fd, IPPROTO_IP, IP_MTU);
  } finally {
    closeSync(fd);
  }
}

/** Flush the kernel's cached path MTUs, which stay for 10 min each: one of them has been proved wrong. */
export function forgetPathMtus(): void {
  sysctlSet("net/ipv4/route/flush", "1");
}
