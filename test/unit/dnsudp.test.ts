// DNS over UDP on all addresses of a host, as they come and go.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { createSocket } from "node:dgram";
import type { Handler, Listener } from "../../lib/dns/listener.ts";
import { QueryTurns } from "../../lib/dns/turns.ts";
import { listenUdp } from "../../lib/dns/udp.ts";
import { logTo, silentLog } from "../../lib/log/log.ts";
import { freePort } from "../support/freeport.ts";
import { eventually } from "../support/hosts.ts";

const ALL = "0.0.0.0";
/** Answers with the address that a query came from, and nothing to an empty one. */
const echo: Handler = (bytes, _transport, from, answer) =>
  answer(bytes[0] === 0 ? undefined : new TextEncoder().encode(from));

let addresses: string[];
let changed: () => void;
let watching: number;
const local = {
  list: () => addresses,
  watch(told: () => void): Listener {
    changed = told;
    watching++;
    return { close: () => watching-- };
  },
};
const quiet = { local, log: silentLog };
beforeEach(() => {
  [addresses, watching] = [["127.0.0.1"], 0];
});

/** Whether nobody listens at an address. */
async function isFree(address: string, port: number): Promise<boolean> {
  const socket = createSocket("udp4");
  const free = await new Promise<boolean>((done) => {
    socket.once("error", () => done(false));
    socket.bind(port, address, () => done(true));
  });
  if (free) await new Promise<void>((done) => socket.close(done));
  return free;
}

/** Ask; return the reply and where it came from. */
async function ask(address: string, port: number): Promise<string> {
  const socket = createSocket("udp4");
  try {
    return await new Promise((done) => {
      socket.once("message", (reply, { address: from }) => done(`${reply} by ${from}`));
      socket.send(Uint8Array.of(1), port, address);
    });
  } finally {
    socket.close();
  }
}

const open: Listener[] = [];
afterEach(() => {
  for (const listener of open.splice(0)) listener.close();
});
async function listen(hostname: string, port: number, log = silentLog): Promise<Listener> {
  const listener = await listenUdp(hostname, port, echo, new QueryTurns(), { local, log });
  open.push(listener);
  return listener;
}

test("one address is listened on, and no other; nobody follows the host's", async () => {
  const port = freePort();
  const listener = await listen("127.0.0.2", port);
  expect(await ask("127.0.0.2", port)).toBe("127.0.0.1 by 127.0.0.2");
  expect([await isFree("127.0.0.1", port), watching]).toEqual([true, 0]);
  listener.close();
  expect(await isFree("127.0.0.2", port)).toBe(true);
});

test("queries that come while the thread is busy are kept, more of them for root than other programs may have", async () => {
  const port = freePort();
  let heard = 0;
  open.push(await listenUdp("127.0.0.1", port, () => heard++, new QueryTurns(), quiet));
  const client = await Bun.udpSocket({ connect: { hostname: "127.0.0.1", port } });
  const sent = process.getuid?.() === 0 ? 3_000 : 100;
  for (let i = 0; i < sent; i++) client.send(Uint8Array.of(1));
  client.close();
  await eventually(
    "all are heard",
    () => heard,
    (number) => number === sent,
  );
});

test("a flood of queries does not block the event loop, and queries are answered again after it", async () => {
  const port = freePort();
  let heard = 0;
  const slow: Handler = (...query) => {
    heard++;
    const start = performance.now();
    while (performance.now() - start < 0.1);
    echo(...query);
  };
  const turns = new QueryTurns();
  open.push(await listenUdp("127.0.0.1", port, slow, turns, quiet));
  const flood = Bun.spawn(
    [process.execPath, "test/support/flood.ts", "127.0.0.1", String(port), "100000", "1000000", "00"],
    { stdout: "ignore" },
  );
  try {
    await eventually(
      "the flood",
      () => heard,
      (count) => count > 100,
    );
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    expect(flood.exitCode).toBeNull();
    expect(heard).toBeLessThan(20_000);
  } finally {
    flood.kill();
    await flood.exited;
  }
  await eventually(
    "the rest of it",
    () => turns.limits()[0]?.value,
    (waiting) => waiting === 0,
  );
  expect(await ask("127.0.0.1", port)).toBe("127.0.0.1 by 127.0.0.1");
});

test("on all, each replies by itself, and they come and go as the host's do", async () => {
  const port = freePort();
  addresses = ["127.0.0.1", "127.0.0.2"];
  const listener = await listen(ALL, port);
  for (const address of addresses) expect(await ask(address, port)).toEndWith(` by ${address}`);
  addresses = ["127.0.0.2", "127.0.0.3"];
  changed();
  await eventually(
    "the new one is listened on",
    () => isFree("127.0.0.3", port),
    (free) => !free,
  );
  expect([await isFree("127.0.0.1", port), await isFree("127.0.0.2", port)]).toEqual([true, false]);
  listener.close();
  expect([await isFree("127.0.0.2", port), await isFree("127.0.0.3", port), watching]).toEqual([
    true,
    true,
    0,
  ]);
});

test("what is closed while it follows addresses stays closed", async () => {
  const port = freePort();
  const listener = await listen(ALL, port);
  addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
  changed();
  listener.close();
  // What was under way ends within a few turns of the event loop.
  for (let i = 0; i < 10; i++) await new Promise<void>((done) => setImmediate(done));
  for (const address of addresses) expect(await isFree(address, port)).toBe(true);
});

test("an address that is taken is warned of, and tried again with the next change; the others stay, or come", async () => {
  const port = freePort();
  const lines: string[] = [];
  await listen(
    ALL,
    port,
    logTo((level, text) => lines.push(`${level}: ${text}`)),
  );
  const taken = createSocket("udp4");
  await new Promise<void>((done) => taken.bind(port, "127.0.0.2", done));
  addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
  changed();
  await eventually("it is warned of", () => lines.length, Boolean);
  expect(lines).toEqual([expect.stringContaining("warning: cannot listen on all addresses: ")]);
  expect(await isFree("127.0.0.3", port)).toBe(false);
  for (const address of ["127.0.0.1", "127.0.0.3"])
    expect(await ask(address, port)).toEndWith(` by ${address}`);
  await new Promise<void>((done) => taken.close(done));
  changed();
  await eventually(
    "it is listened on",
    () => isFree("127.0.0.2", port),
    (free) => !free,
  );
});

test("a start that fails at one address closes the others", async () => {
  const port = freePort();
  const taken = createSocket("udp4");
  await new Promise<void>((done) => taken.bind(port, "127.0.0.2", done));
  addresses = ["127.0.0.1", "127.0.0.2"];
  await expect(listen(ALL, port)).rejects.toThrow();
  expect([await isFree("127.0.0.1", port), watching]).toEqual([true, 0]);
  await new Promise<void>((done) => taken.close(done));
});
