// The packet socket of probes (packet(7)), on the bridge: bridge, eBPF programs, VXLAN, ESP and sleeve treat probes like
// frames of containers.
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

// linux/sockios.h: arrival of the last received packet, by CLOCK_REALTIME.
const SIOCGSTAMPNS = 0x8907;

export interface Arrival {
  /** Valid until the next call. */
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
    // Protocol 0 until it is bound: else it would get packets of all links.
    this.#fd = openSocket("probe socket", AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
    this.#address = sockaddrLinkLayer(ifindex, ETHERTYPE_PROBE);
    try {
      bindSocket("binding the probe socket to the bridge", this.#fd, this.#address);
      // The first SIOCGSTAMPNS turns timestamps on.
      this.#arrival();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Send a whole frame. Returns 0 or an errno. */
  send(frame: Uint8Array): number {
    return trySendDatagram(this.#fd, frame, this.#address);
  }

  /** Return the next frame; undefined where there is none. Throws SysError where the bridge is gone. */
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
