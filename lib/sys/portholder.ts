// Which program has a TCP or UDP port: /proc/net/{tcp,udp} and their like list sockets, as proc(5) has them, and
// /proc/PID/fd tells whose they are.
import { readdirSync, readlinkSync } from "node:fs";
import { processIds } from "./processes.ts";
import { textOf } from "./textfile.ts";

export type Protocol = "tcp" | "udp";

/** A port in use, and the socket that has it. */
export interface Taken {
  readonly protocol: Protocol;
  /** As hexadecimal octets in the host's order; all zeros for every address. */
  readonly address: string;
  readonly port: number;
  readonly inode: string;
}

export interface Program {
  readonly pid: number;
  readonly name: string;
}

const LISTENING = "0A";
const IPV4_DIGITS = 8;

/** Reads one of the files; of TCP, only what listens. */
export function readTaken(protocol: Protocol, text: string): Taken[] {
  return text
    .split("\n")
    .slice(1)
    .flatMap((line) => {
      const [, local = "", , state, , , , , , inode = ""] = line.trim().split(/\s+/);
      const [address = "", digits = ""] = local.split(":");
      const port = Number.parseInt(digits, 16);
      return Number.isNaN(port) || (protocol === "tcp" && state !== LISTENING)
        ? []
        : [{ protocol, address, port, inode }];
    });
}

/** All ports in use in the network namespace of this thread. */
export function takenPorts(): Taken[] {
  return (["tcp", "udp"] as const).flatMap((protocol) =>
    ["", "6"].flatMap((version) =>
      readTaken(protocol, textOf(`/proc/thread-self/net/${protocol}${version}`)),
    ),
  );
}

/** The program that has a socket open; undefined for the kernel's own, and where it cannot be seen from here. */
export function programOf(inode: string): Program | undefined {
  if (inode === "0") return undefined;
  for (const pid of processIds()) {
    try {
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        if (readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`)
          return { pid: Number(pid), name: textOf(`/proc/${pid}/comm`).trim() };
      }
    } catch {
      // It has ended, or is not ours to look into.
    }
  }
  return undefined;
}

/**
 * Who has a port of `hostname` (an IPv4 address; "0.0.0.0" and "" are all of them) or of every address, in words: "nc (pid
 * 4711)"; undefined where nobody has.
 */
export function portHolder(protocol: Protocol, hostname: string, port: number): string | undefined {
  const wanted = inProc(hostname);
  const isAny = (address: string) => /^0+$/.test(address);
  const found = takenPorts().find(
    (each) =>
      each.protocol === protocol &&
      each.port === port &&
      (isAny(wanted) || isAny(each.address) || each.address.endsWith(wanted)),
  );
  if (!found) return undefined;
  const program = programOf(found.inode);
  if (program) return `${program.name} (pid ${program.pid})`;
  // Sockets of the kernel's tunnels have a number like all others.
  return "a tunnel link (see 'ip -d link') or a program in another pid namespace";
}

/** "127.0.0.1" as /proc/net/tcp has it on a little-endian machine: "0100007F". */
function inProc(hostname: string): string {
  const octets = hostname.split(".").map(Number);
  if (octets.length !== 4 || octets.some(Number.isNaN)) return "0".repeat(IPV4_DIGITS);
  return octets
    .reverse()
    .map((octet) => octet.toString(16).toUpperCase().padStart(2, "0"))
    .join("");
}
