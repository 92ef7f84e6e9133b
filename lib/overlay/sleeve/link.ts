// A link of the engine: the peer at the other end of a connection. The router sets its parameters; its state (sequence
// numbers, replay windows, open datagrams) is the engine's.
import type { Cipher } from "./format.ts";
import { ReplayWindow } from "./replay.ts";
import { NONCE, type Sealing } from "./sealing.ts";

/** Encapsulation: sleeve, or VXLAN for relaying to the fast datapath of a neighbour. */
export type LinkKind = "sleeve" | "vxlan";

/** Fixed parameters of a link. */
export interface LinkParams {
  readonly kind: LinkKind;
  /** Number of the link, below MAX_LINKS; reused once the link is gone. */
  readonly index: number;
  /** The peer at the other end: its number (which may change), and its name, six bytes. */
  readonly peer: number;
  readonly name: Uint8Array;
  /** Session key; present where frames are encrypted. */
  readonly key: Uint8Array | undefined;
  /** What seals with it: secretbox unless both ends have agreed on another. */
  readonly cipher?: Cipher;
  /** We connected to the peer; gives each direction its own nonces. */
  readonly outbound: boolean;
}

/** The far end of a link: an address as a number, and a UDP port. */
export interface Remote {
  readonly address: number;
  readonly port: number;
}

/** Parameters of a link that change. */
export interface LinkSettings {
  /** Undefined until known. */
  readonly remote: Remote | undefined;
  /** Address to send from; 0 leaves it to the kernel. */
  readonly local: number;
  /** MTU of the overlay on this link, in bytes. */
  readonly mtu: number;
  /** Fragments get through to the peer. */
  readonly fragments: boolean;
}

/** A frame of the peer's router for ours (format.ts). */
export interface SpecialFrame {
  readonly length: number;
  readonly from: Remote;
  /** The first 8 bytes behind the header. */
  readonly uid: bigint;
  readonly zeros: boolean;
}

/** The datagrams of a link with DF, or those without: each has its own sequence. */
export class Stream {
  /** Place in the arena of the open datagram; -1 for none. */
  at = -1;
  /** Place of its next frame. */
  end = 0;
  /** End of the space reserved for it. */
  limit = 0;
  /** Its frames are segments without checksums. */
  partial = false;
  /** In the batch's list of open streams. */
  listed = false;
  sequence = 0;

  constructor(
    readonly link: Link,
    readonly df: boolean,
  ) {}
}

const DIRECTION_BIT = 0x80;

export class Link {
  readonly df = new Stream(this, true);
  readonly fragmentable = new Stream(this, false);
  readonly received = new ReplayWindow();
  readonly receivedDf = new ReplayWindow();
  /** Undefined where frames are sent in clear; the engine sets it. */
  sealing: Sealing | undefined;
  readonly sendNonce = new Uint8Array(NONCE);
  readonly receiveNonce = new Uint8Array(NONCE);
  /** The kernel cannot cut messages into datagrams on this path (UDP_SEGMENT). */
  unsegmented = false;
  settings: LinkSettings = { remote: undefined, local: 0, mtu: 65_535, fragments: false };

  /** The peer's number in the current tables. */
  peer: number;

  constructor(readonly params: LinkParams) {
    this.peer = params.peer;
    if (params.outbound) this.sendNonce[0] = DIRECTION_BIT;
    else this.receiveNonce[0] = DIRECTION_BIT;
  }
}
