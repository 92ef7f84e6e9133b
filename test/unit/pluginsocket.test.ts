// The sockets on which dockerd finds us: there once Docker is, made again where they are removed, never in another's place.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { logTo } from "../../lib/log/log.ts";
import { PluginSocket } from "../../lib/router/pluginsocket.ts";

let folder: string;
let wanted: boolean;
let lines: string[];
let socket: PluginSocket;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-plugin-"));
  [wanted, lines] = [true, []];
  const log = logTo((level, text) => lines.push(`${level}: ${text}`));
  socket = new PluginSocket(
    "weave",
    () => wanted,
    async () => new Response("answer"),
    log,
    join(folder, "plugins"),
  );
});
afterEach(() => {
  socket.stop();
  rmSync(folder, { recursive: true });
});

const ask = async () => (await fetch("http://docker/Plugin.Activate", { unix: socket.path })).text();

test("a socket is made once it is wanted, and stays when it no longer is", async () => {
  wanted = false;
  expect([socket.restore(), existsSync(socket.path)]).toEqual([false, false]);
  wanted = true;
  // That is no repair.
  expect([socket.restore(), await ask()]).toEqual([false, "answer"]);
  wanted = false;
  expect([socket.restore(), await ask()]).toEqual([false, "answer"]);
  expect(lines).toEqual(["info: serving Docker's networks"]);
});

test("one that was removed is made again, which is a repair, and said once", async () => {
  socket.restore();
  rmSync(socket.path);
  expect([socket.restore(), await ask(), socket.restore()]).toEqual([true, "answer", false]);
  expect(lines.length).toBe(1);
});

test("what a killed router has left is replaced, what another program serves is not", async () => {
  socket.restore();
  const second = new PluginSocket(
    "weave",
    () => true,
    async () => new Response("other"),
    logTo(() => {}),
    join(folder, "plugins"),
  );
  expect(() => second.restore()).toThrow(
    `cannot serve Docker at ${socket.path}: another program does; end it`,
  );
  expect(await ask()).toBe("answer");
  socket.stop();
  writeFileSync(socket.path, "");
  expect(second.restore()).toBe(false);
  expect(await ask()).toBe("other");
  second.stop();
  expect(existsSync(socket.path)).toBe(false);
});

test("one that has stopped is not made again", () => {
  socket.restore();
  socket.stop();
  expect([socket.restore(), existsSync(socket.path)]).toEqual([false, false]);
});

test("the end of one that was never made removes nothing", () => {
  socket.restore();
  new PluginSocket(
    "weave",
    () => true,
    async () => new Response(""),
    logTo(() => {}),
    join(folder, "plugins"),
  ).stop();
  expect(existsSync(socket.path)).toBe(true);
});
