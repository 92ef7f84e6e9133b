// Ports of this process alone. Those that the kernel gives out (net.ipv4.ip_local_port_range) another process, which runs
// other tests beside, may have got before this one binds them.
import { closeSync } from "node:fs";
import { AF_INET, bindSocket, openSocket, SOCK_DGRAM, sockaddrIn } from "../../lib/sys/socket.ts";

const SOCK_STREAM = 1;
/** Below what the kernel gives out. */
const FIRST = 10_000;
const PORTS = 20_000;
/** Ports of a process; processes beside each other have numbers beside each other. */
const SHARE = 100;

let given = 0;

/** Return a port that is free on all addresses, for UDP and TCP, and that no other process takes. */
export function freePort(): number {
  for (;;) {
    const port = FIRST + ((process.pid * SHARE + (given++ % SHARE)) % PORTS);
    if ([SOCK_DGRAM, SOCK_STREAM].every((type) => isFree(type, port))) return port;
  }
}

function isFree(type: number, port: number): boolean {
  const fd = openSocket("a port", AF_INET, type, 0);
  try {
    bindSocket("a port", fd, sockaddrIn(Uint8Array.of(0, 0, 0, 0), port));
    return true;
  } catch {
    return false;
  } finally {
    closeSync(fd);
  }
}
