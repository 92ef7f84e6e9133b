// State on disk: one SQLite file, values as JSON by name. A set is on disk when it returns, whole or not at all.

import { Database } from "bun:sqlite";
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import * as v from "valibot";
import { reasonOf } from "../sys/reason.ts";

/** The format of the file; another one is not touched. */
const FORMAT = 1;

/** A file that is not ours or cannot be read; the message says which and what to do. */
export class StoreError extends Error {
  override readonly name = "StoreError";
}

export class Store {
  readonly #database: Database;

  /** Opens the file, making it and its folder where there is none. Throws StoreError. */
  constructor(readonly path: string) {
    try {
      if (path !== ":memory:") mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      this.#database = new Database(path, { create: true });
      this.#database.run("PRAGMA journal_mode = WAL");
      // What was committed survives the end of the process, however sudden. It need not survive a power cut to the last
      // moment: the containers do not, either.
      this.#database.run("PRAGMA synchronous = NORMAL");
      this.#database.run("PRAGMA busy_timeout = 1000");
      const version = this.#database
        .query<{ user_version: number }, []>("PRAGMA user_version")
        .get()?.user_version;
      if (version !== 0 && version !== FORMAT) throw new Error(`it has format ${version}, not ${FORMAT}`);
      this.#database.run(
        "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
      );
      this.#database.run(`PRAGMA user_version = ${FORMAT}`);
    } catch (error) {
      const reason = reasonOf(error);
      throw new StoreError(`cannot use the state file ${path}: ${reason}; move it away to start afresh`);
    }
  }

  /** The value of that name, if there is one; throws StoreError when it is not of the expected shape. */
  get<S extends v.GenericSchema>(name: string, schema: S): v.InferOutput<S> | undefined {
    const row = this.#database
      .query<{ value: string }, [string]>("SELECT value FROM state WHERE name = ?")
      .get(name);
    if (!row) return undefined;
    const parsed = v.safeParse(schema, JSON.parse(row.value));
    if (parsed.success) return parsed.output;
    throw new StoreError(
      `"${name}" in ${this.path} is damaged: ${v.summarize(parsed.issues).replaceAll("\n", " ")}`,
    );
  }

  set(name: string, value: unknown): void {
    this.#database.query("INSERT OR REPLACE INTO state VALUES (?, ?)").run(name, JSON.stringify(value));
  }

  close(): void {
    this.#database.close();
  }
}
