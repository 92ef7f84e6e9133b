// A file in memory, which is written for each input without being made anew.
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";

export interface MemoryFile {
  readonly path: string;
  write(bytes: Uint8Array): void;
  remove(): void;
}

/** Make a file of that name in a folder of its own. */
export function memoryFile(name: string): MemoryFile {
  const folder = mkdtempSync("/dev/shm/weave-fuzz-");
  const path = join(folder, name);
  const file = openSync(path, "w", 0o600);
  return {
    path,
    write(bytes) {
      ftruncateSync(file);
      writeSync(file, bytes, 0, bytes.length, 0);
    },
    remove() {
      closeSync(file);
      rmSync(folder, { recursive: true });
    },
  };
}
