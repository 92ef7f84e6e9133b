// Kernel settings under /proc/sys, in the network namespace of the calling thread. In a container /proc/sys is read-only; there,
// our manifests mount the part of networks elsewhere, writable.
import { closeSync, constants, existsSync, openSync, writeSync } from "node:fs";
import { KeptFile } from "../sys/keptfile.ts";
import { readText } from "../sys/textfile.ts";

/** Where /proc/sys/net is writable in a container that is not privileged. */
export const CONTAINER_SYSCTLS = "/host/proc/sys/net";

let written = "/proc/sys/net";

/** Return the path to write a setting to. */
function writable(name: string): string {
  return name.startsWith("net/") ? `${written}${name.slice(3)}` : `/proc/sys/${name}`;
}

/** Return a value; undefined where the kernel does not have it. */
export function sysctlGet(name: string): string | undefined {
  return orUndefined(() => readText(pathOf(name)));
}

/** Values that are read again and again, in the network namespace of the thread that read them first. */
export class KeptSysctls {
  readonly #files = new Map<string, KeptFile>();

  /** Return a value now; undefined where the kernel does not have it. */
  get(name: string): string | undefined {
    const file = this.#files.get(name) ?? new KeptFile(pathOf(name));
    this.#files.set(name, file);
    return orUndefined(() => file.read());
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
  }
}

const pathOf = (name: string) => `/proc/sys/${name}`;

function orUndefined(read: () => string): string | undefined {
  try {
    return read().trim();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Set a value; false where the kernel does not have it (IPv6 switched off) or /proc/sys is read-only. */
export function sysctlSet(name: string, value: string): boolean {
  try {
    write(writable(name), value);
    return true;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EROFS" && written !== CONTAINER_SYSCTLS && existsSync(CONTAINER_SYSCTLS)) {
      written = CONTAINER_SYSCTLS;
      return sysctlSet(name, value);
    }
    if (code === "ENOENT" || code === "EROFS" || code === "EACCES" || code === "EINVAL") return false;
    throw error;
  }
}

/** Write to a file that is there, without the calls by which one is made or cut. */
function write(path: string, value: string): void {
  const fd = openSync(path, constants.O_WRONLY);
  try {
    writeSync(fd, value);
  } finally {
    closeSync(fd);
  }
}

/** A setting under /proc/sys, "net/ipv4/ip_forward", and its value. */
export interface Sysctl {
  readonly name: string;
  readonly value: string;
}
