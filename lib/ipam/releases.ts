// Containers that went while no router was there to be told: one empty file each, named after the container, until a
// router has given their addresses back.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { reasonOf } from "../sys/reason.ts";
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

/**
 * Gives back what was noted, and forgets the notes. An id without addresses is no error; notes that cannot be read or
 * removed are told to `warn`, and left.
 */
export function settleReleases(
  directory: string,
  release: (id: string) => void,
  warn: (text: string) => void,
): void {
  for (const { name, isFile } of notes(directory)) {
    try {
      if (!isFile) throw new Error("it is no file");
      const id = decodeURIComponent(name);
      releaseUnlessUnknown(id, release);
      forgetRelease(directory, id);
    } catch (error) {
      warn(`${join(directory, name)} is no container to release: ${reasonOf(error)}; remove it`);
    }
  }
}

function notes(directory: string): { name: string; isFile: boolean }[] {
  try {
    return readdirSync(directory, { withFileTypes: true }).map((entry) => ({
      name: entry.name,
      isFile: entry.isFile(),
    }));
  } catch {
    return [];
  }
}

function releaseUnlessUnknown(id: string, release: (id: string) => void): void {
  try {
    release(id);
  } catch (error) {
    if (!(error instanceof IpamError)) throw error;
  }
}
