// Where a probe is seen: one packet socket for all links of a network namespace (packet(7)), with a filter for the probe.
import { close } from "node:fs";
import { EAGAIN, EINTR, ENETDOWN, ENOBUFS } from "../sys/errno.ts";
import {
  AF_PACKET,
  bindSocket,
  openSocket,
  SOCK_NONBLOCK,
  SOCK_RAW,
  sockaddrLinkLayer,
} from "../sys/socket.ts";
import { attachFilter } from "../sys/socketfilter.ts";
import { SysError, trySyscall } from "../sys/syscall.ts";
import { probeFilter } from "./filter.ts";
import { type Probe, type Sign, signOf } from "./probe.ts";

const ALL_LINKS = 0;
const ETH_P_ALL = 3;
const PACKET_OUTGOING = 4;
/** struct sockaddr_ll: the link's index and which way the frame went. */
const SOCKADDR = { index: 4, type: 10, size: 20 } as const;
/** Headers, and enough behind them. */
const FRAME = 256;
/** Frames read at a time, and in all: a peer may ask for a flow that is busy. A trace sends far fewer. */
const MAX_FRAMES = 256;
const MAX_ALL = 1_024;

/** A probe, or what belongs to it, on a link. */
export interface Sighting {
  /** ifindex. */
  readonly link: number;
  readonly sign: Sign;
  /** It left this namespace by the link; else it came in. */
  readonly out: boolean;
}

export interface Capture {
  /** What was seen since the last time. Throws SysError. */
  read(): Sighting[];
  close(): void;
}

/** Watches the network namespace that this thread is in now. Throws SysError. */
export function capture(probe: Probe): Capture {
  const fd = openSocket("packet socket", AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
  try {
    attachFilter("attaching a filter to a packet socket", fd, probeFilter(probe));
    bindSocket("packet socket", fd, sockaddrLinkLayer(ALL_LINKS, ETH_P_ALL));
  } catch (error) {
    closeLater(fd);
    throw error;
  }
  let left = MAX_ALL;
  let open = true;
  const close = () => {
    if (open) closeLater(fd);
    open = false;
  };
  return {
    read() {
      if (!open) return [];
      const { frames, sightings } = readAll(fd, probe);
      left -= frames;
      // The kernel copies no more of them, either.
      if (left <= 0) close();
      return sightings;
    },
    close,
  };
}

function readAll(fd: number, probe: Probe): { readonly frames: number; readonly sightings: Sighting[] } {
  const sightings: Sighting[] = [];
  const buffer = new Uint8Array(FRAME);
  const sockaddr = new Uint8Array(SOCKADDR.size);
  const view = new DataView(sockaddr.buffer);
  const length = new Uint8Array(4);
  let frames = 0;
  for (; frames < MAX_FRAMES; frames++) {
    new DataView(length.buffer).setUint32(0, SOCKADDR.size, true);
    const got = trySyscall("recvfrom", fd, buffer, buffer.length, 0, sockaddr, length);
    if (got === -EAGAIN) break;
    // A link that went down is told once; the socket goes on.
    if (got === -EINTR || got === -ENETDOWN || got === -ENOBUFS) continue;
    if (got < 0) throw new SysError("reading a packet socket", -got);
    const sign = signOf(buffer.subarray(0, got), probe);
    if (sign === undefined) continue;
    const out = view.getUint8(SOCKADDR.type) === PACKET_OUTGOING;
    sightings.push({ link: view.getInt32(SOCKADDR.index, true), sign, out });
  }
  return { frames, sightings };
}

/** Closing a packet socket waits for all processors: not on this thread. */
function closeLater(fd: number): void {
  close(fd, () => {});
}
