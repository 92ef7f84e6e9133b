// TCP resets (RFC 9293, 3.5.2) for both ends of a connection that is cut: neither waits for packets that are dropped. Built
// from a dropped segment, which has the numbers that each end accepts (RFC 5961: exactly the next one that it expects).

import { closeSync } from "node:fs";
import { internetChecksum } from "../address/checksum.ts";
import { familyOf, type Ip, ipOctets } from "../address/ip.ts";
import type { Clock } from "../clock/clock.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import type { LoggedPacket } from "../netlink/nflog.ts";
import {
  AF_INET,
  AF_INET6,
  openSocket,
  SOCK_RAW,
  sendDatagram,
  setOption,
  sockaddrIn,
  sockaddrIn6,
} from "../sys/socket.ts";
import { MID_STREAM, RESET_MARK } from "./basechain.ts";
import { type Connection, readPacket } from "./packet.ts";

/** Segments that are answered at once, and on the whole: what a pod sends costs us no more than that. */
const BURST = 200;
const SEGMENTS_PER_S = 100;

const TCP = 6;
const TCP_HEADER = 20;
const TCP_RST = 4;
const TTL = 64;
const IPPROTO_RAW = 255;
const SOL_SOCKET = 1;
const SO_MARK = 36;
const SO_DONTROUTE = 5;

export interface Header {
  readonly source: Ip;
  readonly sourcePort: number;
  readonly destination: Ip;
  readonly port: number;
  readonly sequence: number;
}

/** The IP packet of a reset. */
export function resetPacket({ source, sourcePort, destination, port, sequence }: Header): Uint8Array {
  const family = familyOf(source);
  const header = family === 4 ? 20 : 40;
  const bytes = new Uint8Array(header + TCP_HEADER);
  const view = new DataView(bytes.buffer);
  if (family === 4) {
    // The kernel fills in total length, identification and checksum (raw(7)).
    view.setUint8(0, 0x45);
    view.setUint8(8, TTL);
    view.setUint8(9, TCP);
    bytes.set(ipOctets(source), 12);
    bytes.set(ipOctets(destination), 16);
  } else {
    view.setUint8(0, 0x60);
    view.setUint16(4, TCP_HEADER);
    view.setUint8(6, TCP);
    view.setUint8(7, TTL);
    bytes.set(ipOctets(source), 8);
    bytes.set(ipOctets(destination), 24);
  }
  view.setUint16(header, sourcePort);
  view.setUint16(header + 2, port);
  view.setUint32(header + 4, sequence);
  view.setUint8(header + 12, (TCP_HEADER / 4) << 4);
  view.setUint8(header + 13, TCP_RST);
  const pseudo = [...ipOctets(source), ...ipOctets(destination), 0, TCP, 0, TCP_HEADER];
  view.setUint16(header + 16, internetChecksum(pseudo, bytes.subarray(header)));
  return bytes;
}

/** The resets that a dropped segment leads to: for its receiver, and for its sender where it says what that expects. */
export function resetsFor({ source, sourcePort, destination, port, segment }: Connection): Header[] {
  // Answering a reset would never end.
  if (!segment || segment.resets) return [];
  const onward = { source, sourcePort, destination, port, sequence: segment.sequence };
  const back = {
    ...{ source: destination, sourcePort: port, destination: source, port: sourcePort },
    sequence: segment.acknowledgement,
  };
  return segment.acknowledges ? [onward, back] : [onward];
}

export interface ResetListener {
  /** Pods are on a link of this host, or nowhere: what is for them is not sent to a gateway. */
  isPod(address: Ip): boolean;
  /** Throws SysError. */
  send(header: Header, onLink: boolean): void;
  sent(): void;
  /** They cannot be sent, for want of CAP_NET_RAW or of a route; told once. */
  failed(error: Error): void;
}

/** Answers logged packets of connections that are cut, or that began unseen. */
export class Resets {
  readonly #answers: TokenBucket;
  #failed = false;

  constructor(
    private readonly clock: Clock,
    private readonly listener: ResetListener,
  ) {
    this.#answers = new TokenBucket(BURST, SEGMENTS_PER_S, clock.now());
  }

  packet({ prefix, payload }: LoggedPacket): void {
    if (prefix !== MID_STREAM && !prefix.includes(" ")) return;
    const connection = readPacket(payload);
    const headers = connection ? resetsFor(connection) : [];
    if (headers.length === 0 || !this.#answers.take(this.clock.now())) return;
    for (const header of headers) this.#send(header);
  }

  #send(header: Header): void {
    try {
      this.listener.send(header, this.listener.isPod(header.destination));
      this.listener.sent();
    } catch (error) {
      if (this.#failed || !(error instanceof Error)) return;
      this.#failed = true;
      this.listener.failed(error);
    }
  }
}

/** Sends one from this host, past our own rules; `onLink`: to nobody behind a gateway. Throws SysError. */
export function sendReset(header: Header, onLink: boolean): void {
  const { source, destination } = header;
  const what = `reset from ${source} to ${destination}`;
  const four = familyOf(destination) === 4;
  const fd = openSocket(what, four ? AF_INET : AF_INET6, SOCK_RAW, IPPROTO_RAW);
  try {
    setOption(what, fd, SOL_SOCKET, SO_MARK, RESET_MARK);
    if (onLink) setOption(what, fd, SOL_SOCKET, SO_DONTROUTE, 1);
    const to = ipOctets(destination);
    sendDatagram(what, fd, resetPacket(header), four ? sockaddrIn(to, 0) : sockaddrIn6(to, 0));
  } finally {
    closeSync(fd);
  }
}
