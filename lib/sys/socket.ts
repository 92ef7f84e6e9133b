// Kernel sockets of families that Bun does not support, and options that it does not set.
import { EAGAIN, EINTR, ENOBUFS } from "./errno.ts";
import { SysError, syscall, trySyscall } from "./syscall.ts";

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const AF_PACKET = 17;

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0x80000;
export const SOCK_NONBLOCK = 0x800;

const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;
const SO_NETNS_COOKIE = 71;

const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

/** Open a socket, close-on-exec. `what` names it in errors. Throws SysError, as all functions here. */
export function openSocket(what: string, family: number, type: number, protocol: number): number {
  return syscall(`opening ${what}`, "socket", family, type | SOCK_CLOEXEC, protocol);
}

/** Set an integer socket option. */
export function setOption(what: string, fd: number, level: number, option: number, value: number): void {
  const buffer = new Uint8Array(new Int32Array([value]).buffer);
  syscall(what, "setsockopt", fd, level, option, buffer, buffer.length);
}

/** Set the size of a receive buffer, in bytes; without the right to exceed net.core.rmem_max, up to that. */
export function setReceiveBuffer(what: string, fd: number, bytes: number): void {
  const size = new Uint8Array(Int32Array.of(bytes).buffer);
  if (trySyscall("setsockopt", fd, SOL_SOCKET, SO_RCVBUFFORCE, size, size.length) < 0)
    setOption(what, fd, SOL_SOCKET, SO_RCVBUF, bytes);
}

/** Read an integer socket option. */
export function getOption(what: string, fd: number, level: number, option: number): number {
  const value = new Int32Array(1);
  const length = new Uint8Array(Uint32Array.of(value.byteLength).buffer);
  syscall(what, "getsockopt", fd, level, option, new Uint8Array(value.buffer), length);
  return value[0] ?? 0;
}

/** Return the cookie of a socket's network namespace, unique since boot; undefined before Linux 5.14 (SO_NETNS_COOKIE). */
export function netnsCookie(fd: number): bigint | undefined {
  const value = new BigUint64Array(1);
  const length = new Uint8Array(Uint32Array.of(value.byteLength).buffer);
  const result = trySyscall(
    "getsockopt",
    fd,
    SOL_SOCKET,
    SO_NETNS_COOKIE,
    new Uint8Array(value.buffer),
    length,
  );
  return result < 0 ? undefined : value[0];
}

/** Bind to a packed struct sockaddr. */
export function bindSocket(what: string, fd: number, sockaddr: Uint8Array): void {
  syscall(what, "bind", fd, sockaddr, sockaddr.length);
}

/** Connect to a packed struct sockaddr, without waiting for datagram sockets; returns 0 or an errno. */
export function connectSocket(fd: number, sockaddr: Uint8Array): number {
  return -trySyscall("connect", fd, sockaddr, sockaddr.length);
}

/** Send one datagram to a packed struct sockaddr. */
export function sendDatagram(what: string, fd: number, data: Uint8Array, sockaddr: Uint8Array): void {
  const errno = trySendDatagram(fd, data, sockaddr);
  if (errno !== 0) throw new SysError(what, errno);
}

/** Send one datagram to a packed struct sockaddr; returns 0 or an errno. */
export function trySendDatagram(fd: number, data: Uint8Array, sockaddr: Uint8Array): number {
  for (;;) {
    const sent = trySyscall("sendto", fd, data, data.length, 0, sockaddr, sockaddr.length);
    if (sent >= 0) return 0;
    if (sent !== -EINTR) return -sent;
  }
}

/**
 * Receive one datagram into `buffer`; returns the filled part. Without `wait`, undefined if there is none. Throws for a datagram
 * longer than the buffer.
 */
export function receiveDatagram(
  what: string,
  fd: number,
  buffer: Uint8Array,
  wait = true,
): Uint8Array | undefined {
  for (;;) {
    const length = trySyscall(
      "recvfrom",
      fd,
      buffer,
      buffer.length,
      MSG_TRUNC | (wait ? 0 : MSG_DONTWAIT),
      0,
      0,
    );
    if (length === -EAGAIN && !wait) return undefined;
    if (length === -EINTR) continue;
    if (length < 0) throw new SysError(what, -length);
    if (length > buffer.length) throw new SysError(what, ENOBUFS);
    return buffer.subarray(0, length);
  }
}

/** Return a struct sockaddr_un (sys/un.h) without the final zero; a leading "@" makes it abstract. At most 107 bytes. */
export function sockaddrUnix(path: string): Uint8Array {
  const name = new TextEncoder().encode(path);
  const sockaddr = new Uint8Array(2 + name.length);
  new DataView(sockaddr.buffer).setUint16(0, AF_UNIX, true);
  sockaddr.set(name, 2);
  if (path.startsWith("@")) sockaddr[2] = 0;
  return sockaddr;
}

/** Return a struct sockaddr_in (netinet/in.h). `address` is four octets. */
export function sockaddrIn(address: Uint8Array, port: number): Uint8Array {
  const sockaddr = new Uint8Array(16);
  const view = new DataView(sockaddr.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port, false);
  sockaddr.set(address, 4);
  return sockaddr;
}

/** Return a struct sockaddr_in6 (netinet/in.h) without flow and scope. `address` is sixteen octets. */
export function sockaddrIn6(address: Uint8Array, port: number): Uint8Array {
  const sockaddr = new Uint8Array(28);
  const view = new DataView(sockaddr.buffer);
  view.setUint16(0, AF_INET6, true);
  view.setUint16(2, port, false);
  sockaddr.set(address, 8);
  return sockaddr;
}

/** Return a struct sockaddr_ll (linux/if_packet.h) for sending a frame on a link. `ethertype` in host byte order. */
export function sockaddrLinkLayer(ifindex: number, ethertype: number): Uint8Array {
  const sockaddr = new Uint8Array(20);
  const view = new DataView(sockaddr.buffer);
  view.setUint16(0, AF_PACKET, true);
  view.setUint16(2, ethertype, false);
  view.setInt32(4, ifindex, true);
  view.setUint8(11, 6);
  sockaddr.fill(0xff, 12, 18);
  return sockaddr;
}
