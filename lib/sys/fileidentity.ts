// Which file it is, by whatever path or descriptor. An inode alone does not say: each file system counts its own.
import { fstatSync, statSync } from "node:fs";

/** Return device and inode of a file, "2049:77"; undefined where there is none, or it cannot be looked at. */
export function fileIdentity(file: string | number): string | undefined {
  try {
    const options = { bigint: true } as const;
    const { dev, ino } = typeof file === "number" ? fstatSync(file, options) : statSync(file, options);
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}
