// Why a port or an address cannot be listened on: who has it, and what there is instead.
import { closeSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { codeOf } from "./cause.ts";
import { type Protocol, portHolder } from "./portholder.ts";
import { reasonOf } from "./reason.ts";
import { AF_INET, bindSocket, openSocket, SOCK_DGRAM, sockaddrIn } from "./socket.ts";

/** Addresses named in one line. */
const MAX_NAMED = 8;

export interface ListeningPlace {
  readonly protocol: Protocol;
  /** An IPv4 address; "" for all of them. */
  readonly hostname: string;
  readonly port: number;
  /** What chooses it, such as "--port". */
  readonly option: string;
}

/**
 * Why one cannot listen, in words. Names the program that has the port, and the addresses that this host
 * has.
 */
export function listenReason(error: unknown, { protocol, hostname, port, option }: ListeningPlace): string {
  const code = codeOf(error);
  if (code === "EADDRINUSE") {
    const holder = portHolder(protocol, hostname, port) ?? "another program";
    return `${protocol.toUpperCase()} port ${port} is in use by ${holder}; stop that, or choose another with ${option}`;
  }
  if (code === "EADDRNOTAVAIL") return notOurs(option);
  if (code === "EACCES") return "permission denied: ports below 1024 need root; run it as root";
  return reasonOf(error);
}

/** Says that an address is none of this host's, and which are; `option` is what chooses it. */
export function notOurs(option: string): string {
  const found = Object.entries(networkInterfaces()).flatMap(([link, addresses]) =>
    (addresses ?? []).filter(({ family }) => family === "IPv4").map((each) => `${each.address} (${link})`),
  );
  if (found.length === 0) return "not an address of this host, which has none; give it one";
  const more = found.length > MAX_NAMED ? ", …" : "";
  return `not an address of this host; choose one with ${option}: ${found.slice(0, MAX_NAMED).join(", ")}${more}`;
}

/** Whether one can listen on an IPv4 address here, as one can on all of 127.0.0.0/8. */
export function isOwnAddress(address: string): boolean {
  const fd = openSocket("a UDP socket", AF_INET, SOCK_DGRAM, 0);
  try {
    bindSocket("binding", fd, sockaddrIn(Uint8Array.from(address.split("."), Number), 0));
    return true;
  } catch (error) {
    return codeOf(error) !== "EADDRNOTAVAIL";
  } finally {
    closeSync(fd);
  }
}
