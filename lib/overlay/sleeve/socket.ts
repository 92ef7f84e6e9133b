// The UDP socket of sleeve, and the kernel's path MTU (udp(7), ip(7)).
import { closeSync } from "node:fs";
import { formatIPv4, type IPv4, ipv4Octets } from "../../address/ipv4.ts";
import { listenTrouble } from "../../sys/listening.ts";
import {
  AF_INET,
  bindSocket,
  getOption,
  openSocket,
  SOCK_DGRAM,
  setOption,
  sockaddrIn,
} from "../../sys/socket.ts";
import { syscall } from "../../sys/syscall.ts";
import { troubleText } from "../../sys/trouble.ts";
import { MODE } from "./batch.ts";
import type { LinkSettings } from "./link.ts";

const IPPROTO_IP = 0;
const IP_MTU_DISCOVER = 10;
const IP_MTU = 14;
const IP_PMTUDISC_DONT = 0;
const IP_PMTUDISC_DO = 2;
const IP_PMTUDISC_PROBE = 3;
/** Values of IP_MTU_DISCOVER by MODE. */
const DISCOVERY = [IP_PMTUDISC_DONT, IP_PMTUDISC_DO, IP_PMTUDISC_PROBE];
const SOL_SOCKET = 1;
const SO_SNDTIMEO = 21;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_UDP = 17;
const UDP_GRO = 104;

const SOCKET_BUFFER = 8 << 20;
/** struct timeval: 200 ms. */
const SEND_TIMEOUT = new Uint8Array(BigInt64Array.of(0n, 200_000n).buffer);

/**
 * Open the socket, bound to `host` (an address, 0 for all) and `port`, in the network namespace of this thread. Returns
 * its fd; throws SysError, or an error that names the owner of the port.
 */
export function openSleeveSocket(host: number, port: number): number {
  const fd = openSocket("sleeve socket", AF_INET, SOCK_DGRAM, 0);
  try {
    for (const option of [SO_SNDBUFFORCE, SO_RCVBUFFORCE])
      setOption("sleeve: size of the socket's buffers", fd, SOL_SOCKET, option, SOCKET_BUFFER);
    setOption("sleeve: UDP_GRO", fd, SOL_UDP, UDP_GRO, 1);
    setDiscovery(fd, MODE.fragment);
    // A stalled link must not block the engine: datagrams that wait longer are lost.
    syscall(
      "sleeve: SO_SNDTIMEO",
      "setsockopt",
      fd,
      SOL_SOCKET,
      SO_SNDTIMEO,
      SEND_TIMEOUT,
      SEND_TIMEOUT.length,
    );
    bindSleeve(fd, host, port);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function bindSleeve(fd: number, host: IPv4, port: number): void {
  const what = `cannot open sleeve's port ${port}`;
  try {
    bindSocket(what, fd, sockaddrIn(ipv4Octets(host), port));
  } catch (error) {
    const hostname = formatIPv4(host);
    const reason = troubleText(listenTrouble(error, { protocol: "udp", hostname, port, option: "--port" }));
    throw new Error(`${what}: ${reason}`, { cause: error });
  }
}

/** Set whether datagrams may be fragmented from now on, by MODE. */
export function setDiscovery(fd: number, mode: number): void {
  const how = DISCOVERY[mode] ?? IP_PMTUDISC_DONT;
  setOption("sleeve: IP_MTU_DISCOVER", fd, IPPROTO_IP, IP_MTU_DISCOVER, how);
}

/** Return the MTU that the kernel knows of the path to a peer, in bytes; 0 where it knows nothing. */
export function pathMtu({ remote, local }: LinkSettings): number {
  if (!remote) return 0;
  const fd = openSocket("path MTU", AF_INET, SOCK_DGRAM, 0);
  try {
    setDiscovery(fd, MODE.df);
    if (local !== 0) bindSocket("path MTU", fd, sockaddrIn(ipv4Octets(local), 0));
    const to = sockaddrIn(ipv4Octets(remote.address), remote.port);
    syscall("path MTU", "connect", fd, to, to.length);
    return getOption("path MTU", fd, IPPROTO_IP, IP_MTU);
  } catch {
    return 0;
  } finally {
    closeSync(fd);
  }
}
