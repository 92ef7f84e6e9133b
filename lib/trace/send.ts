// Sends a probe from a container: by its own routes and ARP, as a program in it would (raw(7)).

import { closeSync } from "node:fs";
import { ipv4Octets } from "../address/ipv4.ts";
import { closeOnce } from "../sys/closeonce.ts";
import { strerror } from "../sys/libc.ts";
import { inNetns } from "../sys/netns.ts";
import {
  AF_INET,
  bindSocket,
  openSocket,
  SOCK_NONBLOCK,
  SOCK_RAW,
  setOption,
  sockaddrIn,
  trySendDatagram,
} from "../sys/socket.ts";
import { PROTOCOL_NUMBER, type Probe, probePayload } from "./probe.ts";

const IPPROTO_IP = 0;
const IP_MTU_DISCOVER = 10;
/** Set "don't fragment", and takes no notice of what the kernel has learned of the path. */
const PMTUDISC_PROBE = 3;

export interface Sender {
  /** Send one; return why the kernel refused it, if it did. */
  send(sequence: number): string | undefined;
  close(): void;
}

/** `size`: bytes of the IP packet, where it is to be as large as that. Throws SysError or NetnsError. */
export function sender(netns: string, probe: Probe, size = 0): Sender {
  const fd = inNetns(netns, () =>
    openSocket("raw socket", AF_INET, SOCK_RAW | SOCK_NONBLOCK, PROTOCOL_NUMBER[probe.protocol]),
  );
  try {
    setOption("raw socket: IP_MTU_DISCOVER", fd, IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE);
    bind(fd, probe);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  const to = sockaddrIn(ipv4Octets(probe.destination), 0);
  return {
    send(sequence) {
      const errno = trySendDatagram(fd, probePayload(probe, sequence, size), to);
      return errno === 0 ? undefined : strerror(errno);
    },
    close: closeOnce(fd),
  };
}

function bind(fd: number, { source }: Probe): void {
  bindSocket("raw socket", fd, sockaddrIn(ipv4Octets(source), 0));
}
