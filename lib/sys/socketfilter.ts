// Classic BPF filters of sockets (Documentation/networking/filter.rst): which datagrams the kernel keeps.
import { filterProgram } from "./filterprogram.ts";
import { setOption } from "./socket.ts";
import { syscall } from "./syscall.ts";

const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const SO_DETACH_FILTER = 27;

/** struct sock_filter: BPF_RET | BPF_K, 0 bytes. */
const DROP_ALL = Uint8Array.of(6, 0, 0, 0, 0, 0, 0, 0);

/** Make the kernel drop datagrams that `instructions` (struct sock_filter) do not accept; queued ones stay. Throws SysError. */
export function attachFilter(what: string, fd: number, instructions: Uint8Array): void {
  const program = filterProgram(instructions);
  syscall(what, "setsockopt", fd, SOL_SOCKET, SO_ATTACH_FILTER, program, program.length);
}

/** Attach or detach a filter that drops all incoming datagrams. Throws SysError. */
export function dropAll(what: string, fd: number, drop: boolean): void {
  if (drop) attachFilter(what, fd, DROP_ALL);
  else setOption(what, fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
}
