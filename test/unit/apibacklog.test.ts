// A router whose socket has a full backlog, and one that is busy for long.
import { expect, test } from "bun:test";
import { mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiClient, RouterDownError, RouterSilentError } from "../../lib/api/client.ts";
import { faster } from "../support/clocks.ts";

/** Run a program as a router: it listens on `path`, with its pid file locked. */
async function routerOf(program: string) {
  const folder = mkdtempSync(join(tmpdir(), "weave-backlog-"));
  const path = join(folder, "weave.sock");
  const script = `const path = ${JSON.stringify(path)}; ${program}; console.log("listening");`;
  const lock = ["flock", "--no-fork", join(folder, "weave.pid")];
  const router = Bun.spawn([...lock, process.execPath, "-e", script], { stdout: "pipe" });
  await router.stdout.getReader().read();
  return {
    path,
    router,
    async [Symbol.asyncDispose]() {
      router.kill("SIGKILL");
      await router.exited;
      rmSync(folder, { recursive: true });
    },
  };
}

/** Checks that the router is alive come every 100 ms. */
const ask = (path: string) => apiClient(path, faster(10))("GET", "/status").catch((error) => error);

test("a stopped router is silent, answers once resumed, and is down once it has ended", async () => {
  await using started = await routerOf(
    `const answer = "HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\nconnection: close\\r\\n\\r\\nok";
     const server = require("node:net").createServer((socket) => socket.once("data", () => socket.end(answer)));
     await new Promise((done) => server.listen({ path, backlog: 1 }, done))`,
  );
  const { path, router } = started;
  const waiting: { end(): void }[] = [];
  try {
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
    const silent = await ask(path);
    expect(silent).toBeInstanceOf(RouterSilentError);
    expect(silent.message).toEndWith(`: stopped by a signal; 'kill -CONT ${router.pid}' resumes it`);
    // Removed, it takes no connections, whatever is bound to it.
    renameSync(path, `${path}.away`);
    const away = await ask(path);
    expect([away instanceof RouterDownError, away instanceof RouterSilentError]).toEqual([true, false]);
    renameSync(`${path}.away`, path);
    const answered = ask(path);
    await Bun.sleep(200);
    router.kill("SIGCONT");
    expect(await answered).toBe("ok");
    router.kill("SIGKILL");
    await router.exited;
    const ended = await ask(path);
    expect([ended instanceof RouterDownError, ended instanceof RouterSilentError]).toEqual([true, false]);
  } finally {
    for (const socket of waiting) socket.end();
  }
});

test("a busy router is waited for", async () => {
  await using busy = await routerOf(
    `Bun.serve({ unix: path, fetch() { Bun.sleepSync(700); return new Response("done"); } })`,
  );
  expect(await ask(busy.path)).toBe("done");
});
