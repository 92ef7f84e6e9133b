// A bounded list of entries on disk, oldest first: a table of the state file. Values are JSON.
import type { Database } from "bun:sqlite";
import * as v from "valibot";

/** A table of its own; older versions leave it alone. */
const TABLE = `CREATE TABLE IF NOT EXISTS journal (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, value TEXT NOT NULL) STRICT`;
const INSERT = "INSERT INTO journal (at, value) VALUES (?, ?)";
const PRUNE = "DELETE FROM journal WHERE at < ? OR id <= (SELECT max(id) FROM journal) - ?";
const SELECT =
  "SELECT value FROM (SELECT id, value FROM journal WHERE at >= ? ORDER BY id DESC LIMIT ?) ORDER BY id";

export interface JournalBounds {
  readonly entries: number;
  readonly ageMs: number;
}

/** Entries, and when each was made, in ms since the epoch. */
export interface Journal<T> {
  /** Entries within the bounds, without invalid ones. */
  all(): T[];
  /** Add entries, and remove those beyond the bounds. Throws SQLiteError. */
  add(entries: readonly T[]): void;
}

/** Return the journal of a database, which may be replaced; created if absent. Throws SQLiteError. */
export function openJournal<S extends v.GenericSchema<unknown, { readonly at: number }>>(
  current: () => Database,
  schema: S,
  bounds: JournalBounds,
  now: () => number,
): Journal<v.InferOutput<S>> {
  current().run(TABLE);
  return {
    all: () =>
      current()
        .query<{ value: string }, [number, number]>(SELECT)
        .all(now() - bounds.ageMs, bounds.entries)
        .flatMap(({ value }) => {
          const read = v.safeParse(v.pipe(v.string(), v.parseJson(), schema), value);
          return read.success ? [read.output] : [];
        }),
    add(entries) {
      const database = current();
      const insert = database.query<never, [number, string]>(INSERT);
      database.transaction(() => {
        for (const entry of entries) insert.run(entry.at, JSON.stringify(entry));
        database.query<never, [number, number]>(PRUNE).run(now() - bounds.ageMs, bounds.entries);
      })();
    },
  };
}
