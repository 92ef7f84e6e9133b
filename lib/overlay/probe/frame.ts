// Probes: frames between the bridges of two peers that measure loss, round-trip time and MTU of the overlay. Ethernet
// addresses are those of the bridges, which are the peers' names:
//
//   destination[6] source[6] ethertype[2]=88b5
//   version[1] kind[1] way[1] 0[1] session[8] sequence[4] size[2] 0[2] dwell[4] zeros…
//
// `size` is the length of the frame as sent; `dwell` the nanoseconds from the arrival of a probe to its echo. The ethertype
// is the first of two for local experiments (IEEE Std 802), which kernels ignore.
import { viewOf } from "../../bytes/view.ts";
import { nameFromBytes, nameToBytes, type PeerName } from "../../mesh/name.ts";

export const ETHERTYPE_PROBE = 0x88b5;
/** The shortest frame of Ethernet, without FCS; has room for all fields. */
export const MIN_PROBE = 60;
/** The largest value of `size`. */
export const MAX_PROBE = 0xffff;

const VERSION = 1;
const KINDS = ["probe", "echo"] as const;
/** The way of a probe: that of the frames of containers, or a given overlay, in use or not. */
const WAYS = ["route", "fastdp", "sleeve"] as const;
export type Way = (typeof WAYS)[number];

/** Byte offsets in the frame. */
const AT = {
  ethertype: 12,
  version: 14,
  kind: 15,
  way: 16,
  session: 18,
  sequence: 26,
  size: 30,
  dwell: 34,
} as const;
const MAX_DWELL = 0xffff_ffff;

export interface ProbeFrame {
  readonly from: PeerName;
  readonly to: PeerName;
  readonly kind: (typeof KINDS)[number];
  readonly way: Way;
  readonly session: bigint;
  readonly sequence: number;
  /** Bytes of the whole frame, with its Ethernet header. */
  readonly size: number;
  /** Nanoseconds. */
  readonly dwell: number;
}

/** Encode a probe. Throws RangeError for a size that does not fit. */
export function encodeProbe(frame: ProbeFrame): Uint8Array {
  const { size } = frame;
  if (size < MIN_PROBE || size > MAX_PROBE) throw new RangeError(`no probe has ${size} bytes`);
  const bytes = new Uint8Array(size);
  bytes.set(nameToBytes(frame.to), 0);
  bytes.set(nameToBytes(frame.from), 6);
  const view = new DataView(bytes.buffer);
  view.setUint16(AT.ethertype, ETHERTYPE_PROBE);
  view.setUint8(AT.version, VERSION);
  view.setUint8(AT.kind, KINDS.indexOf(frame.kind));
  view.setUint8(AT.way, WAYS.indexOf(frame.way));
  view.setBigUint64(AT.session, frame.session);
  view.setUint32(AT.sequence, frame.sequence);
  view.setUint16(AT.size, size);
  view.setUint32(AT.dwell, Math.min(MAX_DWELL, Math.max(0, Math.round(frame.dwell))));
  return bytes;
}

/** Decode a frame; undefined for what is no probe, or was truncated. */
export function decodeProbe(bytes: Uint8Array): ProbeFrame | undefined {
  if (bytes.length < MIN_PROBE) return undefined;
  const view = viewOf(bytes);
  if (view.getUint16(AT.ethertype) !== ETHERTYPE_PROBE || view.getUint8(AT.version) !== VERSION)
    return undefined;
  const kind = KINDS[view.getUint8(AT.kind)];
  const way = WAYS[view.getUint8(AT.way)];
  const size = view.getUint16(AT.size);
  if (kind === undefined || way === undefined || size !== bytes.length) return undefined;
  return {
    from: nameFromBytes(bytes.subarray(6, 12)),
    to: nameFromBytes(bytes.subarray(0, 6)),
    kind,
    way,
    session: view.getBigUint64(AT.session),
    sequence: view.getUint32(AT.sequence),
    size,
    dwell: view.getUint32(AT.dwell),
  };
}
