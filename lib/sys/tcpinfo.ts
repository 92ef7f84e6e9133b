// Round trips and acknowledgements of a TCP connection: struct tcp_info (linux/tcp.h).
import { trySyscall } from "./syscall.ts";

const IPPROTO_TCP = 6;
const TCP_INFO = 11;
const UNACKED = 24;
const LAST_ACK_RECEIVED = 56;
const NOT_SENT_BYTES = 144;
/** In µs. */
const MIN_RTT = 148;
/** Since Linux 5.4; before that, a closed window is not noticed. */
const SEND_WINDOW = 228;
const SIZE = 232;

/**
 * Return the ms since the last acknowledgement if data is unacknowledged or unsent, else 0. A receiver with a closed window
 * still acknowledges.
 */
export function unacknowledgedMs(fd: number): number {
  const info = tcpInfo(fd);
  if (!info) return 0;
  const number = (at: number) => info.getUint32(at, true);
  const waits = number(UNACKED) > 0 || (number(NOT_SENT_BYTES) > 0 && number(SEND_WINDOW) > 0);
  return waits ? number(LAST_ACK_RECEIVED) : 0;
}

/**
 * Return the lowest round trip of the last 5 min (tcp_min_rtt_wlen) in ms; undefined before the first measurement. The mean
 * would be that of delayed acknowledgements, since heartbeats are single segments.
 */
export function roundTripMs(fd: number): number | undefined {
  const micros = tcpInfo(fd)?.getUint32(MIN_RTT, true);
  // Before the first measurement it is ~0.
  return micros === undefined || micros === 0xffff_ffff || micros === 0 ? undefined : micros / 1_000;
}

function tcpInfo(fd: number): DataView | undefined {
  const info = new DataView(new ArrayBuffer(SIZE));
  const length = new Uint8Array(Uint32Array.of(SIZE).buffer);
  const result = trySyscall("getsockopt", fd, IPPROTO_TCP, TCP_INFO, new Uint8Array(info.buffer), length);
  return result < 0 ? undefined : info;
}
