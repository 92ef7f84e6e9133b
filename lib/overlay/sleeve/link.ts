// A link: what the frames of one connection are sent by and recognised from. Its parameters are set by the router, its
// state (sequence numbers, what has been seen, the datagram that is being filled) belongs to the engine alone.
import { ReplayWindow } from "./replay.ts";

/** How frames are carried: in sleeve datagrams, or (relayed to the fast datapath of a neighbour) in VXLAN. */
export type LinkKind = "sleeve" | "vxlan";

/** What the router tells of a link. */
export interface LinkParams {
  readonly kind: LinkKind;
  /** Number of the link; small, and free for another once the link is gone. */
  readonly index: number;
  /** The peer at the other end: its number (which may change), and its name, six bytes. */
  readonly peer: number;
  readonly name: Uint8Array;
  /** Present where frames are to be encrypted. */
  readonly key: Uint8Array | undefined;
  /** We connected to the peer, not it to us: gives each direction nonces of its own. */
  readonly outbound: boolean;
}

/** The far end of a link: an address as a number, and a UDP port. */
export interface Remote {
  readonly address: number;
  readonly port: number;
}

/** What of a link may change. */
export interface LinkSettings {
  /** Undefined until it is known. */
  readonly remote: Remote | undefined;
  /** Address to send from; 0 leaves it to the kernel. */
  readonly local: number;
  /** Bytes that a packet of the overlay may have. */
  readonly mtu: number;
  /** Fragments get through to the peer. */
  readonly fragments: boolean;
}

/** A frame of the peer's router for ours. */
export interface SpecialFrame {
  readonly length: number;
  readonly from: Remote;
  /** The number that it begins with, behind the header. */
  readonly uid: bigint;
  readonly zeros: boolean;
}

/** Datagrams that must not be fragmented, or those that may be: each counts for itself. */
export class Stream {
  /** Where the datagram that is being filled begins in the arena; -1 where there is none. */
  at = -1;
  /** Where its next frame goes. */
  end = 0;
  /** The place set aside for it ends here. */
  limit = 0;
  /** It is among the batch's open streams. */
  listed = false;
  sequence = 0;

  constructor(
    readonly link: Link,
    readonly df: boolean,
  ) {}
}

const DIRECTION_BIT = 0x80;
export const NONCE = 24;

export class Link {
  readonly df = new Stream(this, true);
  readonly fragmentable = new Stream(this, false);
  readonly received = new ReplayWindow();
  readonly receivedDf = new ReplayWindow();
  readonly sendNonce = new Uint8Array(NONCE);
  readonly receiveNonce = new Uint8Array(NONCE);
  settings: LinkSettings = { remote: undefined, local: 0, mtu: 65_535, fragments: false };

  /** The peer's number as the tables have it now. */
  peer: number;

  constructor(readonly params: LinkParams) {
    this.peer = params.peer;
    if (params.outbound) this.sendNonce[0] = DIRECTION_BIT;
    else this.receiveNonce[0] = DIRECTION_BIT;
  }
}
