// bpf(2): its commands, and the union bpf_attr that they take, by the kernel's names (linux/bpf.h).
import { ptr } from "bun:ffi";
import { SysError, trySyscall } from "../sys/syscall.ts";

const ELEMENT = { map_fd: 0, key: 8, value: 16 };
const ATTACH = { target_ifindex: 0, attach_bpf_fd: 4, attach_type: 8, attach_flags: 12, replace_bpf_fd: 16 };

/** Numbers of commands, and byte offsets of the fields that they use. */
const COMMANDS = {
  MAP_CREATE: [0, { map_type: 0, key_size: 4, value_size: 8, max_entries: 12, map_flags: 16, map_name: 28 }],
  MAP_LOOKUP_ELEM: [1, ELEMENT],
  MAP_UPDATE_ELEM: [2, ELEMENT],
  MAP_DELETE_ELEM: [3, ELEMENT],
  MAP_GET_NEXT_KEY: [4, { map_fd: 0, key: 8, next_key: 16 }],
  PROG_LOAD: [
    5,
    {
      prog_type: 0,
      insn_cnt: 4,
      insns: 8,
      license: 16,
      log_level: 24,
      log_size: 28,
      log_buf: 32,
      prog_name: 48,
      prog_btf_fd: 72,
      func_info_rec_size: 76,
      func_info: 80,
      func_info_cnt: 88,
    },
  ],
  PROG_ATTACH: [8, ATTACH],
  PROG_DETACH: [9, ATTACH],
  PROG_TEST_RUN: [
    10,
    { prog_fd: 0, retval: 4, data_size_in: 8, data_size_out: 12, data_in: 16, data_out: 24 },
  ],
  PROG_GET_FD_BY_ID: [13, { prog_id: 0 }],
  MAP_GET_FD_BY_ID: [14, { map_id: 0 }],
  OBJ_GET_INFO_BY_FD: [15, { bpf_fd: 0, info_len: 4, info: 8 }],
  PROG_QUERY: [16, { target_ifindex: 0, attach_type: 4, prog_ids: 16, count: 24 }],
  BTF_LOAD: [18, { btf: 0, btf_log_buf: 8, btf_size: 16 }],
  MAP_LOOKUP_BATCH: [24, { in_batch: 0, out_batch: 8, keys: 16, values: 24, count: 32, map_fd: 36 }],
} as const satisfies Record<string, readonly [number, Record<string, number>]>;

export type Command = keyof typeof COMMANDS;
type Field<C extends Command> = keyof (typeof COMMANDS)[C][1] & string;
/** A u32; memory, by its address; a name of at most 15 characters. */
type Value = number | Uint8Array | Uint32Array | string;

const LENGTH = 128;
const RLIMIT_MEMLOCK = 8;

/** A command with its union bpf_attr; fields are zero unless they are set. */
export class BpfCall<C extends Command> {
  readonly #bytes = new Uint8Array(LENGTH);
  readonly #view = new DataView(this.#bytes.buffer);
  /** Keeps memory alive that fields point to. */
  readonly #memory = new Map<string, Value>();

  constructor(
    readonly command: C,
    values: Readonly<Partial<Record<Field<C>, Value>>>,
  ) {
    for (const [field, value] of Object.entries(values)) this.set(field as Field<C>, value as Value);
  }

  /** Set a field. */
  set(field: Field<C>, value: Value): void {
    const offset = this.#offset(field);
    this.#memory.set(field, value);
    if (typeof value === "number") this.#view.setUint32(offset, value, true);
    else if (typeof value !== "string") this.#view.setBigUint64(offset, BigInt(ptr(value)), true);
    else this.#bytes.set(new TextEncoder().encode(value.slice(0, 15)), offset);
  }

  /** Return a field that the kernel has written. */
  get(field: Field<C>): number {
    return this.#view.getUint32(this.#offset(field), true);
  }

  /** Run the command. Returns its result, or -errno. */
  try(): number {
    return trySyscall("bpf", COMMANDS[this.command][0], this.#bytes, LENGTH);
  }

  /** Run the command. Throws SysError; `operation` says what failed. */
  run(operation: string): number {
    const result = this.try();
    if (result < 0) throw new SysError(operation, -result);
    return result;
  }

  #offset(field: Field<C>): number {
    return (COMMANDS[this.command][1] as Record<string, number>)[field] ?? 0;
  }
}

/** Lift RLIMIT_MEMLOCK, which limits maps in kernels before 5.11; elsewhere a failure does not matter. */
export function liftMemoryLimit(): void {
  trySyscall("prlimit64", 0, RLIMIT_MEMLOCK, new Uint8Array(16).fill(0xff), 0);
}
