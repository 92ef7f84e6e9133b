// Containers that went while no router was there to be told: one empty file each, named after the container, until a
// router has given their addresses back.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { IpamError } from "./errors.ts";

const fileOf = (directory: string, id: string) => join(directory, encodeURIComponent(id));

/** Notes that the addresses of `id` are to be given back. */
export function rememberRelease(directory: string, id: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(fileOf(directory, id), "");
}

/** Takes the note back: the container is there again. */
export function forgetRelease(directory: string, id: string): void {
  rmSync(fileOf(directory, id), { force: true });
}

/** Gives back what was noted, and forgets the notes. An id without addresses is no error. */
export function settleReleases(directory: string, release: (id: string) => void): void {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch {
    return;
  }
  for (const name of names) {
    const id = decodeURIComponent(name);
    try {
      release(id);
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
    }
    forgetRelease(directory, id);
  }
}
