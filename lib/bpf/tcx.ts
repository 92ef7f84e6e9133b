// TCX (linux/bpf.h: BPF_TCX_INGRESS; since Linux 6.6): programs on a link without a clsact qdisc, beside other programs.
// Links are those of the network namespace of this thread.
import { EINVAL, ENODEV } from "../sys/errno.ts";
import { SysError } from "../sys/syscall.ts";
import { BpfCall } from "./bpf.ts";
import type { Program } from "./program.ts";

const ATTACH_TYPE = { ingress: 46, egress: 47 } as const;
const BPF_F_REPLACE = 4;
const MAX_PROGRAMS = 64;

export type TcxDirection = keyof typeof ATTACH_TYPE;

/** Return the ids of the programs on a link, in running order; undefined where the kernel has no TCX. */
export function tcxPrograms(link: number, direction: TcxDirection): number[] | undefined {
  const ids = new Uint32Array(MAX_PROGRAMS);
  const call = new BpfCall("PROG_QUERY", {
    target_ifindex: link,
    attach_type: ATTACH_TYPE[direction],
    prog_ids: ids,
    count: MAX_PROGRAMS,
  });
  const result = call.try();
  if (result === -EINVAL) return undefined;
  if (result === -ENODEV) return [];
  if (result < 0) throw new SysError(`TCX query of link ${link}`, -result);
  return Array.from(ids.subarray(0, Math.min(call.get("count"), MAX_PROGRAMS)));
}

/** Attach a program to a link, after those there; with `instead` atomically in place of that one. */
export function tcxAttach(link: number, direction: TcxDirection, program: Program, instead?: Program): void {
  new BpfCall("PROG_ATTACH", {
    target_ifindex: link,
    attach_bpf_fd: program.fd,
    attach_type: ATTACH_TYPE[direction],
    ...(instead && { attach_flags: BPF_F_REPLACE, replace_bpf_fd: instead.fd }),
  }).run(`TCX attach ${program.name} to link ${link}`);
}

/** Detach a program from a link. */
export function tcxDetach(link: number, direction: TcxDirection, program: Program): void {
  new BpfCall("PROG_DETACH", {
    target_ifindex: link,
    attach_bpf_fd: program.fd,
    attach_type: ATTACH_TYPE[direction],
  }).run(`TCX detach ${program.name} from link ${link}`);
}
