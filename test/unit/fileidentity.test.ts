// Which file it is: file systems that number their files alike are told apart.
import { expect, test } from "bun:test";
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isJournal } from "../../lib/log/log.ts";
import { fileIdentity } from "../../lib/sys/fileidentity.ts";
import { lockHolder } from "../../lib/sys/lockholder.ts";
import { trySyscall } from "../../lib/sys/syscall.ts";

const [LOCK_EX, LOCK_UN] = [2, 8];

/** Two folders, of two file systems, with one inode number. */
const [one, other] = (() => {
  const roots = ["/proc", "/sys", "/dev", "/dev/shm", "/dev/pts", "/dev/mqueue", "/run", "/sys/fs/cgroup"];
  const found = roots.flatMap((path) => {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stat ? [{ path, ...stat }] : [];
  });
  for (const a of found)
    for (const b of found) if (a.ino === b.ino && a.dev !== b.dev) return [a.path, b.path] as const;
  throw new Error(`no two of ${roots.join(" ")} have one inode number`);
})();

test("a file is itself by each of its paths and descriptors, also renamed, and no other one", () => {
  const folder = mkdtempSync(join(tmpdir(), "weave-identity-"));
  const [path, moved] = [join(folder, "a"), join(folder, "b")];
  writeFileSync(path, "");
  const fd = openSync(path, "r");
  const identity = fileIdentity(path);
  expect(identity).toMatch(/^\d+:\d+$/);
  expect([fileIdentity(fd), fileIdentity(`/proc/self/fd/${fd}`)]).toEqual([identity, identity]);
  renameSync(path, moved);
  writeFileSync(path, "");
  expect([fileIdentity(moved), fileIdentity(fd), fileIdentity(path) === identity]).toEqual([
    ...[identity, identity, false],
  ]);
  closeSync(fd);
  expect([fileIdentity(fd), fileIdentity(join(folder, "none"))]).toEqual([undefined, undefined]);
  rmSync(folder, { recursive: true });
});

test("files of one number on two file systems are two: in locks and as the journal", () => {
  expect(fileIdentity(one)).not.toBe(fileIdentity(other));
  const fd = openSync(one, constants.O_RDONLY);
  try {
    expect([isJournal(fileIdentity(one), fd), isJournal(fileIdentity(other), fd)]).toEqual([true, false]);
    expect(trySyscall("flock", fd, LOCK_EX)).toBe(0);
    expect([lockHolder(one), lockHolder(other)]).toEqual([process.pid, undefined]);
    trySyscall("flock", fd, LOCK_UN);
  } finally {
    closeSync(fd);
  }
});
