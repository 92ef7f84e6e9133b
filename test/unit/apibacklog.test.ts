// A router that hangs, and at which as many connections wait as its socket lets wait.
import { expect, test } from "bun:test";
import { mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiClient, RouterDownError, RouterSilentError } from "../../lib/api/client.ts";

test("it is silent, and one that has ended is down", async () => {
  const folder = mkdtempSync(join(tmpdir(), "weave-backlog-"));
  const path = join(folder, "weave.sock");
  const program = `require("node:net").createServer().listen({ path: ${JSON.stringify(path)}, backlog: 1 }, () => console.log("listening"))`;
  const router = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe" });
  const waiting: { end(): void }[] = [];
  try {
    await router.stdout.getReader().read();
    router.kill("SIGSTOP");
    for (let isFull = false; !isFull; ) {
      const connected = Bun.connect({ unix: path, socket: { data() {} } });
      await connected.then(
        (socket) => waiting.push(socket),
        () => {
          isFull = true;
        },
      );
    }
    const ask = () => apiClient(path)("GET", "/status").catch((error) => error);
    expect(await ask()).toBeInstanceOf(RouterSilentError);
    // Removed, it takes no connections, whatever is bound to it.
    renameSync(path, `${path}.away`);
    const away = await ask();
    expect([away instanceof RouterDownError, away instanceof RouterSilentError]).toEqual([true, false]);
    renameSync(`${path}.away`, path);
    router.kill("SIGKILL");
    await router.exited;
    const ended = await ask();
    expect([ended instanceof RouterDownError, ended instanceof RouterSilentError]).toEqual([true, false]);
  } finally {
    for (const socket of waiting) socket.end();
    router.kill("SIGKILL");
    rmSync(folder, { recursive: true });
  }
});
