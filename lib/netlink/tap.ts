// TAP links: Ethernet links whose other end is an open file of ours (linux/if_tun.h).
import { closeSync, constants, openSync } from "node:fs";
import { syscall } from "../sys/syscall.ts";
import { LINK_NAME_MAX } from "./link/message.ts";

const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const IFREQ = 40;
const IFR_FLAGS = 16;

/**
 * Make a TAP link in this thread's namespace; it lasts as long as the file is open. Returns its non-blocking fd. With
 * `offload` each frame has a struct virtio_net_hdr in front (10 bytes), checksums may be left to be computed, and TCP
 * segments over IPv4 come and go as super-frames.
 */
export function openTap(name: string, offload = false): number {
  const fd = openSync("/dev/net/tun", constants.O_RDWR | constants.O_NONBLOCK);
  try {
    const request = new Uint8Array(IFREQ);
    request.set(new TextEncoder().encode(name).subarray(0, LINK_NAME_MAX));
    const flags = IFF_TAP | IFF_NO_PI | (offload ? IFF_VNET_HDR : 0);
    new DataView(request.buffer).setUint16(IFR_FLAGS, flags, true);
    syscall(`tap add ${name}`, "ioctl", fd, TUNSETIFF, request);
    if (offload) syscall(`tap offload ${name}`, "ioctl", fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
