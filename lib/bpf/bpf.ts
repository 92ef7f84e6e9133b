// bpf(2) itself: commands of linux/bpf.h with their union bpf_attr packed by hand.
import { SysError, trySyscall } from "../sys/syscall.ts";

export const BPF_MAP_CREATE = 0;
export const BPF_MAP_LOOKUP_ELEM = 1;
export const BPF_MAP_UPDATE_ELEM = 2;
export const BPF_MAP_DELETE_ELEM = 3;
export const BPF_MAP_GET_NEXT_KEY = 4;
export const BPF_PROG_LOAD = 5;
export const BPF_PROG_ATTACH = 8;
export const BPF_PROG_DETACH = 9;
export const BPF_PROG_TEST_RUN = 10;
export const BPF_PROG_GET_FD_BY_ID = 13;
export const BPF_MAP_GET_FD_BY_ID = 14;
export const BPF_OBJ_GET_INFO_BY_FD = 15;
export const BPF_PROG_QUERY = 16;
export const BPF_MAP_LOOKUP_BATCH = 24;

const RLIMIT_MEMLOCK = 8;

/** A zeroed union bpf_attr. */
export function bpfAttr(length = 128): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(length);
  return { bytes, view: new DataView(bytes.buffer) };
}

/** Run a bpf command. Returns its result, or -errno. */
export function tryBpf(command: number, attr: Uint8Array): number {
  return trySyscall("bpf", command, attr, attr.length);
}

/** Run a bpf command. Throws SysError; `operation` says what failed. */
export function bpf(operation: string, command: number, attr: Uint8Array): number {
  const result = tryBpf(command, attr);
  if (result < 0) throw new SysError(operation, -result);
  return result;
}

/** Write a name of at most 15 characters at `offset`. */
export function putName(bytes: Uint8Array, offset: number, name: string): void {
  bytes.set(new TextEncoder().encode(name.slice(0, 15)), offset);
}

/** Lift RLIMIT_MEMLOCK, which limits maps in kernels before 5.11; elsewhere a failure does not matter. */
export function liftMemoryLimit(): void {
  trySyscall("prlimit64", 0, RLIMIT_MEMLOCK, new Uint8Array(16).fill(0xff), 0);
}
