// Whether a Unix socket has a listener: connect(2) fails with EAGAIN where that takes no more connections, and Bun 1.4 reports
// each failure as ENOENT.
import { existsSync } from "node:fs";
import { textOf } from "./textfile.ts";

/** Flag of a listening socket: __SO_ACCEPTCON, include/uapi/linux/net.h. */
const ACCEPTS = 1 << 16;

/**
 * Return whether a process of this network namespace listens at a path. /proc/net/unix has the path that a socket was bound
 * to, also once it was removed.
 */
export function hasUnixListener(path: string): boolean {
  const sockets = existsSync(path) ? textOf("/proc/net/unix") : "";
  return sockets.split("\n").some((line) => {
    // Num RefCount Protocol Flags Type St Inode Path
    const [, , , flags = "", , , , ...at] = line.trim().split(" ").filter(Boolean);
    return at.join(" ") === path && (Number.parseInt(flags, 16) & ACCEPTS) !== 0;
  });
}
