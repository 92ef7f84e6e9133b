// State on disk: one SQLite file of rows, each with its room, a key and a JSON value. A change is on disk when the call
// returns, whole or not at all, and survives kill -9.

import { Database, SQLiteError } from "bun:sqlite";
import {
  accessSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
} from "node:fs";
import { dirname } from "node:path";
import * as v from "valibot";
import { fileIdentity } from "../sys/fileidentity.ts";
import { reasonOf } from "../sys/reason.ts";
import type { ProblemReport } from "../sys/trouble.ts";
import { type Journal, type JournalBounds, openJournal } from "./journal.ts";

/** application_id of the file's header: "WEAV". */
const APPLICATION_ID = 0x57454156;
/** Free bytes that SQLite needs: the index of its log has 32 kB. */
const LEAST_ROOM = 64 * 1024;
/** Format of the file; a newer one is refused. */
const FORMAT = 3;

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

const codeOf = (error: unknown): string =>
  error instanceof SQLiteError ? (error.code ?? "") : error instanceof DamagedError ? "SQLITE_CORRUPT" : "";

/** Invalid contents. */
class DamagedError extends Error {}

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
    return new Store(path, opened(path));
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
    this.#database = opened(this.path);
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

/** Open the file, creating it and its folder if absent. Throws StoreError. */
function opened(path: string): Database {
  let database: Database | undefined;
  try {
    if (!existsSync(dirname(path))) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    refuseObstacles(path);
    database = new Database(path, { create: true });
    prepare(database);
    return database;
  } catch (error) {
    throw openError(path, error, () => database?.close());
  }
}

/** Throw for what is in the way: SQLite waits for the other end of a FIFO, and says of a folder "unable to open". */
function refuseObstacles(path: string): void {
  const folder = dirname(path);
  if (!statSync(folder).isDirectory())
    throw new StoreError("disk", `${folder} is not a folder; move it away`);
  for (const file of SUFFIXES.map((suffix) => path + suffix)) {
    const found = statSync(file, { throwIfNoEntry: false });
    if (!found || found.isFile()) continue;
    const what = found.isDirectory() ? "a folder" : "not a regular file";
    throw new StoreError("disk", `${file} is ${what}; move it away`);
  }
}

/** Whether this process has a file open; on overlayfs the inode of one changes with its first write. */
const isOpen = (file: string) =>
  readdirSync("/proc/self/fd").some((fd) => fileIdentity(`/proc/self/fd/${fd}`) === file);

function prepare(database: Database): void {
  const pragma = (name: string) => Object.values(database.query(`PRAGMA ${name}`).get() ?? {})[0];
  // One router owns the file, and nobody else can come between. It also keeps the index of the write-ahead log in memory:
  // as a file it takes 32 kB that a full disk does not have, and nothing could be read.
  database.run("PRAGMA locking_mode = EXCLUSIVE");
  // Nothing is written before we know that the file is ours, or that it has nothing in it; nor what is there already,
  // which needs room.
  const tables = database.query<{ count: number }, []>("SELECT count(*) AS count FROM sqlite_schema").get();
  const ours = pragma("application_id") === APPLICATION_ID;
  if (tables?.count !== 0 && !ours) throw new DamagedError("not a state file of weave");
  const format = pragma("user_version");
  if (typeof format === "number" && format > FORMAT) {
    throw new StoreError("newer", `it has format ${format}, this version knows ${FORMAT}`);
  }
  const check = pragma("quick_check(1)");
  if (check !== "ok") throw new DamagedError(String(check));
  if (!ours || format !== FORMAT || tables?.count === 0) {
    database.transaction(() => {
      database.run(`PRAGMA application_id = ${APPLICATION_ID}`);
      database.run(`PRAGMA user_version = ${FORMAT}`);
      database.run(
        `CREATE TABLE IF NOT EXISTS state (room TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
         PRIMARY KEY (room, key)) STRICT, WITHOUT ROWID`,
      );
    })();
  }
  database.run("PRAGMA journal_mode = WAL");
  // What was committed survives the end of the process. It need not survive a power cut to the last moment: the
  // containers do not, either. For what others rely on there is durably().
  database.run("PRAGMA synchronous = NORMAL");
}

/** Whether a file cannot be written because its disk is full; SQLite does not always say so. */
function isFull(path: string, error: unknown): boolean {
  if (codeOf(error) === "SQLITE_FULL" || (error as NodeJS.ErrnoException).code === "ENOSPC") return true;
  return hasNoRoom(path);
}

/** What to do about a folder that cannot be written to, of which SQLite says "disk I/O error"; undefined where it can. */
function folderRemedy(path: string): string | undefined {
  const folder = dirname(path);
  try {
    accessSync(folder, constants.W_OK);
    return undefined;
  } catch (denied) {
    const readOnly = (denied as NodeJS.ErrnoException).code === "EROFS";
    return readOnly
      ? `the file system of ${folder} is read-only: mount it read-write, or move the file with WEAVE_STATE_DIR`
      : `${folder} cannot be written to: ${reasonOf(denied, folder)}`;
  }
}

function hasNoRoom(path: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(dirname(path));
    return bavail * bsize < LEAST_ROOM;
  } catch {
    return false;
  }
}

/** Say why a file cannot be used, after `close` has ended its use. */
function openError(path: string, error: unknown, close: () => void): StoreError {
  const damaged = ["SQLITE_NOTADB", "SQLITE_CORRUPT"].includes(codeOf(error));
  const aside = damaged ? setAside(path, close) : "";
  close();
  const what = `cannot use the state file ${path}`;
  const reason = reasonOf(error).replace(/\s+/g, " ");
  if (error instanceof StoreError && error.code !== "newer")
    return new StoreError(error.code, `${what}: ${reason}`);
  if (error instanceof StoreError) {
    return new StoreError(error.code, `${what}: ${reason}; run that version of weave, or move the file away`);
  }
  switch (codeOf(error)) {
    case "SQLITE_NOTADB":
    case "SQLITE_CORRUPT":
      return new StoreError("damaged", `${what}: ${reason}; ${aside}`);
    case "SQLITE_BUSY":
      return new StoreError("locked", `${what}: another process has it open; weave may be running already`);
    default: {
      const full = isFull(path, error);
      const remedy = full ? `the disk is full: free space in ${dirname(path)}` : folderRemedy(path);
      return new StoreError("disk", `${what}: ${reason}${remedy === undefined ? "" : `; ${remedy}`}`);
    }
  }
}

const SUFFIXES = ["", "-wal", "-shm"];

/**
 * Move a file that cannot be used out of the way, with what belongs to it; say where to, and how to go on. It is copied
 * before it is closed: SQLite then writes the log into the file, and removes the log.
 */
function setAside(path: string, close: () => void): string {
  const aside = `${path}.damaged-${new Date().toISOString().replace(/[-:]|\.\d+/g, "")}`;
  try {
    for (const suffix of SUFFIXES) if (existsSync(path + suffix)) copyFileSync(path + suffix, aside + suffix);
    close();
    for (const suffix of SUFFIXES) rmSync(path + suffix, { force: true });
  } catch {
    // A full disk has no room for copies.
    try {
      close();
      for (const suffix of SUFFIXES) if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
    } catch (error) {
      return `it could not be moved to ${aside} (${reasonOf(error)}); move it away`;
    }
  }
  return `moved to ${aside}; launch again to start afresh (addresses in use are claimed again), or restore a copy`;
}
