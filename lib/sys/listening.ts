// Why listening on a port or an address fails: who has it, and what to choose instead.
import { closeSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { codeOf } from "./cause.ts";
import { type Protocol, portHolder } from "./portholder.ts";
import { reasonOf } from "./reason.ts";
import { AF_INET, bindSocket, openSocket, SOCK_DGRAM, sockaddrIn } from "./socket.ts";
import type { Trouble } from "./trouble.ts";

/** Bound on the addresses named in a remedy. */
const MAX_NAMED = 8;

export interface ListeningPlace {
  readonly protocol: Protocol;
  /** An IPv4 address; "" for all of them. */
  readonly hostname: string;
  readonly port: number;
  /** What chooses it, such as "--port". */
  readonly option: string;
}

export type ListenTrouble = Trouble<"port in use" | "not our address" | "not permitted" | "other">;

/** Return why listening failed: the program that has the port, or the addresses that this host has. */
export function listenTrouble(error: unknown, place: ListeningPlace): ListenTrouble {
  const { protocol, hostname, port, option } = place;
  const code = codeOf(error);
  if (code === "EADDRINUSE") {
    const holder = portHolder(protocol, hostname, port) ?? "another program";
    const reason = `${protocol.toUpperCase()} port ${port} is in use by ${holder}`;
    return { cause: "port in use", reason, remedy: `stop that, or choose another with ${option}` };
  }
  if (code === "EADDRNOTAVAIL") return notOurAddress(option);
  if (code === "EACCES") {
    const reason = "permission denied: ports below 1024 need root";
    return { cause: "not permitted", reason, remedy: "run it as root" };
  }
  return { cause: "other", reason: reasonOf(error), remedy: "" };
}

/** Return the trouble with an address of another host; the remedy names those of this host. */
export function notOurAddress(option: string): ListenTrouble {
  const found = Object.entries(networkInterfaces()).flatMap(([link, addresses]) =>
    (addresses ?? []).filter(({ family }) => family === "IPv4").map((each) => `${each.address} (${link})`),
  );
  const cause = "not our address";
  if (found.length === 0)
    return { cause, reason: "not an address of this host, which has none", remedy: "give it one" };
  const more = found.length > MAX_NAMED ? ", …" : "";
  const remedy = `choose one with ${option}: ${found.slice(0, MAX_NAMED).join(", ")}${more}`;
  return { cause, reason: "not an address of this host", remedy };
}

/** True for an IPv4 address that this host can listen on, all of 127.0.0.0/8 among them. */
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
