// Numbers of system calls, against those of the kernel's headers: a wrong one calls, or denies, another.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  CAPABILITIES,
  type Capability,
  capabilityBits,
  DENIED_CALLS,
  DENIED_CALLS_X86,
  SOCKET_FAMILIES,
} from "../../lib/sys/privileges.ts";
import { SYSCALL_NUMBERS } from "../../lib/sys/syscall.ts";

/** "name x64 arm64", "-" where an architecture has no such call. */
const HEADERS = new Map(
  readFileSync(join(import.meta.dir, "../vectors/syscalls.txt"), "utf8")
    .split("\n")
    .filter((line) => /^\w/.test(line))
    .map((line) => {
      const [name = "", x64, arm64] = line.split(" ");
      return [name, { x64, arm64 }] as const;
    }),
);

const HERE = Object.entries(SYSCALL_NUMBERS).flatMap(([arch, numbers]) =>
  Object.entries(numbers).map(([name, number]) => [name, arch, number] as const),
);
const DENIED = Object.entries(DENIED_CALLS).flatMap(([name, [x64, arm64]]) => [
  [name, "x64", x64] as const,
  [name, "arm64", arm64] as const,
]);
const DENIED_X86 = Object.entries(DENIED_CALLS_X86).map(([name, number]) => [name, "x64", number] as const);

test("system calls have the numbers of the kernel's headers", () => {
  const all = [...HERE, ...DENIED, ...DENIED_X86].map(([name, arch, number]) => `${name} ${arch} ${number}`);
  const real = [...HERE, ...DENIED, ...DENIED_X86].map(
    ([name, arch]) => `${name} ${arch} ${HEADERS.get(name)?.[arch as "x64"]}`,
  );
  expect(all).toEqual(real);
});

test("capabilities and socket families have the numbers of linux/capability.h and linux/socket.h", () => {
  const bits = (Object.values(CAPABILITIES) as object[])
    .flatMap((of) => Object.keys(of) as Capability[])
    .map((name) => [name, capabilityBits([name]).toString(2).length - 1] as const);
  expect(Object.fromEntries(bits)).toEqual({
    ...{ DAC_OVERRIDE: 1, DAC_READ_SEARCH: 2, NET_BIND_SERVICE: 10, NET_ADMIN: 12, NET_RAW: 13 },
    ...{ SYS_PTRACE: 19, SYS_ADMIN: 21, SYS_RESOURCE: 24 },
  });
  expect(SOCKET_FAMILIES).toEqual({ AF_UNIX: 1, AF_INET: 2, AF_INET6: 10, AF_NETLINK: 16, AF_PACKET: 17 });
});

test("what x86 alone has is nowhere else, and both architectures have the same calls", () => {
  for (const name of Object.keys(DENIED_CALLS_X86)) expect(HEADERS.get(name)?.arm64).toBe("-");
  expect(Object.keys(SYSCALL_NUMBERS.arm64).sort()).toEqual(Object.keys(SYSCALL_NUMBERS.x64).sort());
});
