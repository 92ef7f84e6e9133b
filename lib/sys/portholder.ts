// The program that has a TCP or UDP port: /proc/net/{tcp,udp}{,6} list sockets (proc(5)), /proc/PID/fd their owners.
import { readdirSync, readlinkSync } from "node:fs";
import { processIds } from "./processes.ts";
import { textOf } from "./textfile.ts";

export type Protocol = "tcp" | "udp";

/** A port in use. */
export interface Taken {
  readonly protocol: Protocol;
  /** Hexadecimal octets in host byte order; all zeros for any address. */
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

/** Parse one of the files; of TCP sockets, only those that listen. */
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

/** Return all ports in use in the network namespace of this thread. */
export function takenPorts(): Taken[] {
  return (["tcp", "udp"] as const).flatMap((protocol) =>
    ["", "6"].flatMap((version) =>
      readTaken(protocol, textOf(`/proc/thread-self/net/${protocol}${version}`)),
    ),
  );
}

/** Return a program that has a socket open; undefined for sockets of the kernel, and for programs that are not visible. */
export function programOf(inode: string): Program | undefined {
  if (inode === "0") return undefined;
  for (const pid of processIds()) {
    try {
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        if (readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`)
          return { pid: Number(pid), name: textOf(`/proc/${pid}/comm`).trim() };
      }
    } catch {
      // The process has ended, or belongs to another user.
    }
  }
  return undefined;
}

/**
 * Return the holder of a port on an IPv4 address ("0.0.0.0" and "" for any) as text: "nc (pid 4711)"; undefined if the port is
 * free.
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
  // Sockets of tunnel links have an inode, too, but no owner.
  return "a tunnel link (see 'ip -d link') or a program in another pid namespace";
}

/** Return "127.0.0.1" as /proc/net/tcp has it on a little-endian machine: "0100007F". */
function inProc(hostname: string): string {
  const octets = hostname.split(".").map(Number);
  if (octets.length !== 4 || octets.some(Number.isNaN)) return "0".repeat(IPV4_DIGITS);
  return octets
    .reverse()
    .map((octet) => octet.toString(16).toUpperCase().padStart(2, "0"))
    .join("");
}
