// The state file after a power cut: its log torn at any byte, with writes lost, repeated, out of order or rotten; and the
// file half checkpointed. What the disk had kept is there, as one moment of the past; or opening says what is damaged.
// $DISK_FAULTS is the number of faults of each kind.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { StoreError } from "../../lib/store/error.ts";
import { Store } from "../../lib/store/store.ts";
import { randomOf } from "../support/seed.ts";

const FAULTS = Number(process.env["DISK_FAULTS"] ?? 40);
const CHANGES = 60;
const KEYS = 12;
/** Where nothing waits for a disk. */
const MEMORY = "/dev/shm";
/** Of the write-ahead log (https://www.sqlite.org/fileformat2.html#walformat): headers of the file and of a frame. */
const [WAL_HEADER, FRAME_HEADER] = [32, 24];

type State = Readonly<Record<string, string>>;

let folder: string;
let path: string;
/** The file before the changes, the log after them, and the file once all of the log is in it. */
let before: Buffer;
let log: Buffer;
/** The log of the start before. */
let earlier: Buffer;
let after: Buffer;
/** State after each change, and the length of the log then. */
const moments: { readonly state: State; readonly end: number }[] = [];
const random = randomOf("disk faults");

beforeAll(() => {
  folder = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), "weave-faults-"));
  path = join(folder, "weave.db");
  const first = Store.open(path);
  for (let i = 0; i < KEYS; i++)
    first.rows("room", v.string()).set(`key ${i}`, `old ${i} ${"x".repeat(900)}`);
  earlier = readFileSync(`${path}-wal`);
  first.close();
  const store = Store.open(path);
  const rows = store.rows("room", v.string());
  before = readFileSync(path);
  moments.push({ state: Object.fromEntries(rows.all()), end: 0 });
  for (let i = 0; i < CHANGES; i++) {
    const key = `key ${random.below(KEYS)}`;
    const change = () =>
      random.below(5) === 0 ? rows.delete(key) : rows.set(key, `new ${i} ${"y".repeat(random.below(900))}`);
    if (random.below(4) === 0) store.durably(change);
    else change();
    moments.push({ state: Object.fromEntries(rows.all()), end: readFileSync(`${path}-wal`).length });
  }
  log = readFileSync(`${path}-wal`);
  store.close();
  after = readFileSync(path);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Open a file with this log; returns its state, or the error's code. */
function openedWith(file: Uint8Array, wal: Uint8Array | undefined): State | string {
  const copy = join(mkdtempSync(join(folder, "at-")), "weave.db");
  writeFileSync(copy, file);
  if (wal) writeFileSync(`${copy}-wal`, wal);
  try {
    const store = Store.open(copy);
    try {
      return Object.fromEntries(store.rows("room", v.string()).all());
    } finally {
      store.close();
    }
  } catch (error) {
    if (error instanceof StoreError) {
      expect(error.message).toStartWith(`cannot use the state file ${copy}: `);
      return error.code;
    }
    throw error;
  }
}

const flipBit = (bytes: Buffer, at: number): void => {
  bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
};

/** The state of the last change whose log the disk has kept whole up to `offset`. */
const keptUpTo = (offset: number): State => moments.findLast(({ end }) => end <= offset)?.state ?? {};

const pageSize = () => log.readUInt32BE(8);
const frameAt = (offset: number) => WAL_HEADER + offset * (FRAME_HEADER + pageSize());
const frames = () => Math.floor((log.length - WAL_HEADER) / (FRAME_HEADER + pageSize()));

describe("after a power cut", () => {
  test("the log of this test is one of many frames, each change at its end", () => {
    expect(frames()).toBeGreaterThan(CHANGES / 2);
    expect(openedWith(before, log)).toEqual(moments.at(-1)?.state ?? {});
    expect(new Set(moments.map(({ end }) => end)).size).toBeGreaterThan(CHANGES / 2);
  });

  test("a log that ends at any byte holds the changes before it, and no part of another", () => {
    for (let i = 0; i < FAULTS; i++) {
      // At the ends of frames and beside them, and anywhere.
      const near = frameAt(random.below(frames() + 1)) + random.below(3) - 1;
      const offset = Math.min(log.length, Math.max(0, i % 2 ? near : random.below(log.length + 1)));
      expect(openedWith(before, log.subarray(0, offset))).toEqual(keptUpTo(offset));
    }
  });

  test("of a log with a lost, rotten, repeated or misplaced write, what is before it holds", () => {
    for (let i = 0; i < FAULTS; i++) {
      const wal = Buffer.from(log);
      const [one, other] = [random.below(frames()), random.below(frames())];
      const [at, size] = [frameAt(one), FRAME_HEADER + pageSize()];
      const fault = ["lost", "rotten", "repeated", "swapped"][i % 4];
      let first = at;
      if (fault === "lost") wal.fill(0, at, at + size);
      else if (fault === "rotten") flipBit(wal, at + FRAME_HEADER + random.below(pageSize()));
      else if (fault === "repeated") wal.copy(wal, at, frameAt(other), frameAt(other) + size);
      else {
        log.copy(wal, at, frameAt(other), frameAt(other) + size);
        log.copy(wal, frameAt(other), at, at + size);
        first = Math.min(at, frameAt(other));
      }
      if (wal.equals(log)) continue;
      expect(openedWith(before, wal)).toEqual(keptUpTo(first));
    }
  });

  test("a log of an earlier time behind the end of this one is not read", () => {
    for (let i = 0; i < FAULTS; i++) {
      const cut = frameAt(random.below(frames()));
      const old = earlier.subarray(Math.min(cut, earlier.length - 1));
      expect(openedWith(before, Buffer.concat([log.subarray(0, cut), old]))).toEqual(keptUpTo(cut));
    }
  });

  test("a file into which only some pages of the log were written is whole as long as there is the log", () => {
    for (let i = 0; i < FAULTS; i++) {
      const file = Buffer.from(after.length >= before.length ? after : before);
      for (let at = 0; at < before.length; at += pageSize())
        if (random.below(2)) before.copy(file, at, at, at + pageSize());
      expect(openedWith(file, log)).toEqual(moments.at(-1)?.state ?? {});
    }
  });

  test("a file that has lost pages and has no log is refused, or holds values that it once had", () => {
    const ever = new Set(moments.flatMap(({ state }) => Object.entries(state).map((pair) => pair.join("="))));
    const outcomes = new Set<string>();
    for (let i = 0; i < FAULTS; i++) {
      const file = Buffer.from(after);
      const at = pageSize() * random.below(Math.ceil(file.length / pageSize()));
      if (i % 3 === 0) file.fill(0, at, at + pageSize());
      else if (i % 3 === 1) before.copy(file, at, at, at + pageSize());
      else file.fill(random.below(256), at, at + 512);
      const state = openedWith(file, undefined);
      outcomes.add(typeof state === "string" ? state : "opened");
      if (typeof state === "string") expect(state).toBe("damaged");
      else for (const pair of Object.entries(state)) expect(ever).toContain(pair.join("="));
    }
    expect(outcomes).toContain("damaged");
  });
});
