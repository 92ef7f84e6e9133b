// Sleeve on the wire (weave: router/sleeve.go, frame_crypto.go). A UDP datagram is
//
//   plain      name[6] frame…
//   encrypted  name[6] sequence[8] authenticator[16] sealed(frame…)
//
// name is that of the sending peer. A frame is source[6] destination[6] length[2] and the Ethernet frame; source and
// destination are names of peers, which need not be ends of this connection. The highest bit of the sequence marks the
// stream with DF. The sequence is also the last 8 bytes of the nonce, whose first bit is set by the end that connected.
// All numbers are big-endian.
import { ETHERNET_HEADER } from "../../address/mac.ts";
import { be16, readBe16 } from "../../bytes/bigendian.ts";
import { MAC_LENGTH } from "../../crypto/secretbox.ts";

export const NAME = 6;
export const SEQUENCE = 8;
/** Bytes in front of each frame: source, destination, length. */
export const FRAME_HEADER = 2 * NAME + 2;
/** Bytes of IPv4 and UDP in front of each datagram. */
export const UDP_OVERHEAD = 28;
/** The longest payload of a UDP datagram over IPv4. */
export const MAX_DATAGRAM = 65_535 - UDP_OVERHEAD;

/** Bytes in front of the frames of a datagram. */
export function packetOverhead(encrypted: boolean): number {
  return encrypted ? NAME + SEQUENCE + MAC_LENGTH : NAME;
}

/** Bytes that an IP packet of the overlay grows by on the underlay. */
export function overhead(encrypted: boolean): number {
  return UDP_OVERHEAD + packetOverhead(encrypted) + FRAME_HEADER + ETHERNET_HEADER;
}

// Special frames, between the routers themselves, have an Ethernet header of zeros and are told apart by their length.

/** A heartbeat: the connection uid behind the header. */
export const HEARTBEAT_SIZE = ETHERNET_HEADER + 8;
/** A fragmentation test: zeros, longer than any MTU, without DF. */
export const FRAGMENT_TEST_SIZE = 60_001;
/** Path MTU discovery: longer than any MTU, with DF; the kernel refuses it and says what it knows of the path. */
export const DISCOVERY_SIZE = 60_000;

/** Control messages, by the tags of peers that do not negotiate overlays. */
export const CONTROL = { established: 1, fragmentsReceived: 2, mtuVerified: 3 } as const;

/** Return the length of a test of the path MTU. */
export function mtuTestSize(mtu: number): number {
  return ETHERNET_HEADER + mtu;
}

/** Encode the body of `mtuVerified`. */
export function encodeMtuVerified(mtu: number): Uint8Array {
  return be16(mtu);
}

/** Decode the body of `mtuVerified`; undefined where it is too short. */
export function decodeMtuVerified(body: Uint8Array): number | undefined {
  return body.length < 2 ? undefined : readBe16(body, 0);
}
