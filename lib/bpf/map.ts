// eBPF maps, typed by a layout of keys and one of values, so that callers never see bytes. Host byte order.
import { ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import { EINVAL, ENOENT, ENOSPC } from "../sys/errno.ts";
import { SysError } from "../sys/syscall.ts";
import {
  BPF_MAP_CREATE,
  BPF_MAP_DELETE_ELEM,
  BPF_MAP_GET_FD_BY_ID,
  BPF_MAP_GET_NEXT_KEY,
  BPF_MAP_LOOKUP_BATCH,
  BPF_MAP_LOOKUP_ELEM,
  BPF_MAP_UPDATE_ELEM,
  BPF_OBJ_GET_INFO_BY_FD,
  bpf,
  bpfAttr,
  putName,
  tryBpf,
} from "./bpf.ts";

const TYPES = { hash: 1, array: 2, lruHash: 9, lpmTrie: 11 } as const;
/** Types whose entries are allocated on insertion (BPF_F_NO_PREALLOC), which a trie requires. */
const GROWING: ReadonlySet<string> = new Set(["hash", "lpmTrie"]);
const BPF_F_NO_PREALLOC = 1;
const INFO_LENGTH = 64;
/** Bytes of values per batch, and the least number of entries: a batch has to hold a whole bucket of a hash. */
const BATCH_BYTES = 1 << 18;
const BATCH_ENTRIES = 256;
/** Not in errno.h; what kernels answer where a type of map has no batches. */
const ENOTSUPP = 524;

/** The layout of a key or a value; `size` in bytes. */
export interface Layout<T> {
  readonly size: number;
  encode(value: T, view: DataView): void;
  /** The view is reused: a decoder must not keep it. */
  decode(view: DataView): T;
}

/** A u32, as the keys of array maps are. */
export const U32: Layout<number> = {
  size: 4,
  encode: (value, view) => view.setUint32(0, value, true),
  decode: (view) => view.getUint32(0, true),
};

/** A u64. */
export const U64: Layout<bigint> = {
  size: 8,
  encode: (value, view) => view.setBigUint64(0, value, true),
  decode: (view) => view.getBigUint64(0, true),
};

export interface MapDefinition<K, V> {
  /** At most 15 characters, as bpftool shows it. */
  readonly name: string;
  readonly type: keyof typeof TYPES;
  readonly key: Layout<K>;
  readonly value: Layout<V>;
  readonly maxEntries: number;
}

/** An open map. Operations throw SysError. */
export class BpfMap<K, V> {
  readonly #key: Uint8Array;
  readonly #next: Uint8Array;
  readonly #value: Uint8Array;
  readonly #attr = bpfAttr(32);

  private constructor(
    readonly definition: MapDefinition<K, V>,
    readonly fd: number,
    private readonly command = tryBpf,
  ) {
    this.#key = new Uint8Array(definition.key.size);
    this.#next = new Uint8Array(definition.key.size);
    this.#value = new Uint8Array(definition.value.size);
  }

  /** Create a map. */
  static create<K, V>(definition: MapDefinition<K, V>): BpfMap<K, V> {
    const { bytes, view } = bpfAttr();
    view.setUint32(0, TYPES[definition.type], true);
    view.setUint32(4, definition.key.size, true);
    view.setUint32(8, definition.value.size, true);
    view.setUint32(12, definition.maxEntries, true);
    view.setUint32(16, GROWING.has(definition.type) ? BPF_F_NO_PREALLOC : 0, true);
    putName(bytes, 28, definition.name);
    return new BpfMap(definition, bpf(`eBPF map create ${definition.name}`, BPF_MAP_CREATE, bytes));
  }

  /** Open an existing map by its id. */
  static open<K, V>(definition: MapDefinition<K, V>, id: number): BpfMap<K, V> {
    const { bytes, view } = bpfAttr();
    view.setUint32(0, id, true);
    return new BpfMap(definition, bpf(`eBPF map open ${definition.name}`, BPF_MAP_GET_FD_BY_ID, bytes));
  }

  /** Open the map among those with these ids that matches the definition; undefined where none does. */
  static adopt<K, V>(definition: MapDefinition<K, V>, ids: readonly number[]): BpfMap<K, V> | undefined {
    for (const id of ids) {
      const map = BpfMap.open(definition, id);
      if (map.#isAsDefined()) return map;
      map.close();
    }
    return undefined;
  }

  #isAsDefined(): boolean {
    // struct bpf_map_info.
    const info = new Uint8Array(INFO_LENGTH);
    const { bytes, view } = bpfAttr();
    view.setUint32(0, this.fd, true);
    view.setUint32(4, INFO_LENGTH, true);
    view.setBigUint64(8, BigInt(ptr(info)), true);
    bpf(`eBPF map info ${this.definition.name}`, BPF_OBJ_GET_INFO_BY_FD, bytes);
    const found = new DataView(info.buffer);
    const { name, type, key, value, maxEntries } = this.definition;
    const numbers = [0, 8, 12, 16].map((at) => found.getUint32(at, true));
    const text = new TextDecoder().decode(info.subarray(24, 40)).replace(/\0.*$/s, "");
    return text === name && numbers.join() === [TYPES[type], key.size, value.size, maxEntries].join();
  }

  /** The map behind an open fd; `command` stands in for bpf(2) in tests. */
  static fromFd<K, V>(definition: MapDefinition<K, V>, fd: number, command = tryBpf): BpfMap<K, V> {
    return new BpfMap(definition, fd, command);
  }

  close(): void {
    closeSync(this.fd);
  }

  get(key: K): V | undefined {
    this.#put(this.definition.key, key, this.#key);
    return this.#run(BPF_MAP_LOOKUP_ELEM, "lookup")
      ? this.#take(this.definition.value, this.#value)
      : undefined;
  }

  set(key: K, value: V): void {
    this.#put(this.definition.key, key, this.#key);
    this.#put(this.definition.value, value, this.#value);
    this.#run(BPF_MAP_UPDATE_ELEM, "update");
  }

  /** Remove an entry of a hash. Returns false if there was none. */
  delete(key: K): boolean {
    this.#put(this.definition.key, key, this.#key);
    return this.#run(BPF_MAP_DELETE_ELEM, "delete");
  }

  /** Return all entries; of those that change meanwhile, the old or the new. */
  entries(): [K, V][] {
    return this.#batches() ?? this.#walk();
  }

  /** Read entries in batches: 8,000 in 5 ms instead of 70. Undefined where the kernel cannot. */
  #batches(): [K, V][] | undefined {
    const { key, value } = this.definition;
    const entries = Math.max(BATCH_ENTRIES, Math.floor(BATCH_BYTES / value.size));
    const [keys, values] = [new Uint8Array(entries * key.size), new Uint8Array(entries * value.size)];
    // Opaque position of the next batch: a key, or the number of a bucket.
    const next = new Uint8Array(Math.max(4, key.size));
    const { bytes, view } = bpfAttr(56);
    const [keyView, valueView] = [new DataView(this.#key.buffer), new DataView(this.#value.buffer)];
    const found: [K, V][] = [];
    for (let first = true, more = true; more; first = false) {
      view.setBigUint64(0, first ? 0n : BigInt(ptr(next)), true);
      view.setBigUint64(8, BigInt(ptr(next)), true);
      view.setBigUint64(16, BigInt(ptr(keys)), true);
      view.setBigUint64(24, BigInt(ptr(values)), true);
      view.setUint32(32, entries, true);
      view.setUint32(36, this.fd, true);
      const result = this.command(BPF_MAP_LOOKUP_BATCH, bytes);
      if (result === -EINVAL || result === -ENOTSUPP || result === -ENOSPC) return undefined;
      more = this.#result(result, "read");
      const count = view.getUint32(32, true);
      for (let i = 0; i < count; i++) {
        this.#key.set(keys.subarray(i * key.size, (i + 1) * key.size));
        this.#value.set(values.subarray(i * value.size, (i + 1) * value.size));
        found.push([key.decode(keyView), value.decode(valueView)]);
      }
    }
    return found;
  }

  #walk(): [K, V][] {
    const found: [K, V][] = [];
    const seen = new Set<string>();
    for (let more = this.#advance(false); more; more = this.#advance(true)) {
      this.#key.set(this.#next);
      // Where the key was deleted meanwhile, the kernel starts over.
      const id = this.#key.join();
      if (seen.has(id)) break;
      seen.add(id);
      if (!this.#run(BPF_MAP_LOOKUP_ELEM, "lookup")) continue;
      found.push([
        this.#take(this.definition.key, this.#key),
        this.#take(this.definition.value, this.#value),
      ]);
    }
    return found;
  }

  #advance(fromKey: boolean): boolean {
    const { bytes, view } = this.#attr;
    view.setUint32(0, this.fd, true);
    view.setBigUint64(8, fromKey ? BigInt(ptr(this.#key)) : 0n, true);
    view.setBigUint64(16, BigInt(ptr(this.#next)), true);
    return this.#result(this.command(BPF_MAP_GET_NEXT_KEY, bytes), "walk");
  }

  #run(command: number, what: string): boolean {
    const { bytes, view } = this.#attr;
    view.setUint32(0, this.fd, true);
    view.setBigUint64(8, BigInt(ptr(this.#key)), true);
    // Attributes that a command does not use have to be zero.
    view.setBigUint64(16, command === BPF_MAP_DELETE_ELEM ? 0n : BigInt(ptr(this.#value)), true);
    return this.#result(this.command(command, bytes), what);
  }

  #result(result: number, what: string): boolean {
    if (result === -ENOENT) return false;
    if (result < 0) throw new SysError(`eBPF map ${what} ${this.definition.name}`, -result);
    return true;
  }

  #put<T>(layout: Layout<T>, value: T, bytes: Uint8Array): void {
    bytes.fill(0);
    layout.encode(value, new DataView(bytes.buffer));
  }

  #take<T>(layout: Layout<T>, bytes: Uint8Array): T {
    return layout.decode(new DataView(bytes.slice().buffer));
  }
}
