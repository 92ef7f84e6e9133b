// Why the state file cannot be used.
import { SQLiteError } from "bun:sqlite";

/**
 * Why a file cannot be used: it is damaged or foreign, of a newer version, locked by another process, or the disk refuses
 * it; or a value does not fit its schema.
 */
export type StoreErrorCode = "damaged" | "newer" | "locked" | "disk" | "invalid";

/** The file cannot be used, or a change cannot be saved. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly failure = "state-file" as const;
  constructor(
    readonly code: StoreErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** Invalid contents. */
export class DamagedError extends Error {}

/** Return SQLite's code of an error; "" for others. */
export const codeOf = (error: unknown): string =>
  error instanceof SQLiteError ? (error.code ?? "") : error instanceof DamagedError ? "SQLITE_CORRUPT" : "";
