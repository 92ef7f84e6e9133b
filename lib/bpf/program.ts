// Loading eBPF programs, test runs, and what the kernel tells of loaded programs.
import { ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import { EAGAIN } from "../sys/errno.ts";
import { SysError } from "../sys/syscall.ts";
import {
  BPF_OBJ_GET_INFO_BY_FD,
  BPF_PROG_GET_FD_BY_ID,
  BPF_PROG_LOAD,
  BPF_PROG_TEST_RUN,
  bpf,
  bpfAttr,
  putName,
  tryBpf,
} from "./bpf.ts";

const PROG_TYPE_SCHED_CLS = 3;
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

const MAX_INTERRUPTIONS = 1_000;

/** A loaded program; the fd keeps it loaded until it is attached. */
export interface Program {
  readonly name: string;
  readonly fd: number;
  close(): void;
}

/** Load a traffic control program (`instructions` as the assembler emits them). Throws VerifierError. */
export function loadProgram(name: string, instructions: Uint8Array): Program {
  const license = new TextEncoder().encode("GPL\0");
  const { bytes, view } = bpfAttr();
  view.setUint32(0, PROG_TYPE_SCHED_CLS, true);
  view.setUint32(4, instructions.length / 8, true);
  view.setBigUint64(8, BigInt(ptr(instructions)), true);
  view.setBigUint64(16, BigInt(ptr(license)), true);
  putName(bytes, 48, name);
  const fd = tryLoad(bytes);
  if (fd >= 0) return { name, fd, close: () => closeSync(fd) };
  // The log costs time: only for a program that fails.
  const log = new Uint8Array(LOG_SIZE);
  view.setUint32(24, 1, true);
  view.setUint32(28, LOG_SIZE, true);
  view.setBigUint64(32, BigInt(ptr(log)), true);
  const again = tryLoad(bytes);
  if (again >= 0) closeSync(again);
  const end = log.indexOf(0);
  const text = new TextDecoder().decode(log.subarray(0, end < 0 ? LOG_SIZE : end));
  if (text === "") throw new SysError(`eBPF program load ${name}`, -fd);
  throw new VerifierError(name, -fd, text);
}

/** A signal interrupts the verifier with EAGAIN; the runtime stops its threads by signals. */
function tryLoad(attr: Uint8Array): number {
  let result = -EAGAIN;
  for (let i = 0; i < MAX_INTERRUPTIONS && result === -EAGAIN; i++) result = tryBpf(BPF_PROG_LOAD, attr);
  return result;
}

/** Run a program once on a frame, without a link (BPF_PROG_TEST_RUN). Returns the verdict and the frame. */
export function testRun(program: Program, frame: Uint8Array): { verdict: number; frame: Uint8Array } {
  const out = new Uint8Array(frame.length + 256);
  const { bytes, view } = bpfAttr();
  view.setUint32(0, program.fd, true);
  view.setUint32(8, frame.length, true);
  view.setUint32(12, out.length, true);
  view.setBigUint64(16, BigInt(ptr(frame)), true);
  view.setBigUint64(24, BigInt(ptr(out)), true);
  bpf(`eBPF program test run ${program.name}`, BPF_PROG_TEST_RUN, bytes);
  return { verdict: view.getUint32(4, true), frame: out.subarray(0, view.getUint32(12, true)) };
}

const INFO_LENGTH = 128;
const MAX_MAPS = 64;

/** Open a loaded program by its id. Throws SysError. */
export function openProgram(id: number): Program {
  const { bytes, view } = bpfAttr();
  view.setUint32(0, id, true);
  const fd = bpf(`eBPF program open ${id}`, BPF_PROG_GET_FD_BY_ID, bytes);
  const close = () => closeSync(fd);
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

/** Return a program's kernel-wide id. */
export function programId({ fd, name }: Program): number {
  return describe(fd, name).id;
}

/** struct bpf_prog_info: id at 4, nr_map_ids at 52, map_ids (a pointer) at 56, name at 64. */
function describe(fd: number, what: number | string): { id: number; name: string; mapIds: number[] } {
  const ids = new Uint32Array(MAX_MAPS);
  const info = new Uint8Array(INFO_LENGTH);
  const infoView = new DataView(info.buffer);
  infoView.setUint32(52, MAX_MAPS, true);
  infoView.setBigUint64(56, BigInt(ptr(ids)), true);
  const { bytes, view } = bpfAttr();
  view.setUint32(0, fd, true);
  view.setUint32(4, INFO_LENGTH, true);
  view.setBigUint64(8, BigInt(ptr(info)), true);
  bpf(`eBPF program info ${what}`, BPF_OBJ_GET_INFO_BY_FD, bytes);
  return {
    id: infoView.getUint32(4, true),
    name: new TextDecoder().decode(info.subarray(64, 80)).replace(/\0.*$/s, ""),
    mapIds: Array.from(ids.subarray(0, infoView.getUint32(52, true))),
  };
}
