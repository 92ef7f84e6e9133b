// Ethernet frames for tests, put together by the book and checked likewise.

export const MAC_A = "02000000000a";
export const MAC_B = "02000000000b";

/** RFC 1071, the slow way: 0xffff for what bears a right checksum. */
export function checksum(...parts: Uint8Array[]): number {
  const bytes = Buffer.concat(parts);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

export interface PacketOptions {
  readonly protocol?: number;
  readonly df?: boolean;
  readonly id?: number;
  readonly source?: string;
  readonly destination?: string;
}

/** An IPv4 packet in a frame from MAC_A to MAC_B. */
export function ipv4Frame(payload: Uint8Array, options: PacketOptions = {}): Uint8Array {
  const { protocol = 17, df = true, id = 7, source = MAC_A, destination = MAC_B } = options;
  const frame = new Uint8Array(34 + payload.length);
  const view = new DataView(frame.buffer);
  frame.set(Uint8Array.fromHex(destination), 0);
  frame.set(Uint8Array.fromHex(source), 6);
  view.setUint16(12, 0x0800);
  view.setUint8(14, 0x45);
  view.setUint16(16, 20 + payload.length);
  view.setUint16(18, id);
  view.setUint16(20, df ? 0x4000 : 0);
  view.setUint8(22, 64);
  view.setUint8(23, protocol);
  frame.set([10, 32, 0, 1, 10, 40, 0, 1], 26);
  view.setUint16(24, ~checksum(frame.subarray(14, 34)) & 0xffff);
  frame.set(payload, 34);
  return frame;
}

export interface SegmentOptions extends PacketOptions {
  readonly sequence?: number;
  readonly acknowledgement?: number;
  readonly flags?: number;
  readonly window?: number;
}

/** A TCP segment with a timestamp option; its checksum is right. */
export function tcpFrame(payload: Uint8Array, options: SegmentOptions = {}): Uint8Array {
  const { sequence = 1000, acknowledgement = 77, flags = 0x10, window = 500 } = options;
  const header = new Uint8Array(32);
  const view = new DataView(header.buffer);
  view.setUint16(0, 40_000);
  view.setUint16(2, 5201);
  view.setUint32(4, sequence);
  view.setUint32(8, acknowledgement);
  view.setUint8(12, 0x80);
  view.setUint8(13, flags);
  view.setUint16(14, window);
  header.set([1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4], 20);
  const frame = ipv4Frame(new Uint8Array(Buffer.concat([header, payload])), { protocol: 6, ...options });
  new DataView(frame.buffer).setUint16(34 + 16, ~tcpChecksum(frame) & 0xffff);
  return frame;
}

/** Over pseudo-header and segment: 0xffff where it is right. */
function tcpChecksum(frame: Uint8Array): number {
  const segment = frame.subarray(34);
  return checksum(frame.subarray(26, 34), Uint8Array.of(0, 6, segment.length >> 8, segment.length), segment);
}

/** A well-formed IPv4 header and, where it is TCP, a right checksum. */
export function isSound(frame: Uint8Array): boolean {
  const view = new DataView(frame.buffer, frame.byteOffset);
  if (view.getUint16(16) !== frame.length - 14) return false;
  if (checksum(frame.subarray(14, 34)) !== 0xffff) return false;
  return frame[23] !== 6 || tcpChecksum(frame) === 0xffff;
}

/** An end of a UDP packet: Ethernet address, IPv4 address, port. */
export interface UdpEnd {
  readonly mac: Uint8Array;
  readonly address: string;
  readonly port: number;
}

/** A UDP packet in an IPv4 packet in a frame, without a checksum of UDP's own. */
export function udpFrame(source: UdpEnd, destination: UdpEnd, data: Uint8Array): Uint8Array {
  const udp = new Uint8Array(8 + data.length);
  const view = new DataView(udp.buffer);
  view.setUint16(0, source.port);
  view.setUint16(2, destination.port);
  view.setUint16(4, udp.length);
  udp.set(data, 8);
  const frame = ipv4Frame(udp, { source: source.mac.toHex(), destination: destination.mac.toHex() });
  frame.set(source.address.split(".").map(Number), 26);
  frame.set(destination.address.split(".").map(Number), 30);
  frame.set([0, 0], 24);
  new DataView(frame.buffer).setUint16(24, ~checksum(frame.subarray(14, 34)) & 0xffff);
  return frame;
}
