// TCX (linux/bpf.h: BPF_TCX_INGRESS; since Linux 6.6): programs on a link without a clsact qdisc, beside other programs.
// Links are those of the network namespace of this thread.
import { ptr } from "bun:ffi";
import { EINVAL, ENODEV } from "../sys/errno.ts";
import { SysError } from "../sys/syscall.ts";
import { BPF_PROG_ATTACH, BPF_PROG_DETACH, BPF_PROG_QUERY, bpf, bpfAttr, tryBpf } from "./bpf.ts";
import type { Program } from "./program.ts";

const ATTACH_TYPE = { ingress: 46, egress: 47 } as const;
const BPF_F_REPLACE = 4;
const MAX_PROGRAMS = 64;

export type TcxDirection = keyof typeof ATTACH_TYPE;

/** Return the ids of the programs on a link, in running order; undefined where the kernel has no TCX. */
export function tcxPrograms(link: number, direction: TcxDirection): number[] | undefined {
  const ids = new Uint32Array(MAX_PROGRAMS);
  const { bytes, view } = bpfAttr();
  view.setUint32(0, link, true);
  view.setUint32(4, ATTACH_TYPE[direction], true);
  view.setBigUint64(16, BigInt(ptr(ids)), true);
  view.setUint32(24, MAX_PROGRAMS, true);
  const result = tryBpf(BPF_PROG_QUERY, bytes);
  if (result === -EINVAL) return undefined;
  if (result === -ENODEV) return [];
  if (result < 0) throw new SysError(`TCX query of link ${link}`, -result);
  return Array.from(ids.subarray(0, Math.min(view.getUint32(24, true), MAX_PROGRAMS)));
}

/** Attach a program to a link, after those there; with `instead` atomically in place of that one. */
export function tcxAttach(link: number, direction: TcxDirection, program: Program, instead?: Program): void {
  const { bytes, view } = bpfAttr();
  view.setUint32(0, link, true);
  view.setUint32(4, program.fd, true);
  view.setUint32(8, ATTACH_TYPE[direction], true);
  if (instead) {
    view.setUint32(12, BPF_F_REPLACE, true);
    view.setUint32(16, instead.fd, true);
  }
  bpf(`TCX attach ${program.name} to link ${link}`, BPF_PROG_ATTACH, bytes);
}

/** Detach a program from a link. */
export function tcxDetach(link: number, direction: TcxDirection, program: Program): void {
  const { bytes, view } = bpfAttr();
  view.setUint32(0, link, true);
  view.setUint32(4, program.fd, true);
  view.setUint32(8, ATTACH_TYPE[direction], true);
  bpf(`TCX detach ${program.name} from link ${link}`, BPF_PROG_DETACH, bytes);
}
