// Who holds a lock: found without touching it, also when its file is gone, and never a process of another host.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launchedPid, runningPid, runningRouter } from "../../lib/router/instance.ts";
import * as lockholder from "../../lib/sys/lockholder.ts";
import { findLockHolder, lockHolder } from "../../lib/sys/lockholder.ts";
import { inNewNetns } from "../../lib/sys/netns.ts";
import { trySyscall } from "../../lib/sys/syscall.ts";
import { eventually } from "../support/hosts.ts";
import { isRoot } from "../support/newnetns.ts";
import { useFolder } from "../support/ownfolders.ts";

/** flock(2) */
const [LOCK_SH, LOCK_EX, LOCK_UN] = [1, 2, 8];

let folder: string;
let path: string;
let fd: number;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-lock-"));
  path = join(folder, "weave.pid");
  fd = openSync(path, constants.O_CREAT | constants.O_RDWR, 0o600);
  writeFileSync(path, "text");
});
afterEach(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

test("nobody, where there is no file, no lock, or a shared one", () => {
  expect(findLockHolder(join(folder, "none"))).toBeUndefined();
  expect(lockHolder(path)).toBeUndefined();
  expect(trySyscall("flock", fd, LOCK_SH)).toBe(0);
  expect(lockHolder(path)).toBeUndefined();
});

test("the process with an exclusive one, by this file alone", () => {
  const other = openSync(join(folder, "other"), constants.O_CREAT | constants.O_RDWR);
  trySyscall("flock", other, LOCK_EX);
  expect(lockHolder(path)).toBeUndefined();
  trySyscall("flock", fd, LOCK_EX);
  expect(lockHolder(path)).toBe(process.pid);
  trySyscall("flock", fd, LOCK_UN);
  expect(lockHolder(path)).toBeUndefined();
  closeSync(other);
});

test("the process of this host that has the removed file, which can still be read", () => {
  trySyscall("flock", fd, LOCK_EX);
  rmSync(path);
  const holder = findLockHolder(path);
  expect(holder?.pid).toBe(process.pid);
  expect(readFileSync(holder?.file ?? "", "utf8")).toBe("text");
  // Another file in its place is not locked.
  writeFileSync(path, "");
  expect(findLockHolder(path)).toBeUndefined();
});

describe.if(isRoot && Bun.which("flock") !== null)("a process of another network namespace", () => {
  test("holds the lock of a file that both see, but not one that was removed", async () => {
    const child = inNewNetns(() =>
      Bun.spawn(["flock", "-x", "--no-fork", path, "sleep", "60"], { stdout: "ignore", stderr: "ignore" }),
    );
    try {
      await eventually("the lock is held", () => lockHolder(path), Boolean);
      rmSync(path);
      expect(findLockHolder(path)).toBeUndefined();
    } finally {
      child.kill();
      await child.exited;
    }
  });
});

test("a process that has the lock when it is opened, and no more a moment later, is no router: its pid may be another's", () => {
  writeFileSync(path, `${process.pid}\n`);
  using _folder = new DisposableStack();
  _folder.defer(useFolder(folder));
  const holder = { pid: process.pid, file: path };
  for (const [after, isRunning] of [
    [holder, true],
    [undefined, false],
    [{ ...holder, pid: process.ppid }, false],
  ] as const) {
    using find = spyOn(lockholder, "findLockHolder").mockReturnValueOnce(holder).mockReturnValue(after);
    using router = runningRouter();
    expect([router !== undefined, find.mock.calls.length]).toEqual([isRunning, 2]);
  }
});

describe("the router of a launch", () => {
  let leave: () => void;
  let search: ReturnType<typeof spyOn<typeof lockholder, "findLockHolder">>;
  beforeEach(() => {
    leave = useFolder(folder);
    search = spyOn(lockholder, "findLockHolder");
  });
  afterEach(() => {
    search.mockRestore();
    leave();
  });

  test("is the process that the pid file names, if it has the lock: no other lock is looked at", () => {
    writeFileSync(path, `${process.pid}\n`);
    expect(launchedPid()).toBeUndefined();
    trySyscall("flock", fd, LOCK_SH);
    expect(launchedPid()).toBeUndefined();
    trySyscall("flock", fd, LOCK_EX);
    expect(launchedPid()).toBe(process.pid);
    writeFileSync(path, `${process.ppid}\n`);
    expect([launchedPid(), search.mock.calls]).toEqual([undefined, []]);
  });

  test("is none without a pid file and a listener; with one, the process that has the removed file", async () => {
    writeFileSync(path, `${process.pid}\n`);
    trySyscall("flock", fd, LOCK_EX);
    rmSync(path);
    expect([launchedPid(), runningPid(), search.mock.calls]).toEqual([undefined, undefined, []]);
    const socket = join(folder, "weave.sock");
    const server = Bun.serve({ unix: socket, fetch: () => new Response() });
    rmSync(socket);
    expect([launchedPid(), runningPid()]).toEqual([process.pid, process.pid]);
    await server.stop(true);
  });
});
