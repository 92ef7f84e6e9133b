// Whether a Unix socket has a listener: connect(2) fails with EAGAIN where that takes no more connections, and Bun 1.4 reports
// each failure as ENOENT.
import { existsSync } from "node:fs";
import { textOf } from "./textfile.ts";

/** Flag of a listening socket: __SO_ACCEPTCON, include/uapi/linux/net.h. */
const ACCEPTS = 1 << 16;

/** Return whether a process of this network namespace listens at a path, where there is a file. */
export const hasUnixListener = (path: string): boolean => existsSync(path) && hasBoundListener(path);

/** Return whether a process of this network namespace listens on a socket that was bound to a path, also once that was removed. */
export function hasBoundListener(path: string): boolean {
  return textOf("/proc/net/unix")
    .split("\n")
    .some((line) => {
      // Num RefCount Protocol Flags Type St Inode Path
      const [, , , flags = "", , , , ...at] = line.trim().split(" ").filter(Boolean);
      return at.join(" ") === path && (Number.parseInt(flags, 16) & ACCEPTS) !== 0;
    });
}
