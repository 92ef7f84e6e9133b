// Reading a file of bolt, the store of the original (github.com/boltdb/bolt: db.go, page.go, bucket.go): a tree of pages in
// one file. All integers are little-endian. Read only.
import { viewOf } from "../bytes/view.ts";

const PAGE_HEADER = 16;
const ELEMENT = 16;
const FLAG = { branch: 1, leaf: 2, meta: 4 } as const;
const MAGIC = 0xed0cdaed;
const VERSION = 2;
const META = 64;
const IS_BUCKET = 1;
const BUCKET_HEADER = 16;
/** Levels of pages; a file with more has a circle. */
const MAX_DEPTH = 32;
const MAX_SIZE = 256 << 20;

/** The file is not bolt's, or is damaged. */
class BoltError extends Error {
  override readonly name = "BoltError";
}

interface Page {
  readonly flags: number;
  readonly count: number;
  /** From the page's header on, overflow pages included. */
  readonly bytes: Uint8Array;
}

/** Return the values of a top-level bucket by key, as text; undefined if there is no such bucket. Throws BoltError. */
export function boltBucket(file: Uint8Array, name: string): Map<string, Uint8Array> | undefined {
  if (file.length > MAX_SIZE) throw new BoltError(`a file of more than ${MAX_SIZE} bytes`);
  const { root, pageSize } = newestMeta(file);
  const top = leaves(file, pageSize, pageAt(file, pageSize, root));
  for (const { flags, key, value } of top) {
    if ((flags & IS_BUCKET) === 0 || new TextDecoder().decode(key) !== name) continue;
    const page = number(viewOf(value), 0, 8);
    // A small bucket is inlined in its value.
    const start = page === 0 ? readPage(value.subarray(BUCKET_HEADER)) : pageAt(file, pageSize, page);
    return new Map(
      leaves(file, pageSize, start).map((leaf) => [new TextDecoder().decode(leaf.key), leaf.value]),
    );
  }
  return undefined;
}

/** Read a number of 2, 4 or 8 bytes; throws BoltError past the end. */
function number(data: DataView, at: number, size: 2 | 4 | 8): number {
  if (at + size > data.byteLength) throw new BoltError("it ends in the middle of a page");
  if (size === 2) return data.getUint16(at, true);
  if (size === 4) return data.getUint32(at, true);
  const value = data.getBigUint64(at, true);
  if (value > Number.MAX_SAFE_INTEGER) throw new BoltError("an invalid number");
  return Number(value);
}

/** Return the valid meta page of the two with the higher transaction. */
function newestMeta(file: Uint8Array): { root: number; pageSize: number } {
  const metas = [0, ...[4096, 8192, 16_384, 65_536]].flatMap((at) => readMeta(file.subarray(at)) ?? []);
  const [newest] = metas.sort((a, b) => b.transaction - a.transaction);
  if (!newest) throw new BoltError("not a bolt file");
  return newest;
}

function readMeta(bytes: Uint8Array): { root: number; pageSize: number; transaction: number } | undefined {
  if (bytes.length < PAGE_HEADER + META) return undefined;
  const meta = viewOf(bytes.subarray(PAGE_HEADER, PAGE_HEADER + META));
  if (
    number(viewOf(bytes), 8, 2) !== FLAG.meta ||
    number(meta, 0, 4) !== MAGIC ||
    number(meta, 4, 4) !== VERSION
  )
    return undefined;
  if (meta.getBigUint64(56, true) !== checksum(bytes.subarray(PAGE_HEADER, PAGE_HEADER + 56)))
    return undefined;
  return { pageSize: number(meta, 8, 4), root: number(meta, 16, 8), transaction: number(meta, 48, 8) };
}

/** FNV-1a, of 64 bits. */
function checksum(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}

function readPage(bytes: Uint8Array): Page {
  const data = viewOf(bytes);
  return { flags: number(data, 8, 2), count: number(data, 10, 2), bytes };
}

function pageAt(file: Uint8Array, pageSize: number, id: number): Page {
  const start = id * pageSize;
  if (pageSize < 512 || start + PAGE_HEADER > file.length) throw new BoltError(`missing page ${id}`);
  const overflow = number(viewOf(file.subarray(start)), 12, 4);
  return readPage(file.subarray(start, start + (overflow + 1) * pageSize));
}

interface Leaf {
  readonly flags: number;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Return all leaves below a page. */
function leaves(file: Uint8Array, pageSize: number, { flags, count, bytes }: Page, depth = 0): Leaf[] {
  if (depth > MAX_DEPTH) throw new BoltError("its pages form a loop");
  const data = viewOf(bytes);
  const elements = Array.from({ length: count }, (_, i) => PAGE_HEADER + i * ELEMENT);
  if (flags === FLAG.branch) {
    return elements.flatMap((at) =>
      leaves(file, pageSize, pageAt(file, pageSize, number(data, at + 8, 8)), depth + 1),
    );
  }
  if (flags !== FLAG.leaf) throw new BoltError(`a page of kind ${flags} where there should be data`);
  return elements.map((at) => {
    const key = at + number(data, at + 4, 4);
    const value = key + number(data, at + 8, 4);
    const end = value + number(data, at + 12, 4);
    if (end > bytes.length) throw new BoltError("a value that does not fit its page");
    return { flags: number(data, at, 4), key: bytes.subarray(key, value), value: bytes.subarray(value, end) };
  });
}
