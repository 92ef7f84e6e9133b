// Sleeve on the wire (weave: router/sleeve.go, frame_crypto.go). A UDP datagram is
//
//   plain      name[6] frame…
//   secretbox  name[6] sequence[8] authenticator[16] sealed(frame…)
//   aegis-256  name[6] sequence[8] tag[32] sealed(frame…)
//
// name is that of the sending peer. A frame is source[6] destination[6] length[2] and the Ethernet frame; source and
// destination are names of peers, which need not be ends of this connection. The highest bit of the sequence marks the
// stream with DF. The sequence is also the last 8 bytes of the nonce, the others of which are 0; with secretbox, its first bit
// is set by the end that connected. All numbers are big-endian.
//
// Weave Net 2.x seals by NaCl's secretbox (XSalsa20-Poly1305), with the session key. AEGIS-256 is ours: between peers that both
// announce the feature AEGIS, in a handshake that is sealed itself. Its keys are derived from the session key, one for each
// direction, and name and sequence are authenticated with the frames (sealing.ts). The second bit of its sequence marks a
// datagram whose frames are segments of TCP super-frames, with the sum of the pseudo-header alone in place of the checksum
// (virtio_net.h, NEEDS_CSUM): the tag protects them on the way, and summing them up costs as much as sealing them.
import { ETHERNET_HEADER } from "../../address/mac.ts";
import { be16, readBe16 } from "../../bytes/bigendian.ts";
import { AEGIS_TAG } from "../../crypto/aegis.ts";
import { MAC_LENGTH } from "../../crypto/secretbox.ts";

export const NAME = 6;
export const SEQUENCE = 8;
// In the first four bytes of the sequence: the stream with DF; segments without checksums.
export const DF_BIT = 0x8000_0000;
export const PARTIAL_BIT = 0x4000_0000;
/** Bytes in front of each frame: source, destination, length. */
export const FRAME_HEADER = 2 * NAME + 2;
/** Bytes of IPv4 and UDP in front of each datagram. */
export const UDP_OVERHEAD = 28;
/** The longest payload of a UDP datagram over IPv4. */
export const MAX_DATAGRAM = 65_535 - UDP_OVERHEAD;

/** What seals the datagrams of a connection. */
export type Cipher = "secretbox" | "aegis-256";

/** The feature of peers that open datagrams sealed by AEGIS-256. */
export const AEGIS = { feature: "SleeveCipher", value: "aegis-256" } as const;

/** Bytes in front of the frames of a datagram; without a cipher it is plain. */
export function packetOverhead(cipher?: Cipher): number {
  if (cipher === undefined) return NAME;
  return NAME + SEQUENCE + (cipher === "secretbox" ? MAC_LENGTH : AEGIS_TAG);
}

/** Bytes that an IP packet of the overlay grows by on the underlay. */
export function overhead(cipher?: Cipher): number {
  return UDP_OVERHEAD + packetOverhead(cipher) + FRAME_HEADER + ETHERNET_HEADER;
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
