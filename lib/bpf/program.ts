// Loading eBPF programs, test runs, and what the kernel tells of loaded programs.

import { ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import { closeOnce } from "../sys/closeonce.ts";
import { EAGAIN } from "../sys/errno.ts";
import { SysError } from "../sys/syscall.ts";
import { callbacksOf } from "./assembler.ts";
import { BpfCall } from "./bpf.ts";
import { FUNCTION_TYPES, loadFunctionTypes } from "./btf.ts";

const TYPES = { socketFilter: 1, classifier: 3 } as const;
const LOG_SIZE = 1 << 20;

/** The verifier refused a program; `log` is the verifier's log. */
export class VerifierError extends Error {
  override readonly name = "VerifierError";
  constructor(
    program: string,
    readonly errno: number,
    readonly log: string,
  ) {
    const lines = log.trimEnd().split("\n");
    super(`eBPF program ${program} refused (errno ${errno}): ${lines.slice(-3).join(" | ")}`);
  }
}

/** struct bpf_func_info: the first instruction of a function, and its type. */
const FUNCTION_INFO = 8;
const MAX_INTERRUPTIONS = 1_000;

/** A loaded program; the fd keeps it loaded until it is attached. */
export interface Program {
  readonly name: string;
  readonly fd: number;
  close(): void;
}

/**
 * Load a program, of traffic control unless told otherwise (`instructions` as the assembler emits them). Throws VerifierError,
 * or SysError where the kernel knows no callbacks.
 */
export function loadProgram(
  name: string,
  instructions: Uint8Array,
  type: keyof typeof TYPES = "classifier",
): Program {
  const callbacks = callbacksOf(instructions);
  if (callbacks.length === 0) return load(name, instructions, { prog_type: TYPES[type] });
  const types = loadFunctionTypes();
  try {
    const { program, callback } = FUNCTION_TYPES;
    const functions = Uint32Array.from([0, program, ...callbacks.flatMap((start) => [start, callback])]);
    return load(name, instructions, {
      prog_type: TYPES[type],
      prog_btf_fd: types,
      func_info_rec_size: FUNCTION_INFO,
      func_info: functions,
      func_info_cnt: 1 + callbacks.length,
    });
  } finally {
    closeSync(types);
  }
}

function load(
  name: string,
  instructions: Uint8Array,
  fields: ConstructorParameters<typeof BpfCall<"PROG_LOAD">>[1],
): Program {
  const call = new BpfCall("PROG_LOAD", {
    insn_cnt: instructions.length / 8,
    insns: instructions,
    license: new TextEncoder().encode("GPL\0"),
    prog_name: name,
    ...fields,
  });
  const fd = tryLoad(call);
  if (fd >= 0) return { name, fd, close: closeOnce(fd) };
  // The log costs time: only for a program that fails.
  const log = new Uint8Array(LOG_SIZE);
  call.set("log_level", 1);
  call.set("log_size", LOG_SIZE);
  call.set("log_buf", log);
  const again = tryLoad(call);
  if (again >= 0) closeSync(again);
  const end = log.indexOf(0);
  const text = new TextDecoder().decode(log.subarray(0, end < 0 ? LOG_SIZE : end));
  if (text === "") throw new SysError(`eBPF program load ${name}`, -fd);
  throw new VerifierError(name, -fd, text);
}

/** A signal interrupts the verifier with EAGAIN; the runtime stops its threads by signals. */
function tryLoad(call: BpfCall<"PROG_LOAD">): number {
  let result = -EAGAIN;
  for (let i = 0; i < MAX_INTERRUPTIONS && result === -EAGAIN; i++) result = call.try();
  return result;
}

/** Run a program once on a frame, without a link (BPF_PROG_TEST_RUN). Returns the verdict and the frame. */
export function testRun(program: Program, frame: Uint8Array): { verdict: number; frame: Uint8Array } {
  const out = new Uint8Array(frame.length + 256);
  const call = new BpfCall("PROG_TEST_RUN", {
    prog_fd: program.fd,
    data_size_in: frame.length,
    data_in: frame,
    data_size_out: out.length,
    data_out: out,
  });
  call.run(`eBPF program test run ${program.name}`);
  return { verdict: call.get("retval"), frame: out.subarray(0, call.get("data_size_out")) };
}

const INFO_LENGTH = 128;
const MAX_MAPS = 64;

/** Open a loaded program by its id. Throws SysError. */
export function openProgram(id: number): Program {
  const fd = new BpfCall("PROG_GET_FD_BY_ID", { prog_id: id }).run(`eBPF program open ${id}`);
  const close = closeOnce(fd);
  try {
    return { name: describe(fd, id).name, fd, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** Return the ids of the maps that a program uses. */
export function mapIdsOf({ fd, name }: Program): number[] {
  return describe(fd, name).mapIds;
}

/** Return the ids of the maps that the program with this id uses. */
export function programMapIds(id: number): number[] {
  const program = openProgram(id);
  try {
    return mapIdsOf(program);
  } finally {
    program.close();
  }
}

const IDS = new WeakMap<Program, number>();

/** Return a program's kernel-wide id, which it keeps as long as it is open. */
export function programId(program: Program): number {
  const id = IDS.get(program) ?? describe(program.fd, program.name).id;
  IDS.set(program, id);
  return id;
}

/** struct bpf_prog_info: id at 4, nr_map_ids at 52, map_ids (a pointer) at 56, name at 64. */
function describe(fd: number, what: number | string): { id: number; name: string; mapIds: number[] } {
  const ids = new Uint32Array(MAX_MAPS);
  const info = new Uint8Array(INFO_LENGTH);
  const infoView = new DataView(info.buffer);
  infoView.setUint32(52, MAX_MAPS, true);
  infoView.setBigUint64(56, BigInt(ptr(ids)), true);
  new BpfCall("OBJ_GET_INFO_BY_FD", { bpf_fd: fd, info_len: INFO_LENGTH, info }).run(
    `eBPF program info ${what}`,
  );
  return {
    id: infoView.getUint32(4, true),
    name: new TextDecoder().decode(info.subarray(64, 80)).replace(/\0.*$/s, ""),
    mapIds: Array.from(ids.subarray(0, infoView.getUint32(52, true))),
  };
}
