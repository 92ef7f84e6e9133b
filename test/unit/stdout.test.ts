// Standard output by write(2), in child processes: the test's own process shares it.
import { describe, expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";

const module = (path: string) => JSON.stringify(join(import.meta.dir, "../..", path));

const PROGRAM = `
import { stdout } from ${module("cmd/output/stdout.ts")};
import { trySyscall } from ${module("lib/sys/syscall.ts")};
const [F_SETFL, O_WRONLY_NONBLOCK] = [4, 0x801];
if (process.argv[1] === "pipe") {
  trySyscall("fcntl", 1, F_SETFL, O_WRONLY_NONBLOCK);
  stdout.write("é".repeat(1 << 20));
  stdout.write(new Uint8Array([10]));
}
try {
  stdout.write("x");
} catch (error) {
  console.error(error.code);
}
console.error(stdout.isTTY);
`;

function start(stdout: "pipe" | number, mode: string) {
  return Bun.spawn([process.execPath, "-e", PROGRAM, mode], { stdout, stderr: "pipe" });
}

describe("standard output", () => {
  test("all bytes reach a non-blocking pipe, however slow its reader is", async () => {
    const child = start("pipe", "pipe");
    expect(await new Response(child.stdout as ReadableStream).text()).toBe(`${"é".repeat(1 << 20)}\nx`);
    expect(await new Response(child.stderr).text()).toBe("false\n");
  });

  test("a write error is thrown at once", async () => {
    const full = openSync("/dev/full", "w");
    try {
      expect(await new Response(start(full, "file").stderr).text()).toBe("ENOSPC\nfalse\n");
    } finally {
      closeSync(full);
    }
  });
});
