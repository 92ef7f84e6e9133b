// Questions to programs of this host: by whom they may not be answered, and how long an answer may be.
import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import { askLocally } from "../../lib/sys/localhttp.ts";
import { eventually } from "../support/hosts.ts";

const MB = 1 << 20;
const QUESTION = { limit: MB, timeoutMs: 20_000 };

let sent = 0;
/** Sends as fast as it is read. */
const endless = () =>
  new ReadableStream({
    pull(to) {
      sent += MB;
      to.enqueue(new Uint8Array(MB));
    },
  });

/** Sends something, and no end. */
const unfinished = () => new ReadableStream({ start: (to) => to.enqueue(new Uint8Array(1)) });

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  routes: {
    "/hello": ({ headers }) => new Response(`hello ${headers.get("accept")}`),
    "/bad": () => new Response("no such pod\n", { status: 400 }),
    "/elsewhere": () => Response.redirect("/hello", 302),
    "/endless": () => new Response(endless()),
    "/unfinished": () => new Response(unfinished()),
  },
});
const at = (path: string) => `http://127.0.0.1:${server.port}${path}`;

afterAll(() => server.stop(true));

test("the answer has its status, whatever it is", async () => {
  const headers = { accept: "text/plain" };
  expect(await askLocally(at("/hello"), { ...QUESTION, headers })).toEqual({
    status: 200,
    body: "hello text/plain",
  });
  expect(await askLocally(at("/bad"), QUESTION)).toEqual({ status: 400, body: "no such pod\n" });
});

test("no redirection is followed", async () => {
  expect((await askLocally(at("/elsewhere"), QUESTION)).status).toBe(302);
});

test("an answer that is too long is not read to its end", async () => {
  await expect(askLocally(at("/endless"), QUESTION)).rejects.toThrow(`more than ${MB} bytes`);
  // The server hears of it a moment later.
  await eventually(
    "nothing more is sent",
    async () => {
      const before = sent;
      await Bun.sleep(200);
      return sent - before;
    },
    (more) => more === 0,
  );
  expect(sent).toBeLessThan(64 * MB);
});

test("an answer that does not end is given up, and so is nobody", async () => {
  await expect(askLocally(at("/unfinished"), { ...QUESTION, timeoutMs: 200 })).rejects.toThrow();
  // Found out before the runtime's client is loaded, which costs a command more than all else.
  await expect(askLocally("http://127.0.0.1:1/", QUESTION)).rejects.toThrow(
    "asking http://127.0.0.1:1/: Connection refused",
  );
});

test("a proxy of the environment is not asked", async () => {
  const file = join(import.meta.dir, "../../lib/sys/localhttp.ts");
  const script = `const { askLocally } = await import(${JSON.stringify(file)});
    console.log((await askLocally(${JSON.stringify(at("/bad"))}, ${JSON.stringify(QUESTION)})).body);`;
  const proxy = "http://127.0.0.1:1";
  const child = Bun.spawn([process.execPath, "-e", script], {
    env: { ...process.env, HTTP_PROXY: proxy, http_proxy: proxy, NO_PROXY: "", no_proxy: "" },
    stdout: "pipe",
    stderr: "inherit",
  });
  expect(await new Response(child.stdout).text()).toBe("no such pod\n\n");
});
