// TAP links: Ethernet links whose other end is an open file of ours (linux/if_tun.h).
import { closeSync, constants, openSync } from "node:fs";
import { syscall } from "../sys/syscall.ts";
import { LINK_NAME_MAX } from "./link.ts";

const TUNSETIFF = 0x400454ca;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFREQ = 40;
const IFR_FLAGS = 16;

/** Makes a TAP link in this thread's namespace; it lasts as long as the file is open. Returns its non-blocking fd. */
export function openTap(name: string): number {
  const fd = openSync("/dev/net/tun", constants.O_RDWR | constants.O_NONBLOCK);
  try {
    const request = new Uint8Array(IFREQ);
    request.set(new TextEncoder().encode(name).subarray(0, LINK_NAME_MAX));
    new DataView(request.buffer).setUint16(IFR_FLAGS, IFF_TAP | IFF_NO_PI, true);
    syscall(`tap add ${name}`, "ioctl", fd, TUNSETIFF, request);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
