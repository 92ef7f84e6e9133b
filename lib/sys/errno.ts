// The errno values that our code branches on (include/uapi/asm-generic/errno*.h; the same on x86-64 and arm64).
export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const EAGAIN = 11;
export const EACCES = 13;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const EINVAL = 22;
export const ENOSPC = 28;
export const EMSGSIZE = 90;
export const EPROTONOSUPPORT = 93;
export const EOPNOTSUPP = 95;
export const EAFNOSUPPORT = 97;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;
export const ENETDOWN = 100;
export const ENETUNREACH = 101;
export const ENOBUFS = 105;
export const ECONNREFUSED = 111;
export const EHOSTUNREACH = 113;

/** Return what `fn` does; undefined where it throws with one of these errnos. */
export function unlessErrno<T>(errnos: number[], fn: () => T): T | undefined {
  try {
    return fn();
  } catch (error) {
    if (isErrno(error, ...errnos)) return undefined;
    throw error;
  }
}

/** True if an error has one of these errno values; SysError, NetlinkError and Node's errors have one. */
export function isErrno(error: unknown, ...errnos: number[]): boolean {
  if (typeof error !== "object" || error === null || !("errno" in error)) return false;
  return typeof error.errno === "number" && errnos.includes(Math.abs(error.errno));
}
