// eBPF maps, typed by a layout of keys and one of values, so that callers never see bytes. Host byte order.
import { closeOnce } from "../sys/closeonce.ts";
import { EINVAL, ENOENT, ENOSPC } from "../sys/errno.ts";
import { SysError } from "../sys/syscall.ts";
import { BpfCall, type Command } from "./bpf.ts";

const TYPES = { hash: 1, array: 2, lruHash: 9, lpmTrie: 11 } as const;
/** Types whose entries are allocated on insertion (BPF_F_NO_PREALLOC), which a trie requires. */
const GROWING: ReadonlySet<string> = new Set(["hash", "lpmTrie"]);
const BPF_F_NO_PREALLOC = 1;
const INFO_LENGTH = 64;
/**
 * Bytes of values in the largest batch and in the first one, entries in each, and growth from one to the next. A batch must have room
 * for a whole bucket of a hash map. The first is small: most maps hold few entries, and zeroing a large buffer costs more than the
 * read.
 */
const BATCH = { bytes: 1 << 18, entries: 256, growth: 16 } as const;
const FIRST_BATCH = { bytes: 1 << 15, entries: 16 } as const;
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

type Invoke = (call: BpfCall<Command>) => number;

/** Memory that stays in its place, as the kernel gets its address. */
const pinned = (size: number) => new Uint8Array(new ArrayBuffer(size));

/** An open map. Operations throw SysError. */
export class BpfMap<K, V> {
  readonly #key: Uint8Array;
  readonly #next: Uint8Array;
  readonly #value: Uint8Array;
  readonly #keyView: DataView;
  readonly #valueView: DataView;
  readonly #lookup: BpfCall<"MAP_LOOKUP_ELEM">;
  readonly #update: BpfCall<"MAP_UPDATE_ELEM">;
  readonly #delete: BpfCall<"MAP_DELETE_ELEM">;
  readonly close: () => void;

  private constructor(
    readonly definition: MapDefinition<K, V>,
    readonly fd: number,
    private readonly invoke: Invoke = (call) => call.try(),
  ) {
    const key = pinned(definition.key.size);
    const value = pinned(definition.value.size);
    this.#key = key;
    this.#value = value;
    this.#keyView = new DataView(key.buffer);
    this.#valueView = new DataView(value.buffer);
    this.#next = pinned(definition.key.size);
    this.#lookup = new BpfCall("MAP_LOOKUP_ELEM", { map_fd: fd, key, value });
    this.#update = new BpfCall("MAP_UPDATE_ELEM", { map_fd: fd, key, value });
    this.close = closeOnce(fd);
    this.#delete = new BpfCall("MAP_DELETE_ELEM", { map_fd: fd, key });
  }

  /** Create a map. */
  static create<K, V>(definition: MapDefinition<K, V>): BpfMap<K, V> {
    const { name, type, key, value, maxEntries } = definition;
    const call = new BpfCall("MAP_CREATE", {
      map_type: TYPES[type],
      key_size: key.size,
      value_size: value.size,
      max_entries: maxEntries,
      map_flags: GROWING.has(type) ? BPF_F_NO_PREALLOC : 0,
      map_name: name,
    });
    return new BpfMap(definition, call.run(`eBPF map create ${name}`));
  }

  /** Open an existing map by its id. */
  static open<K, V>(definition: MapDefinition<K, V>, id: number): BpfMap<K, V> {
    const call = new BpfCall("MAP_GET_FD_BY_ID", { map_id: id });
    return new BpfMap(definition, call.run(`eBPF map open ${definition.name}`));
  }

  /** Open the map among those with these ids that matches the definition; undefined where none does. */
  static adopt<K, V>(definition: MapDefinition<K, V>, ids: readonly number[]): BpfMap<K, V> | undefined {
    for (const id of ids) {
      const map = BpfMap.open(definition, id);
      using undo = new DisposableStack();
      undo.defer(map.close);
      if (!map.#isAsDefined()) continue;
      undo.move();
      return map;
    }
    return undefined;
  }

  #isAsDefined(): boolean {
    const info = new Uint8Array(INFO_LENGTH);
    new BpfCall("OBJ_GET_INFO_BY_FD", { bpf_fd: this.fd, info_len: INFO_LENGTH, info }).run(
      `eBPF map info ${this.definition.name}`,
    );
    // struct bpf_map_info.
    const found = new DataView(info.buffer);
    const { name, type, key, value, maxEntries } = this.definition;
    const numbers = [0, 8, 12, 16].map((at) => found.getUint32(at, true));
    const text = new TextDecoder().decode(info.subarray(24, 40)).replace(/\0.*$/s, "");
    return text === name && numbers.join() === [TYPES[type], key.size, value.size, maxEntries].join();
  }

  /** The map behind an open fd; `invoke` stands in for bpf(2) in tests. */
  static fromFd<K, V>(definition: MapDefinition<K, V>, fd: number, invoke?: Invoke): BpfMap<K, V> {
    return new BpfMap(definition, fd, invoke);
  }

  get(key: K): V | undefined {
    this.#putKey(key);
    if (!this.#result(this.invoke(this.#lookup), "lookup")) return undefined;
    return this.definition.value.decode(this.#valueView);
  }

  set(key: K, value: V): void {
    this.#putKey(key);
    this.#value.fill(0);
    this.definition.value.encode(value, this.#valueView);
    this.#result(this.invoke(this.#update), "update");
  }

  /** Remove an entry of a hash. Returns false if there was none. */
  delete(key: K): boolean {
    this.#putKey(key);
    return this.#result(this.invoke(this.#delete), "delete");
  }

  /** Return all entries; of those that change meanwhile, the old or the new. */
  entries(): [K, V][] {
    return this.#batches(() => true) ?? this.#walk();
  }

  /**
   * Return the non-zero entries of an array of u32. All entries of an array exist at any time: decoding 8,000 zero ones takes
   * 7 % of the processor time of a router's start.
   */
  filled(this: BpfMap<K, number>): [K, number][] {
    return this.#batches((values, i) => values[i] !== 0) ?? this.#walk().filter(([, value]) => value !== 0);
  }

  /** Read the `wanted` entries in batches: 8,000 in 5 ms instead of 70 ms. Return undefined if the kernel cannot. */
  #batches(wanted: (values: Uint32Array, i: number) => boolean): [K, V][] | undefined {
    const { key, value, maxEntries } = this.definition;
    const room = ({ bytes, entries }: { readonly bytes: number; readonly entries: number }) =>
      Math.min(maxEntries, Math.max(entries, Math.floor(bytes / value.size)));
    const most = room(BATCH);
    // Opaque position of the next batch: a key, or the number of a bucket.
    const position = pinned(Math.max(4, key.size));
    const call = new BpfCall("MAP_LOOKUP_BATCH", { map_fd: this.fd, out_batch: position });
    const found: [K, V][] = [];
    let entries = Math.min(BATCH.entries, room(FIRST_BATCH));
    for (let more = true; more; entries = Math.min(BATCH.growth * entries, most)) {
      const [keys, values] = [pinned(entries * key.size), pinned(entries * value.size)];
      const words = new Uint32Array(values.buffer, 0, values.length >> 2);
      call.set("keys", keys);
      call.set("values", values);
      call.set("count", entries);
      const result = this.invoke(call);
      if (result === -ENOSPC && entries < most) continue;
      if (result === -EINVAL || result === -ENOTSUPP || result === -ENOSPC) return undefined;
      more = this.#result(result, "read");
      call.set("in_batch", position);
      const count = call.get("count");
      for (let i = 0; i < count; i++) {
        if (!wanted(words, i)) continue;
        this.#key.set(keys.subarray(i * key.size, (i + 1) * key.size));
        this.#value.set(values.subarray(i * value.size, (i + 1) * value.size));
        found.push(this.#entry());
      }
    }
    return found;
  }

  #walk(): [K, V][] {
    const found: [K, V][] = [];
    const seen = new Set<string>();
    // Without a key: the first one.
    const next = new BpfCall("MAP_GET_NEXT_KEY", { map_fd: this.fd, next_key: this.#next });
    for (; this.#result(this.invoke(next), "walk"); next.set("key", this.#key)) {
      this.#key.set(this.#next);
      // Where the key was deleted meanwhile, the kernel starts over.
      const id = this.#key.join();
      if (seen.has(id)) break;
      seen.add(id);
      if (!this.#result(this.invoke(this.#lookup), "lookup")) continue;
      found.push(this.#entry());
    }
    return found;
  }

  #result(result: number, what: string): boolean {
    if (result === -ENOENT) return false;
    if (result < 0) throw new SysError(`eBPF map ${what} ${this.definition.name}`, -result);
    return true;
  }

  #putKey(key: K): void {
    this.#key.fill(0);
    this.definition.key.encode(key, this.#keyView);
  }

  #entry(): [K, V] {
    const { key, value } = this.definition;
    return [key.decode(this.#keyView), value.decode(this.#valueView)];
  }
}
