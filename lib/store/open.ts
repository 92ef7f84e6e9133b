// Open the state file: lock it, check its format, and move a damaged one aside.
import { Database } from "bun:sqlite";
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { lockHolder } from "../sys/lockholder.ts";
import { reasonOf } from "../sys/reason.ts";
import { folderRemedy, isFull } from "./disk.ts";
import { codeOf, DamagedError, StoreError } from "./error.ts";

/** application_id of the file's header: "WEAV". */
const APPLICATION_ID = 0x57454156;
/** Format of the file; a newer one is refused. */
const FORMAT = 3;

/** Open the file, creating it and its folder if absent. Throws StoreError. */
export function openDatabase(path: string): Database {
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

/** Throw for anything but a regular file: SQLite blocks on a FIFO, and reports a folder as "unable to open". */
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

/** Make sure that the file is ours, and make its table. Throws where it is damaged, foreign or newer. */
function prepare(database: Database): void {
  const pragma = (name: string) => Object.values(database.query(`PRAGMA ${name}`).get() ?? {})[0];
  // One router owns the file, and nobody else can come between. It also keeps the index of the write-ahead log in memory:
  // as a file it takes 32 kB that a full disk does not have, and nothing could be read.
  database.run("PRAGMA locking_mode = EXCLUSIVE");
  // Write nothing before the file is known to be ours or empty, and nothing that it already contains: a full disk has no room.
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
  // Commits survive the end of the process. A power cut may lose the latest, as it ends the containers, too; durably() is for
  // state that other peers rely on.
  database.run("PRAGMA synchronous = NORMAL");
}

/** Return why a file cannot be used, after `close` has ended its use; a damaged one is moved aside. */
export function openError(path: string, error: unknown, close: () => void): StoreError {
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
      return new StoreError("locked", `${what}: ${holder(path)} has it open; ${ELSEWHERE}`);
    default: {
      const full = isFull(path, error);
      const remedy = full ? `the disk is full: free space in ${dirname(path)}` : folderRemedy(path);
      return new StoreError("disk", `${what}: ${reason}${remedy === undefined ? "" : `; ${remedy}`}`);
    }
  }
}

const ELSEWHERE = "set WEAVE_RUN_DIR as for that router, or another WEAVE_STATE_DIR";

/** "process 4711", where it is visible. */
function holder(path: string): string {
  const pid = lockHolder(path, "POSIX");
  return pid === undefined ? "another process" : `process ${pid}`;
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
