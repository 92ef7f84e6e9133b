// struct tcp_info (linux/tcp.h): what the kernel knows of the far end of a TCP connection.
import { trySyscall } from "./syscall.ts";

const IPPROTO_TCP = 6;
const TCP_INFO = 11;
const UNACKED = 24;
const LAST_ACK_RECEIVED = 56;
const NOT_SENT_BYTES = 144;
/** Since Linux 5.4; before, nothing counts as waiting for a window. */
const SEND_WINDOW = 228;
const SIZE = 232;

/**
 * Milliseconds since the far end's host has acknowledged anything, where something waits for that, or cannot even be
 * sent; 0 where nothing does, or nothing is known of the connection. A far end that has no room does acknowledge.
 */
export function unacknowledgedMs(fd: number): number {
  const info = new DataView(new ArrayBuffer(SIZE));
  const length = new Uint8Array(Uint32Array.of(SIZE).buffer);
  if (trySyscall("getsockopt", fd, IPPROTO_TCP, TCP_INFO, new Uint8Array(info.buffer), length) < 0) return 0;
  const number = (at: number) => info.getUint32(at, true);
  const waits = number(UNACKED) > 0 || (number(NOT_SENT_BYTES) > 0 && number(SEND_WINDOW) > 0);
  return waits ? number(LAST_ACK_RECEIVED) : 0;
}
