// Edges of the lowest floor: clocks in their units, arenas to their last byte, files that others may write, and reads that end.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import { rewriteHosts } from "../../lib/container/hosts.ts";
import { viewsOf } from "../../lib/crypto/secretbox.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { Arena } from "../../lib/sys/arena.ts";
import { boottimeMs, monotonicNow, nanoseconds, realtimeNow } from "../../lib/sys/clocks.ts";
import { causeOfConnect } from "../../lib/sys/connectcause.ts";
import { netnsInode } from "../../lib/sys/netnsinode.ts";
import { Pidfd, SIGCONT, SIGKILL } from "../../lib/sys/pidfd.ts";
import { closePipe, openPipe } from "../../lib/sys/pipe.ts";
import { PolledFiles } from "../../lib/sys/poll.ts";
import { readBounded } from "../../lib/sys/readbounded.ts";
import { hasUnixListener } from "../../lib/sys/unixlistener.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-edges-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("clocks", () => {
  test("count in ms since boot, and in ns since the epoch", () => {
    const uptimeMs = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1_000;
    expect(Math.abs(boottimeMs() - uptimeMs)).toBeLessThan(60_000);
    const wall = Date.now();
    expect(Math.abs(Number(realtimeNow() / 1_000_000n) - wall)).toBeLessThan(60_000);
    const before = monotonicNow();
    expect(monotonicNow() >= before).toBe(true);
  });

  test("a timespec is seconds, then nanoseconds", () => {
    expect(nanoseconds(BigInt64Array.of(2n, 5n))).toBe(2_000_000_005n);
  });
});

describe("an arena", () => {
  test("is reserved to its last byte, aligned, and not beyond", () => {
    const arena = new Arena(256);
    expect([arena.reserve(1), arena.reserve(10), arena.reserve(3, 8)]).toEqual([0, 64, 80]);
    expect(() => arena.reserve(129, 128)).toThrow("arena of 256 bytes is used up");
    expect(arena.reserve(128, 128)).toBe(128);
    expect(() => arena.reserve(1, 1)).toThrow(RangeError);
    expect(arena.reserve(0, 1)).toBe(256);
  });

  test("views of messages are told apart by place and length", () => {
    const arena = new Arena(4_096);
    const views = viewsOf(arena);
    const ends = (at: number, length: number) => {
      const { sealed, plain } = views(at, length);
      return [sealed.byteOffset, sealed.length, plain.byteOffset, plain.length];
    };
    const pairs = [0, 1, 16, 1_000].flatMap((at) => [0, 1, 16, 1_000].map((length) => [at, length] as const));
    for (let round = 0; round < 2; round++)
      for (const [at, length] of pairs) expect(ends(at, length)).toEqual([at, 16 + length, at + 16, length]);
  });
});

describe("files to wait for", () => {
  test("each is readable, paused and failed by itself", () => {
    const arena = new Arena(4_096);
    const [a, b] = [openPipe(), openPipe()];
    const polled = new PolledFiles(arena, [a.readFd, b.readFd]);
    const state = () => {
      polled.wait(true);
      return [0, 1].map((i) => `${polled.readable(i) ? "r" : ""}${polled.failed(i) ? "f" : ""}`);
    };
    expect(state()).toEqual(["", ""]);
    writeFileSync(`/proc/self/fd/${b.writeFd}`, "x");
    expect(state()).toEqual(["", "r"]);
    polled.pause(1);
    expect(state()).toEqual(["", ""]);
    polled.resume(1);
    expect(state()).toEqual(["", "r"]);
    closeSync(a.writeFd);
    expect(state()).toEqual(["f", "r"]);
    closeSync(a.readFd);
    closePipe(b);
  });

  test("a pipe is closed at both ends", () => {
    const pipe = openPipe();
    const target = readlinkSync(`/proc/self/fd/${pipe.readFd}`);
    // By what they lead to: other threads of this process open and close files, too.
    const ends = () =>
      readdirSync("/proc/self/fd").filter((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`) === target;
        } catch {
          return false;
        }
      });
    expect(ends()).toHaveLength(2);
    closePipe(pipe);
    expect(ends()).toEqual([]);
  });
});

describe("a bounded read", () => {
  const stream = (...pieces: string[]) =>
    new ReadableStream<Uint8Array>({
      pull(controller) {
        const next = pieces.shift();
        if (next === undefined) controller.close();
        else controller.enqueue(new TextEncoder().encode(next));
      },
    });

  test("is all of it up to the bound, and nothing of more", async () => {
    expect(await readBounded(stream("abc", "de"), 5)).toBe("abcde");
    expect(await readBounded(stream("abc", "de"), 4)).toBeUndefined();
    expect(await readBounded(stream(), 0)).toBe("");
  });

  test("that never ends is given up when that is asked for", async () => {
    const giveUp = new AbortController();
    let cancelled = false;
    const endless = new ReadableStream<Uint8Array>({
      pull: () => new Promise(() => {}),
      cancel() {
        cancelled = true;
      },
    });
    const reading = readBounded(endless, 5, giveUp.signal);
    giveUp.abort();
    expect(await reading).toBeUndefined();
    expect(cancelled).toBe(true);
  });
});

test("somebody listens at a path while the socket is open and its file is there", async () => {
  const path = join(folder, "sock");
  expect(hasUnixListener(path)).toBe(false);
  const server = Bun.listen({ unix: path, socket: { data() {} } });
  expect([hasUnixListener(path), hasUnixListener(`${path}2`)]).toEqual([true, false]);
  server.stop(true);
  writeFileSync(path, "");
  expect(hasUnixListener(path)).toBe(false);
});

test("the inode of a namespace is that of /proc; of none it is empty", () => {
  expect(`net:[${netnsInode("/proc/self/ns/net")}]`).toBe(
    new TextDecoder().decode(Bun.spawnSync(["readlink", "/proc/self/ns/net"]).stdout).trim(),
  );
  for (const none of [undefined, "", join(folder, "none")]) expect(netnsInode(none)).toBe("");
});

test("a network namespace has one cookie, whoever asks", () => {
  using one = new NetlinkSocket(NETLINK_ROUTE);
  using other = new NetlinkSocket(NETLINK_ROUTE);
  // Since Linux 5.14.
  const [major = 0, minor = 0] = release().split(".").map(Number);
  expect(typeof one.netnsCookie).toBe(major > 5 || (major === 5 && minor >= 14) ? "bigint" : "undefined");
  expect(one.netnsCookie).toBe(other.netnsCookie as never);
});

test("the kernel is asked about IPv4 alone", async () => {
  expect(await causeOfConnect({ host: "::1", port: 1 })).toBeUndefined();
  const refused = await causeOfConnect({ host: "127.0.0.1", port: 1 });
  expect(refused?.code).toBe("ECONNREFUSED");
});

describe.if(process.geteuid?.() === 0)("a container's /etc/hosts", () => {
  const file = () => join(folder, "a/hosts");
  beforeEach(() => {
    mkdirSync(join(folder, "a"));
    writeFileSync(file(), "before, and longer than after");
  });

  test("is rewritten in place", () => {
    rewriteHosts(file(), "after");
    expect(readFileSync(file(), "utf8")).toBe("after");
  });

  test.each([
    ["its folder", "a", 0o777],
    ["a folder above that", ".", 0o777],
    ["a group may write to one", ".", 0o775],
  ])("is left where others can change %s", (_what, which, mode) => {
    chmodSync(join(folder, which), mode);
    expect(() => rewriteHosts(file(), "after")).toThrow("others than root can change folder");
    expect(readFileSync(file(), "utf8")).toStartWith("before");
  });

  test("is rewritten where others can only add to a folder", () => {
    chmodSync(folder, 0o1777);
    expect(() => rewriteHosts(file(), "after")).not.toThrow();
  });

  test("is no link, and has no second name", () => {
    Bun.spawnSync(["ln", file(), join(folder, "second")]);
    expect(() => rewriteHosts(file(), "after")).toThrow("not a regular file with one link");
    Bun.spawnSync(["ln", "-s", file(), join(folder, "soft")]);
    expect(() => rewriteHosts(join(folder, "soft"), "after")).toThrow("cannot rewrite /etc/hosts");
    expect(() => rewriteHosts("a/hosts", "after")).toThrow("the path is not absolute");
  });
});

describe("a process by its descriptor", () => {
  test("that has ended meanwhile gets no signal, and that is no error; an impossible signal is one", async () => {
    const child = Bun.spawn(["sleep", "600"]);
    using process = Pidfd.open(child.pid);
    expect([process?.ended, process?.signal(SIGCONT)]).toEqual([false, true]);
    expect(() => process?.signal(999)).toThrow(/sending signal 999 to process \d+: /);
    expect(process?.signal(SIGKILL)).toBe(true);
    await child.exited;
    expect([process?.ended, process?.signal(SIGCONT), Pidfd.open(child.pid)]).toEqual([
      true,
      false,
      undefined,
    ]);
  });
});
