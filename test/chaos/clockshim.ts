// A wall clock of its own for a router, and a disk that turns read-only under it: a library in front of the C library adds the
// seconds in a file to what the kernel says, and refuses writes to the state file while there is another one. Time that passes is
// left alone.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { exec, must } from "../support/hosts.ts";

/** Ending of the name of the file beside that of the offset that makes the disk read-only. */
export const READ_ONLY = ".read-only";

const SHIM = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *ts) {
  long result = syscall(SYS_clock_gettime, id, ts);
  char text[32] = {0};
  int fd = id == CLOCK_REALTIME ? syscall(SYS_openat, AT_FDCWD, getenv("CLOCK_OFFSET_FILE"), O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return result;
  syscall(SYS_read, fd, text, 31);
  syscall(SYS_close, fd);
  ts->tv_sec += atol(text);
  return result;
}
static int refused(int fd) {
  const char *offset = getenv("CLOCK_OFFSET_FILE");
  char path[512], link[64];
  if (fd < 3 || !offset) return 0;
  snprintf(path, sizeof path, "%s${READ_ONLY}", offset);
  if (access(path, F_OK) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (!strstr(path, "/weave.db")) return 0;
  errno = EROFS;
  return 1;
}
ssize_t write(int fd, const void *bytes, size_t count) {
  return refused(fd) ? -1 : syscall(SYS_write, fd, bytes, count);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
  return refused(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, count, at);
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite64(fd, bytes, count, at); }
int ftruncate64(int fd, off64_t length) { return refused(fd) ? -1 : syscall(SYS_ftruncate, fd, length); }
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }
`;

/** Compiles it into a folder, for LD_PRELOAD with $CLOCK_OFFSET_FILE; undefined where there is no compiler. */
export async function compileClock(folder: string): Promise<string | undefined> {
  if ((await exec(["sh", "-c", "command -v cc"])).code !== 0) return undefined;
  const [source, library] = [join(folder, "clock.c"), join(folder, "clock.so")];
  writeFileSync(source, SHIM);
  await must(["cc", "-shared", "-fPIC", "-o", library, source]);
  return library;
}
