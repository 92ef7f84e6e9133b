// State on disk: one SQLite file of rows, each with its room, a key and a JSON value. A change is on disk when the call
// returns, whole or not at all, and survives kill -9.

import { type Database, SQLiteError } from "bun:sqlite";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import * as v from "valibot";
import { fileIdentity } from "../sys/fileidentity.ts";
import { reasonOf } from "../sys/reason.ts";
import type { ProblemReport } from "../sys/trouble.ts";
import { folderRemedy, hasNoRoom, isFull } from "./disk.ts";
import { DamagedError, StoreError } from "./error.ts";
import { type Journal, type JournalBounds, openJournal } from "./journal.ts";
import { openDatabase, openError } from "./open.ts";

/** Handling of rows that the host can do without. */
export interface Lenient {
  /** Called for an invalid row, which is skipped, and stays until it is set again. */
  readonly damaged: (what: string) => void;
  /** Further rows are skipped. */
  readonly limit: number;
}

/** The rows of one room. */
export interface Rows<T> {
  get(key: string): T | undefined;
  all(): Map<string, T>;
  set(key: string, value: T): void;
  delete(key: string): void;
  clear(): void;
}

export class Store {
  #database: Database;
  /** Of the file that is open, which may have been removed. */
  #file: string | undefined;
  /** False while a copy waits to take the place of the removed file. */
  #isOpen = true;
  /** The first failure since the last successful save. */
  #failed:
    | { readonly since: Date; readonly message: string; readonly remedy: string; readonly full: boolean }
    | undefined;

  private constructor(
    readonly path: string,
    database: Database,
  ) {
    this.#database = database;
    this.#file = fileIdentity(path);
  }

  get #copy(): string {
    return `${this.path}.new`;
  }

  /** The database; throws StoreError while the file waits to be opened again. */
  get #current(): Database {
    if (this.#isOpen) return this.#database;
    throw new StoreError(
      "disk",
      `the state file ${this.path} was removed, and its copy cannot be opened; 'weave status' says why`,
    );
  }

  /**
   * Open the file, creating it and its folder if absent. A damaged or foreign file is moved aside, never written. Throws
   * StoreError.
   */
  static open(path: string): Store {
    return new Store(path, openDatabase(path));
  }

  /**
   * Return the rows of a room; `schema` checks values on read and write. An invalid value condemns the whole file and
   * throws StoreError, unless `lenient`.
   */
  rows<S extends v.GenericSchema>(room: string, schema: S, lenient?: Lenient): Rows<v.InferOutput<S>> {
    const read = (key: string, json: string): v.InferOutput<S> | undefined => {
      try {
        return v.parse(schema, JSON.parse(json));
      } catch (error) {
        const what = `"${key}" of "${room}" is invalid: ${reasonOf(error)}`;
        if (!lenient)
          throw openError(this.path, new DamagedError(what, { cause: error }), () => this.close());
        lenient.damaged(`skipping a damaged entry of ${this.path}: ${what}`);
        return undefined;
      }
    };
    return {
      get: (key) => {
        const row = this.#current
          .query<{ value: string }, [string, string]>("SELECT value FROM state WHERE room = ? AND key = ?")
          .get(room, key);
        return row ? read(key, row.value) : undefined;
      },
      all: () => {
        const limit = lenient?.limit ?? -1;
        const rows = this.#current
          .query<{ key: string; value: string }, [string, number]>(
            "SELECT key, value FROM state WHERE room = ? LIMIT ?",
          )
          .all(room, limit < 0 ? limit : limit + 1);
        if (limit >= 0 && rows.length > limit) {
          lenient?.damaged(`${this.path} has more than ${limit} rows of "${room}": skipping the rest`);
          rows.length = limit;
        }
        const values = new Map<string, v.InferOutput<S>>();
        for (const { key, value } of rows) {
          const sound = read(key, value);
          if (sound !== undefined) values.set(key, sound);
        }
        return values;
      },
      set: (key, value) => {
        const json = JSON.stringify(value);
        // An unreadable value would cost the next start all state.
        const { success, issues } = v.safeParse(schema, JSON.parse(json));
        if (!success) {
          const wrong = issues.map(({ message }) => message).join("; ");
          throw new StoreError("invalid", `not saved to ${this.path}: "${key}" of "${room}": ${wrong}`);
        }
        this.#run("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", room, key, json);
      },
      delete: (key) => this.#run("DELETE FROM state WHERE room = ? AND key = ?", room, key),
      clear: () => this.#run("DELETE FROM state WHERE room = ?", room),
    };
  }

  /** Return the journal, one a file; `now` is in ms since the epoch. Throws SQLiteError. */
  journal<S extends v.GenericSchema<unknown, { readonly at: number }>>(
    schema: S,
    bounds: JournalBounds,
    now: () => number,
  ): Journal<v.InferOutput<S>> {
    return openJournal(() => this.#current, schema, bounds, now);
  }

  /** Make changes that survive a power cut, at the price of an fsync. */
  durably(change: () => void): void {
    try {
      this.#current.run("PRAGMA synchronous = FULL");
      change();
    } finally {
      this.#current.run("PRAGMA synchronous = NORMAL");
    }
  }

  /** Problems of the disk, for the status. */
  problems(): ProblemReport[] {
    if (!this.#failed) return [];
    const { since, message, remedy, full } = this.#failed;
    // There may be room again, with no save since.
    if (full && !hasNoRoom(this.path)) return [];
    const when = since.toISOString().replace(/\.\d+/, "");
    const effect = "existing containers keep working, new addresses and names are refused";
    return [{ Check: "state", Found: `${message}, since ${when}: ${effect}`, Advice: remedy }];
  }

  /**
   * Write the file again if it was removed; return whether it was. Throws StoreError if that fails, or if another file is in
   * its place, which stays as it is.
   */
  restore(): boolean {
    if (!this.#isOpen) {
      this.#reopen();
      return true;
    }
    const found = fileIdentity(this.path);
    if (found !== undefined && (found === this.#file || isOpen(found))) return false;
    if (found !== undefined)
      throw new StoreError(
        "disk",
        `the state file ${this.path} was replaced while the router runs, which saves its changes to the removed one; ` +
          "remove the file that is there, or 'weave stop' and 'weave launch' to use it",
      );
    try {
      mkdirSync(dirname(this.path), { recursive: true, mode: 0o700 });
      rmSync(this.#copy, { force: true });
      this.#database.query("VACUUM INTO ?").run(this.#copy);
    } catch (error) {
      throw this.#saveError(error);
    }
    // SQLite removes the log by its name when it closes: first the old file, then the new one in its place.
    this.#database.close();
    this.#isOpen = false;
    this.#reopen();
    return true;
  }

  /** Open the copy in the file's place; again where that failed half way. Throws StoreError, and what the file system does. */
  #reopen(): void {
    if (existsSync(this.#copy)) renameSync(this.#copy, this.path);
    this.#database = openDatabase(this.path);
    this.#file = fileIdentity(this.path);
    this.#isOpen = true;
  }

  close(): void {
    this.#database.close();
  }

  #run(sql: string, ...values: string[]): void {
    try {
      const { changes } = this.#current.query<never, string[]>(sql).run(...values);
      // A change of nothing is not written.
      if (changes > 0) this.#failed = undefined;
    } catch (error) {
      throw this.#saveError(error);
    }
  }

  #saveError(error: unknown): unknown {
    if (!(error instanceof SQLiteError)) return error;
    const full = isFull(this.path, error);
    const remedy = full ? "free space on that disk" : (folderRemedy(this.path) ?? "check that disk");
    const message = `cannot save to ${this.path}: ${reasonOf(error)}`;
    this.#failed ??= { since: new Date(), message, remedy, full };
    return new StoreError("disk", `${message}; ${remedy} and try again`);
  }
}

/** Whether this process has a file open; on overlayfs the inode of one changes with its first write. */
const isOpen = (file: string) =>
  readdirSync("/proc/self/fd").some((fd) => fileIdentity(`/proc/self/fd/${fd}`) === file);
