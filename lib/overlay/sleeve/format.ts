// Sleeve on the wire (weave: router/sleeve.go, frame_crypto.go). A UDP datagram is
//
//   plain      name[6] frame…
//   encrypted  name[6] sequence[8] authenticator[16] sealed(frame…)
//
// name is the sending peer's. A frame is source[6] destination[6] length[2] and the Ethernet frame: source and
// destination are the names of the peers it travels between, of which neither need be an end of this connection.
// The highest bit of the sequence says that the datagram belongs to the stream that must not be fragmented (DF); the
// sequence is also the last 8 bytes of the nonce, of which the first bit is set by the end that connected. All numbers
// are big-endian.
import { be16, readBe16 } from "../../bytes/bigendian.ts";
import { MAC_LENGTH } from "../../crypto/secretbox.ts";

export const NAME = 6;
export const SEQUENCE = 8;
/** Bytes in front of each frame: source, destination, length. */
export const FRAME_HEADER = 2 * NAME + 2;
export const ETHERNET_HEADER = 14;
/** Bytes of IPv4 and UDP in front of each datagram. */
export const UDP_OVERHEAD = 28;
/** The longest payload of a UDP datagram over IPv4. */
export const MAX_DATAGRAM = 65_535 - UDP_OVERHEAD;

/** Bytes in front of the frames of a datagram. */
export function packetOverhead(encrypted: boolean): number {
  return encrypted ? NAME + SEQUENCE + MAC_LENGTH : NAME;
}

/** What it takes to make an IP packet of the overlay one of the network below, in bytes. */
export function overhead(encrypted: boolean): number {
  return UDP_OVERHEAD + packetOverhead(encrypted) + FRAME_HEADER + ETHERNET_HEADER;
}

// Frames between the routers themselves have an Ethernet header of zeros, and are told apart by their length alone.

/** Connection uid behind the header. */
export const HEARTBEAT_SIZE = ETHERNET_HEADER + 8;
/** All zeros, longer than any MTU: arrives only where the stack fragments. */
export const FRAGMENT_TEST_SIZE = 60_001;
/** Longer than any MTU, and not to be fragmented: makes the kernel tell the path's MTU. */
export const DISCOVERY_SIZE = 60_000;

/** Control messages, by the tags of peers that do not negotiate overlays. */
export const CONTROL = { established: 1, fragmentsReceived: 2, mtuVerified: 3 } as const;

/** The length of a test that a packet of `mtu` bytes gets through. */
export function mtuTestSize(mtu: number): number {
  return ETHERNET_HEADER + mtu;
}

/** The body of `mtuVerified`. */
export function encodeMtuVerified(mtu: number): Uint8Array {
  return be16(mtu);
}

/** Read the body of `mtuVerified`; undefined where it is too short. */
export function decodeMtuVerified(body: Uint8Array): number | undefined {
  return body.length < 2 ? undefined : readBe16(body, 0);
}
