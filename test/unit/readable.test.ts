// A watch of a file owns its descriptor: it is closed once, and never another file that got the same number.
import { expect, test } from "bun:test";
import { closeSync, fstatSync, openSync, readlinkSync, writeSync } from "node:fs";
import { openPipe } from "../../lib/sys/pipe.ts";
import { watchReadable } from "../../lib/sys/readable.ts";

const isOpen = (fd: number) => {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
};

/** Return the target of a descriptor: another file may have its number by now. */
const target = (fd: number) => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return "closed";
  }
};

test("a watch that has failed, and is then stopped, closes no file that was opened meanwhile", async () => {
  const { readFd, writeFd } = openPipe();
  const { promise, resolve } = Promise.withResolvers<Error>();
  const watch = watchReadable(readFd, () => {}, resolve);
  closeSync(writeFd);
  expect((await promise).message).toBe("closed by the kernel");
  // The kernel gives the lowest number that is free.
  const opened: number[] = [];
  do opened.push(openSync("/dev/null", "r"));
  while (Math.max(...opened) < readFd);
  expect(opened).toContain(readFd);
  watch.stop();
  watch.stop();
  expect(opened.filter((fd) => !isOpen(fd))).toEqual([]);
  for (const fd of opened) closeSync(fd);
});

test("a watch that is stopped closes its file, and hears nothing more", async () => {
  const { readFd, writeFd } = openPipe();
  const pipe = target(readFd);
  const heard: Uint8Array[] = [];
  const watch = watchReadable(
    readFd,
    (chunk) => heard.push(chunk),
    () => heard.push(new Uint8Array()),
  );
  watch.stop();
  expect(target(readFd)).not.toBe(pipe);
  closeSync(writeFd);
  await Bun.sleep(20);
  expect(heard).toEqual([]);
});

test("what arrives in the pause after a chunk is passed on behind it", async () => {
  const { readFd, writeFd } = openPipe();
  const heard: string[] = [];
  let told = Promise.withResolvers<void>();
  const onData = (chunk: Uint8Array) => {
    heard.push(Buffer.from(chunk).toString());
    told.resolve();
  };
  const watch = watchReadable(readFd, onData, expect.unreachable, 500);
  writeSync(writeFd, "a");
  await told.promise;
  told = Promise.withResolvers();
  writeSync(writeFd, "b");
  await Bun.sleep(20);
  expect(heard).toEqual(["a"]);
  await told.promise;
  expect(heard).toEqual(["a", "b"]);
  watch.stop();
  closeSync(writeFd);
});
