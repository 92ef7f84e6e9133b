// The packet socket on the bridge that probes leave by and arrive at (packet(7)): the kernel's bridge, the eBPF programs,
// VXLAN, ESP and sleeve do with them what they do with frames of containers.
import { closeSync } from "node:fs";
import { nanoseconds, realtimeNow } from "../../sys/clocks.ts";
import {
  AF_PACKET,
  bindSocket,
  openSocket,
  receiveDatagram,
  SOCK_NONBLOCK,
  SOCK_RAW,
  sockaddrLinkLayer,
  trySendDatagram,
} from "../../sys/socket.ts";
import { trySyscall } from "../../sys/syscall.ts";
import { ETHERTYPE_PROBE, MAX_PROBE } from "./frame.ts";

// linux/sockios.h: when the last packet handed over has arrived, by CLOCK_REALTIME.
const SIOCGSTAMPNS = 0x8907;

export interface Arrival {
  /** Good until the next call. */
  readonly frame: Uint8Array;
  /** CLOCK_REALTIME, ns, by the kernel. */
  readonly at: bigint;
}

export class ProbeSocket {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(MAX_PROBE + 1);
  readonly #address: Uint8Array;

  /** `ifindex`: the bridge's. Throws SysError. */
  constructor(readonly ifindex: number) {
    // None before it is bound: it would get those of all links.
    this.#fd = openSocket("probe socket", AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
    this.#address = sockaddrLinkLayer(ifindex, ETHERTYPE_PROBE);
    try {
      bindSocket("binding the probe socket to the bridge", this.#fd, this.#address);
      // Asking for the first time has the kernel note arrivals from now on.
      this.#arrival();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Send a whole frame; returns 0, or the errno of the refusal. */
  send(frame: Uint8Array): number {
    return trySendDatagram(this.#fd, frame, this.#address);
  }

  /** The next frame that has come; undefined where there is none. Throws SysError where the bridge has gone. */
  receive(): Arrival | undefined {
    const frame = receiveDatagram("receiving probes", this.#fd, this.#buffer, false);
    return frame && { frame, at: this.#arrival() ?? realtimeNow() };
  }

  close(): void {
    closeSync(this.#fd);
  }

  #arrival(): bigint | undefined {
    const timespec = new BigInt64Array(2);
    const result = trySyscall("ioctl", this.#fd, SIOCGSTAMPNS, new Uint8Array(timespec.buffer));
    if (result < 0) return undefined;
    return nanoseconds(timespec);
  }
}
