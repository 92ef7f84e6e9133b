// The state file: damaged, of another, opened twice.
import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { StoreError } from "../../lib/store/error.ts";
import { Store } from "../../lib/store/store.ts";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-store-"));
  path = join(folder, "weave.db");
});
afterEach(() => rmSync(folder, { recursive: true }));

const codeOf = (open: () => unknown) => {
  try {
    open();
    return undefined;
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
};

test.each([
  ["that is no database any more", (whole: Buffer) => Buffer.alloc(whole.length, 7)],
  [
    "whose pages were overwritten",
    (whole: Buffer) => Buffer.concat([whole.subarray(0, 200), Buffer.alloc(whole.length - 200, 7)]),
  ],
])(
  "a file %s is set aside, with the log that may hold what it has lost; the next start has neither",
  (_what, damage) => {
    const earlier = Store.open(path);
    for (let i = 0; i < 200; i++) earlier.rows("room", v.string()).set(`key ${i}`, "x".repeat(200));
    earlier.close();
    // As after kill -9: the last change is in the log alone.
    const store = Store.open(path);
    store.rows("room", v.string()).set("key 7", "y");
    const parts = new Map(["", "-wal"].map((suffix) => [suffix, readFileSync(path + suffix)]));
    store.close();
    parts.set("", damage(parts.get("") ?? Buffer.alloc(0)));
    for (const [suffix, bytes] of parts) writeFileSync(path + suffix, bytes);
    expect(codeOf(() => Store.open(path))).toBe("damaged");
    for (const suffix of ["", "-wal", "-shm"])
      expect([suffix, existsSync(path + suffix)]).toEqual([suffix, false]);
    const kept = readdirSync(folder).filter((name) => name.includes(".damaged-"));
    const aside = kept.find((name) => name.endsWith("Z")) ?? "";
    for (const [suffix, bytes] of parts)
      expect([suffix, Buffer.compare(readFileSync(join(folder, aside + suffix)), bytes)]).toEqual([
        suffix,
        0,
      ]);
    const fresh = Store.open(path);
    expect(fresh.rows("room", v.string()).all().size).toBe(0);
    fresh.close();
  },
);

test("one that is open is opened by nobody else, to read or to write, until it is closed", () => {
  const first = Store.open(path);
  const rows = first.rows("room", v.string());
  rows.set("a", "1");
  expect(codeOf(() => Store.open(path))).toBe("locked");
  expect(() => Store.open(path)).toThrow(`${path}: process ${process.pid} has it open; set WEAVE_RUN_DIR`);
  rows.set("a", "2");
  expect(rows.get("a")).toBe("2");
  first.close();
  const second = Store.open(path);
  expect(second.rows("room", v.string()).get("a")).toBe("2");
  second.close();
});

test("one of somebody else is never written to", () => {
  const text = "not ours\n".repeat(1_000);
  writeFileSync(path, text);
  expect(codeOf(() => Store.open(path))).toBe("damaged");
  const [kept = ""] = readdirSync(folder);
  expect(readFileSync(join(folder, kept), "utf8")).toBe(text);
});

test("a change that cannot be saved is a problem until one can", () => {
  Store.open(path).close();
  const database = new Database(path);
  database.run(
    "CREATE TRIGGER refuse BEFORE INSERT ON state WHEN NEW.key = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END",
  );
  database.close();
  const store = Store.open(path);
  const rows = store.rows("room", v.string());
  expect(store.problems()).toEqual([]);
  expect(codeOf(() => rows.set("bad", "1"))).toBe("disk");
  expect(store.problems()).toEqual([
    {
      Check: "state",
      Found: expect.stringContaining(`cannot save to ${path}: no, since `),
      Advice: "check that disk",
    },
  ]);
  // Nothing is written for these, which says nothing of the disk.
  rows.delete("none");
  rows.clear();
  expect(store.problems().length).toBe(1);
  rows.set("good", "1");
  expect([store.problems(), rows.get("bad"), rows.get("good")]).toEqual([[], undefined, "1"]);
  store.close();
});

test.each([4, 5, 100])("a file of format %d, of a later version, is refused and left as it is", (format) => {
  Store.open(path).close();
  const later = new Database(path);
  later.run(`PRAGMA user_version = ${format}`);
  later.close();
  const before = readFileSync(path);
  expect(codeOf(() => Store.open(path))).toBe("newer");
  expect(readFileSync(path).equals(before)).toBe(true);
});

test("a file that was removed is written again with all rows and the journal; another in its place is not touched", () => {
  let store = Store.open(path);
  const rows = store.rows("room", v.string());
  const journal = store.journal(v.object({ at: v.number() }), { entries: 9, ageMs: 1_000 }, () => 5);
  rows.set("before", "1");
  journal.add([{ at: 1 }]);
  expect(store.restore()).toBe(false);
  rmSync(folder, { recursive: true });
  rows.set("unlinked", "2");
  expect(store.restore()).toBe(true);
  expect(modeOf(folder)).toBe(0o700);
  rows.set("after", "3");
  journal.add([{ at: 2 }]);
  expect(store.restore()).toBe(false);
  rmSync(path);
  writeFileSync(path, "of another");
  expect(codeOf(() => store.restore())).toBe("disk");
  expect(readFileSync(path, "utf8")).toBe("of another");
  rmSync(path);
  expect(store.restore()).toBe(true);
  expect(journal.all()).toEqual([{ at: 1 }, { at: 2 }]);
  store.close();
  store = Store.open(path);
  expect(Object.fromEntries(store.rows("room", v.string()).all())).toEqual({
    before: "1",
    unlinked: "2",
    after: "3",
  });
  store.close();
});

test.each([
  ["half written", () => writeFileSync(`${path}.new`, "SQLite format 3\0".padEnd(4_096, "x"))],
  ["of nothing", () => writeFileSync(`${path}.new`, "")],
  ["that is whole, of earlier rows", () => earlierCopy(`${path}.new`)],
])("beside a copy %s, which an attempt before left, a removed file is written again", (_what, leave) => {
  const store = Store.open(path);
  store.rows("room", v.string()).set("a", "1");
  for (const value of ["2", "3"]) {
    rmSync(path);
    leave();
    store.rows("room", v.string()).set("a", value);
    expect(store.restore()).toBe(true);
    expect([existsSync(path), existsSync(`${path}.new`)]).toEqual([true, false]);
  }
  store.close();
  const again = Store.open(path);
  expect([...again.rows("room", v.string()).all()]).toEqual([["a", "3"]]);
  again.close();
});

const modeOf = (at: string) => statSync(at).mode & 0o777;

function earlierCopy(at: string): void {
  const earlier = Store.open(at);
  earlier.rows("room", v.string()).set("old", "0");
  earlier.close();
}

test("what is changed durably is on disk before anything after it: no other change waits for the disk", () => {
  const store = Store.open(path);
  const rows = store.rows("room", v.string());
  /** What the database does, in its order: how far it waits for the disk, and writes. */
  const done: string[] = [];
  const { run, query } = Database.prototype;
  using _run = spyOn(Database.prototype, "run").mockImplementation(function (this: Database, sql, ...more) {
    const [, level] = /^PRAGMA synchronous = (\w+)$/.exec(sql) ?? [];
    done.push(level ?? sql);
    return run.call(this, sql, ...(more as []));
  } as typeof run);
  using _query = spyOn(Database.prototype, "query").mockImplementation(function (this: Database, sql) {
    if (!sql.startsWith("SELECT")) done.push(`${sql.split(" ")[0]}`);
    return query.call(this, sql);
  } as typeof query);
  store.durably(() => {
    rows.set("a", "1");
    rows.delete("a");
    done.push("sent");
  });
  rows.set("b", "2");
  expect(() =>
    store.durably(() => {
      throw new Error("no");
    }),
  ).toThrow("no");
  expect(done).toEqual(["FULL", "INSERT", "DELETE", "sent", "NORMAL", "INSERT", "FULL", "NORMAL"]);
  store.close();
});

test("a file that could not be opened in place of a removed one is opened later, with all that was saved", () => {
  const store = Store.open(path);
  const rows = store.rows("room", v.string());
  rows.set("key", "value");
  rmSync(path);
  // In the way of the new file's log.
  rmSync(`${path}-wal`, { force: true });
  mkdirSync(`${path}-wal`);
  for (let i = 0; i < 2; i++) expect(codeOf(() => store.restore())).toBe("disk");
  // Nothing is saved meanwhile, and who wants to is told so.
  const uses = [() => rows.set("key", "lost"), () => rows.get("key"), () => rows.all(), () => rows.clear()];
  for (const use of [...uses, () => store.durably(() => expect.unreachable())])
    expect(codeOf(use)).toBe("disk");
  rmSync(`${path}-wal`, { recursive: true });
  expect([store.restore(), rows.get("key")]).toEqual([true, "value"]);
  rows.set("key", "later");
  expect(store.restore()).toBe(false);
  store.close();
  const next = Store.open(path);
  expect(next.rows("room", v.string()).get("key")).toBe("later");
  next.close();
  expect(readdirSync(folder)).toEqual(["weave.db"]);
});

/** Return an error of the file system with this code. */
const errno = (code: string, text: string, syscall: string) =>
  Object.assign(new Error(`${code}: ${text}, ${syscall} '${folder}'`), { code, syscall, path: folder });
const failing = (error: () => Error) => () => {
  throw error();
};
const textOf = (open: () => unknown) => {
  try {
    open();
    return undefined;
  } catch (error) {
    return String(error).replaceAll(folder, "/state");
  }
};
const roomOf = (bavail: number, blocks = 1_000) => ({ blocks, bavail, bsize: 4_096 }) as never;

describe("a change that cannot be saved", () => {
  /** Make a change that SQLite refuses. */
  const change = () => {
    const store = Store.open(path);
    const rows = store.rows("room", v.string());
    using query = spyOn(Database.prototype, "query");
    rows.get("a");
    const [database] = query.mock.contexts as Database[];
    // A temporary trigger belongs to one connection.
    database?.run("CREATE TEMP TRIGGER refuse BEFORE INSERT ON state BEGIN SELECT RAISE(ABORT, 'no'); END");
    try {
      return { told: textOf(() => rows.set("a", "1")), advice: store.problems()[0]?.Advice };
    } finally {
      store.close();
    }
  };

  test("asks for free space on a disk with less than 64 kB; the problem ends once there is more", () => {
    for (const [blocks, remedy] of [
      [15, "free space on that disk"],
      [16, "check that disk"],
    ] as const) {
      using _ = spyOn(fs, "statfsSync").mockImplementation(() => roomOf(blocks));
      expect(change()).toEqual({
        told: `StoreError: cannot save to /state/weave.db: no; ${remedy} and try again`,
        advice: remedy,
      });
    }
    const store = Store.open(path);
    const rows = store.rows("room", v.string());
    {
      using query = spyOn(Database.prototype, "query");
      rows.set("a", "1");
      const [database] = query.mock.contexts as Database[];
      database?.run("PRAGMA max_page_count = 2");
      expect(codeOf(() => rows.set("a", "x".repeat(100_000)))).toBe("disk");
    }
    const statfs = spyOn(fs, "statfsSync").mockImplementation(() => roomOf(15));
    try {
      expect(store.problems()).toMatchObject([{ Advice: "free space on that disk" }]);
      statfs.mockImplementation(() => roomOf(16));
      expect(store.problems()).toEqual([]);
      // A file system of the kernel, such as /proc.
      statfs.mockImplementation(() => roomOf(0, 0));
      expect(store.problems()).toEqual([]);
      // An error of statfs does not count as a full disk.
      statfs.mockImplementation(failing(() => errno("EACCES", "permission denied", "statfs")) as never);
      expect(store.problems()).toEqual([]);
    } finally {
      statfs.mockRestore();
      store.close();
    }
  });

  test.each([
    [
      "EROFS",
      "the file system of /state is read-only: mount it read-write, or move the file with WEAVE_STATE_DIR",
    ],
    ["EACCES", "/state cannot be written to: permission denied"],
  ])("names the folder that cannot be written to (%s)", (code, remedy) => {
    expect(change().advice).toBe("check that disk");
    using _ = spyOn(fs, "accessSync").mockImplementation(
      failing(() => errno(code, "permission denied", "access")) as never,
    );
    expect(change()).toMatchObject({
      told: `StoreError: cannot save to /state/weave.db: no; ${remedy} and try again`,
    });
    using _open = spyOn(fs, "mkdirSync").mockImplementation(
      failing(() => errno(code, "permission denied", "mkdir")) as never,
    );
    expect(textOf(() => Store.open(join(folder, "new/weave.db")))).toStartWith(
      "StoreError: cannot use the state file /state/new/weave.db: mkdir /state: permission denied",
    );
  });
});

describe("a damaged file that cannot be copied", () => {
  const damaged = () => writeFileSync(path, "not ours\n".repeat(1_000));

  test("is moved: a full disk has no room for copies", () => {
    damaged();
    using _ = spyOn(fs, "copyFileSync").mockImplementation(
      failing(() => errno("ENOSPC", "no space left on device", "copyfile")) as never,
    );
    expect(textOf(() => Store.open(path))).toMatch(
      /^StoreError: cannot use the state file \/state\/weave.db: .*; moved to \/state\/weave.db.damaged-\d{8}T\d{6}Z; launch again/,
    );
    expect(readdirSync(folder)).toEqual([expect.stringMatching(/^weave\.db\.damaged-/)]);
  });

  test("nor moved stays where it is; the error says what to do", () => {
    damaged();
    using _copy = spyOn(fs, "copyFileSync").mockImplementation(
      failing(() => errno("EROFS", "read-only file system", "copyfile")) as never,
    );
    using _move = spyOn(fs, "renameSync").mockImplementation(
      failing(() => errno("EROFS", "read-only file system", "rename")) as never,
    );
    expect(textOf(() => Store.open(path))).toMatch(
      /; it could not be moved to \/state\/weave\.db\.damaged-\w+ \(rename \/state: read-only file system\); move it away$/,
    );
    expect(readdirSync(folder)).toEqual(["weave.db"]);
  });
});

test("an invalid value is refused before it is written; the error names its key and room", () => {
  const store = Store.open(path);
  const rows = store.rows("room", v.pipe(v.string(), v.maxLength(1, "too long")));
  expect(textOf(() => rows.set("key", "22"))).toBe(
    'StoreError: not saved to /state/weave.db: "key" of "room": too long',
  );
  expect([rows.get("key"), store.problems()]).toEqual([undefined, []]);
  const told: string[] = [];
  const lenient = { damaged: (what: string) => told.push(what.replaceAll(folder, "/state")), limit: 2 };
  const some = store.rows("room", v.string());
  for (const key of ["a", "b"]) some.set(key, key);
  store.rows("room", v.number()).set("c", 3);
  expect([...store.rows("room", v.string(), lenient).all().keys()]).toEqual(["a", "b"]);
  expect(told).toEqual(['/state/weave.db has more than 2 rows of "room": skipping the rest']);
  told.length = 0;
  some.delete("b");
  expect([...store.rows("room", v.string(), lenient).all().keys()]).toEqual(["a"]);
  expect(told).toEqual([
    expect.stringMatching(/^skipping a damaged entry of \/state\/weave\.db: "c" of "room" is invalid: /),
  ]);
  store.close();
});
