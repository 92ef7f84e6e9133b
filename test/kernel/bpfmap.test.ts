// Reading whole eBPF maps from kernels that cannot read them by many entries at a time, or only now and then.
import { expect, spyOn, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { BpfCall } from "../../lib/bpf/bpf.ts";
import { BpfMap, U32 } from "../../lib/bpf/map.ts";
import { EINVAL, ENOENT, ENOSPC } from "../../lib/sys/errno.ts";
import { SysError } from "../../lib/sys/syscall.ts";
import { isRoot } from "../support/newnetns.ts";

const ENOTSUPP = 524;
const EPERM = 1;
const definition = { name: "m", type: "hash", key: U32, value: U32, maxEntries: 8 } as const;

/** An empty map, of which reading by many fails with this errno. */
function map(errno: number) {
  const commands: string[] = [];
  const subject = BpfMap.fromFd<number, number>(definition, 3, ({ command }) => {
    commands.push(command);
    return command === "MAP_LOOKUP_BATCH" ? -errno : -ENOENT;
  });
  return { commands, subject };
}

test.each([
  ["a map without batches", EINVAL],
  ["a kernel without them", ENOTSUPP],
  ["a bucket that is larger than the room for it", ENOSPC],
])("%s: is read entry by entry", (_what, errno) => {
  const { commands, subject } = map(errno);
  expect(subject.entries()).toEqual([]);
  expect(commands).toEqual(["MAP_LOOKUP_BATCH", "MAP_GET_NEXT_KEY"]);
});

test("what else the kernel refuses is an error that names the map", () => {
  const { commands, subject } = map(EPERM);
  expect(() => subject.entries()).toThrow("eBPF map read m");
  expect(commands).toEqual(["MAP_LOOKUP_BATCH"]);
});

test.if(isRoot)("a map that the kernel does not describe is closed again", () => {
  const subject = BpfMap.create(definition);
  const id = Number(/^map_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${subject.fd}`, "utf8"))?.[1]);
  // By target: other threads of this process open and close files, too.
  const opened = () =>
    readdirSync("/proc/self/fd").filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`) === "anon_inode:bpf-map";
      } catch {
        return false;
      }
    });
  const before = opened();
  const run = BpfCall.prototype.run;
  const spy = spyOn(BpfCall.prototype, "run").mockImplementation(function (
    this: BpfCall<"MAP_CREATE">,
    what,
  ) {
    if (what.startsWith("eBPF map info")) throw new SysError(what, EPERM);
    return run.call(this, what);
  });
  try {
    expect(() => BpfMap.adopt(definition, [id])).toThrow("eBPF map info m");
    expect(opened()).toEqual(before);
  } finally {
    spy.mockRestore();
    subject.close();
  }
});

test.if(isRoot).each([
  ["at once", undefined],
  ["entry by entry", EINVAL],
])("the non-zero numbers of an array are read %s", (_what, errno) => {
  const array = { ...definition, type: "array", maxEntries: 1_000 } as const;
  const made = BpfMap.create(array);
  const subject = BpfMap.fromFd<number, number>(array, made.fd, (call) =>
    call.command === "MAP_LOOKUP_BATCH" && errno ? -errno : call.try(),
  );
  try {
    expect(subject.filled()).toEqual([]);
    for (const key of [0, 7, 999]) subject.set(key, 0x100 + key);
    subject.set(8, 0);
    expect(subject.filled()).toEqual([0, 7, 999].map((key) => [key, 0x100 + key]));
    expect(subject.entries()).toHaveLength(1_000);
  } finally {
    made.close();
  }
});
