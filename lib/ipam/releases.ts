// Attachments that were removed while no router answered: one empty file each, named for the attachment and the container
// ("NETWORK/INTERFACE/ID", URI-encoded), until a router has released their addresses. Older versions named the container
// alone. A full disk has room for empty files.
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { reasonOf } from "../sys/reason.ts";
import { IpamError } from "./errors.ts";

const fileOf = (directory: string, id: string, attachment: string) =>
  join(directory, encodeURIComponent(`${attachment}/${id}`));

/** Note to release the addresses of `id` for an attachment; throws what the file system does. */
export function rememberRelease(directory: string, id: string, attachment: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(fileOf(directory, id, attachment), "");
}

/** Remove the note: the attachment is there again. */
export function forgetRelease(directory: string, id: string, attachment: string): void {
  if (!existsSync(directory)) return;
  for (const file of [fileOf(directory, id, attachment), join(directory, encodeURIComponent(id))])
    rmSync(file, { force: true });
}

/**
 * Release what was noted, and remove the notes. An id without addresses is no error; notes that cannot be read or
 * removed are passed to `warn`, and left.
 */
export function settleReleases(
  directory: string,
  release: (id: string, attachment: string | undefined) => void,
  warn: (text: string) => void,
): void {
  for (const { name, isFile } of notes(directory)) {
    try {
      if (!isFile) throw new Error("not a regular file");
      const text = decodeURIComponent(name);
      const [, attachment, id = text] = /^([^/]*\/[^/]+)\/(.+)$/s.exec(text) ?? [];
      releaseUnlessUnknown(() => release(id, attachment));
      rmSync(join(directory, name), { force: true });
    } catch (error) {
      warn(`${join(directory, name)} does not name a container to release: ${reasonOf(error)}; remove it`);
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

function releaseUnlessUnknown(release: () => void): void {
  try {
    release();
  } catch (error) {
    if (!(error instanceof IpamError)) throw error;
  }
}
