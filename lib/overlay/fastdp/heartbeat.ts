// Heartbeats on the wire: a frame between zero addresses, as long as the overlay's frames may be, in VXLAN (RFC 7348) in UDP
// with DF and without checksum, like the frames of pods.
import { type IPv4, ipv4Octets } from "../../address/ipv4.ts";
import { ETHERNET_HEADER } from "../../address/mac.ts";
import { closeOnce } from "../../sys/closeonce.ts";
import {
  AF_INET,
  openSocket,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  setOption,
  sockaddrIn,
  trySendDatagram,
} from "../../sys/socket.ts";
import { putVxlanHeader, VXLAN_HEADER } from "../vxlan.ts";

const IPPROTO_IP = 0;
const IP_MTU_DISCOVER = 10;
const IP_PMTUDISC_DO = 2;
/** As IP_PMTUDISC_DO, but ignores the path MTU that the kernel has cached. */
const IP_PMTUDISC_PROBE = 3;
const SOL_SOCKET = 1;
const SO_NO_CHECK = 11;

/**
 * Encode the UDP payload of a heartbeat; `mtu` in bytes, of the frame without Ethernet header. For a test, `size` takes the
 * place of the frame's length.
 */
export function encodeHeartbeat(
  vni: number,
  connectionUid: bigint,
  mtu: number,
  size = ETHERNET_HEADER + mtu,
): Uint8Array {
  const frame = new Uint8Array(ETHERNET_HEADER + mtu);
  const view = new DataView(frame.buffer);
  view.setBigUint64(ETHERNET_HEADER, connectionUid, false);
  view.setUint16(ETHERNET_HEADER + 8, size, false);
  return encodeVxlan(vni, frame);
}

/** Encode the UDP payload of a whole Ethernet frame. */
export function encodeVxlan(vni: number, frame: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(VXLAN_HEADER + frame.length);
  putVxlanHeader(new DataView(bytes.buffer), 0, vni);
  bytes.set(frame, VXLAN_HEADER);
  return bytes;
}

/** The sockets of heartbeats, and of tests of the path MTU. */
export class HeartbeatSender {
  readonly #heartbeats = openSender(IP_PMTUDISC_DO);
  readonly #tests = openSender(IP_PMTUDISC_PROBE);
  readonly #closers = [closeOnce(this.#heartbeats), closeOnce(this.#tests)];

  /** Send a payload; a `test` whatever path MTU the kernel has cached. Returns 0 or an errno. */
  send(payload: Uint8Array, to: IPv4, port: number, test = false): number {
    const fd = test ? this.#tests : this.#heartbeats;
    return trySendDatagram(fd, payload, sockaddrIn(ipv4Octets(to), port));
  }

  close(): void {
    for (const close of this.#closers) close();
  }
}

function openSender(discovery: number): number {
  const fd = openSocket("heartbeat socket", AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  setOption("heartbeats: DF", fd, IPPROTO_IP, IP_MTU_DISCOVER, discovery);
  setOption("heartbeats: no checksum", fd, SOL_SOCKET, SO_NO_CHECK, 1);
  return fd;
}
