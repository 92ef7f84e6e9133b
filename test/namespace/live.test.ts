// Views that refresh in place, on a terminal and off one, over a router that goes away and comes back.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { Connections, Top } from "../../lib/api/shapes.ts";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";
import { addPod, allAnswered, inPod, type Pod, podCommand } from "../support/pods.ts";

let hosts: Hosts;
let [a, b] = [] as unknown as [Host, Host];
let [one, two] = [] as unknown as [Pod, Pod];
const children: Bun.Subprocess[] = [];

const LAUNCH = ["launch", "--ipalloc-init=consensus=1", "--anti-spoof"];
const ENTER = "\u001b[?1049h";
const LEAVE = "\u001b[?25h\u001b[?1049l";
const BEGIN_DRAW = "\u001b[?2026h";
const CTRL_Z = "\u001a";
const CTRL_C = "\u0003";
const MARK = "\u001b[7m";

/** What was written to a terminal, without colours and movements of the cursor. */
const linesOf = (drawn: string) =>
  Bun.stripANSI(drawn)
    .split("\n")
    .map((line) => line.trimEnd());

/** The pieces that were to be shown at once. */
const drawsOf = (raw: string) => raw.split(BEGIN_DRAW);

/** A command on a terminal of its own. */
function onTerminal(host: Host, args: readonly string[], size = { cols: 80, rows: 24 }, env = {}) {
  let raw = "";
  const decoder = new TextDecoder();
  const child = Bun.spawn(host.command(join(DIST, "weave"), ...args), {
    env: { ...process.env, ...host.env, TERM: "xterm-256color", NO_COLOR: "", ...env } as Record<
      string,
      string
    >,
    terminal: {
      ...size,
      data(_terminal, bytes) {
        raw += decoder.decode(bytes, { stream: true });
      },
    },
  });
  children.push(child);
  return {
    child,
    terminal: child.terminal,
    raw: () => raw,
    /** The lines drawn last. */
    frame: () => linesOf(raw.split("Every ").at(-1) ?? ""),
    /** All lines drawn so far: a mark is gone with the next look, before a busy machine has seen it. */
    drawn: () => linesOf(raw),
  };
}

/** The last that a command has written to its terminal, which may come after its end, gives that back. */
const leaves = (raw: () => string) =>
  eventually("the terminal is given back", raw, (text) => text.endsWith(LEAVE));

/** The state of a process, as /proc has it: "T" where it is stopped. */
const stateOf = (pid: number) => readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.[0];

/** A command whose output is no terminal. */
function piped(host: Host, ...args: string[]) {
  const seen = { stdout: "", stderr: "" };
  const child = Bun.spawn(host.command(join(DIST, "weave"), ...args), {
    env: { ...process.env, ...host.env },
    stdout: "pipe",
    stderr: "pipe",
  });
  children.push(child);
  const collect = async (stream: "stdout" | "stderr") => {
    for await (const text of child[stream].pipeThrough(new TextDecoderStream())) seen[stream] += text;
  };
  const reading = Promise.all([collect("stdout"), collect("stderr")]);
  reading.catch(() => {});
  return { child, seen, reading };
}

beforeAll(async () => {
  hosts = await Hosts.create("live", 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
  await a.weave(...LAUNCH);
  await b.weave(...LAUNCH, a.ip);
  one = await addPod(hosts, a, "live-one");
  two = await addPod(hosts, a, "live-two");
  await hosts.meshed();
}, 300_000);

afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGKILL");
    await child.exited;
  }
});

afterAll(() => hosts.disposeSync());

test("on a terminal: in place, changes marked, over a router that goes away, until Ctrl-C", async () => {
  const { child, terminal, raw, frame } = onTerminal(a, ["status", "connections", "--watch", "0.5"]);
  const shows = (what: string, holds: (lines: string[]) => boolean) => eventually(what, frame, holds);
  const lines = await shows("the connection is shown", (now) => now.join().includes("established"));
  expect(raw()).toStartWith(ENTER);
  expect(lines[0]).toMatch(/^0\.5 s: weave status connections +\S+ {2}\d\d:\d\d:\d\d$/);
  expect(raw()).not.toContain(MARK);

  await b.weave("stop");
  await eventually("the change is marked", raw, (text) => text.includes(MARK));
  await b.weave(...LAUNCH, a.ip);
  await shows("the connection is back", (now) => now.join().includes("established"));

  await a.killRouter();
  const away = await shows("a router that is away is shown", (now) => now.join().includes("is not running"));
  expect(away.join("\n")).toMatch(/since \d\d:\d\d:\d\d; trying again/);
  expect(child.exitCode).toBeNull();
  await a.weave(...LAUNCH);
  await shows("it is back", (now) => now.join().includes("established"));

  const before = raw().length;
  terminal?.resize(40, 8);
  // Draws that begin with the title are whole; what follows one may change lines of it.
  await eventually("it fits", raw, (text) =>
    drawsOf(text.slice(before))
      .filter((draw) => draw.includes("Every "))
      .some((draw) => linesOf(draw).length <= 8 && linesOf(draw).every((line) => line.length <= 40)),
  );

  // Ctrl-Z gives the terminal back, too; fg takes it again.
  terminal?.write(CTRL_Z);
  const stopped = await eventually("it gives the terminal back", raw, (text) => text.endsWith(LEAVE));
  await eventually(
    "it is stopped",
    () => stateOf(child.pid),
    (state) => state === "T",
  );
  process.kill(child.pid, "SIGCONT");
  await eventually("it goes on", raw, (text) => text.slice(stopped.length).startsWith(ENTER));

  terminal?.write(CTRL_C);
  expect(await child.exited).toBe(0);
  await leaves(raw);
}, 300_000);

test("without colour, changed lines have an asterisk; all parts and the overview can be watched", async () => {
  const views = [[], ["targets"], ["connections"], ["peers"], ["dns"], ["ipam"]].map((part) =>
    onTerminal(a, ["status", ...part, "--watch", "0.5"], { cols: 100, rows: 60 }, { NO_COLOR: "1" }),
  );
  for (const { frame } of views) await eventually("it is drawn", frame, (lines) => lines.length > 2);
  await a.weave("dns-add", "10.9.9.9", "-h", "new.weave.local");
  const [overview, , , , dns] = views;
  await eventually("the name is new", dns?.drawn ?? (() => []), (lines) =>
    lines.some((line) => line.startsWith("* new ")),
  );
  await eventually("the overview has changed", overview?.drawn ?? (() => []), (lines) =>
    lines.some((line) => /^\* +Entries: 1$/.test(line)),
  );
  for (const { raw } of views) expect(raw()).not.toContain(MARK);
  await a.weave("dns-remove", "10.9.9.9");
}, 300_000);

test("off a terminal: all of it once, then what has changed; a reader that goes ends it", async () => {
  const { child, seen, reading } = piped(a, "status", "connections", "--watch", "0.5");
  await eventually(
    "the connection is printed",
    () => seen.stdout,
    (text) => text.includes("established"),
  );
  expect(seen.stdout).not.toContain("\u001b");
  const before = seen.stdout;
  await b.weave("stop");
  const after = await eventually(
    "the change is printed",
    () => seen.stdout,
    (text) => text !== before,
  );
  expect(after).toStartWith(before);
  await a.killRouter();
  await eventually(
    "the router is away",
    () => seen.stderr,
    (text) => text.includes("; waiting for it\n"),
  );
  await a.weave(...LAUNCH);
  await b.weave(...LAUNCH, a.ip);
  await eventually(
    "it is back",
    () => seen.stderr,
    (text) => text.includes("the router answers again\n"),
  );
  // Once, not at each look; a router that starts may be away in another way for a moment.
  const told = seen.stderr.trim().split("\n");
  expect(new Set(told).size).toBe(told.length);
  child.kill("SIGINT");
  expect(await child.exited).toBe(0);
  await reading;

  const weave = join(DIST, "weave");
  const head = await a.exec(["sh", "-c", `${weave} status --watch 0.5 --json | head -n 2`], {
    timeoutMs: 20_000,
  });
  expect(head.code).toBe(0);
  const json = head.stdout.trim().split("\n");
  expect(json.length).toBe(2);
  for (const line of json) expect(JSON.parse(line)).toMatchObject({ nickname: expect.any(String) });
  await hosts.meshed();
}, 300_000);

test("as JSON, each look is one line of the documented shape", async () => {
  const { seen } = piped(a, "status", "connections", "--json", "--watch=0.5");
  const text = await eventually(
    "three looks",
    () => seen.stdout,
    (now) => now.split("\n").length > 3,
  );
  for (const line of text.split("\n").slice(0, 3)) v.parse(Connections, JSON.parse(line));
});

test("top counts what containers receive, send and lose, as they see it", async () => {
  await allAnswered(20, one, two.address, "-s", "1000");
  const look = async () => {
    const answer = v.parse(Top, JSON.parse(await a.weave("top", "--json")));
    expect(answer.peers).toBe(1);
    const rows = [one, two].flatMap(({ address }) =>
      answer.containers.filter(({ addresses }) => addresses.includes(`${address}/12`)),
    );
    const inside = await Promise.all([one, two].map(insideCounters));
    return { rows, inside };
  };
  // ARP may ask for an address between the two looks.
  const { rows } = await eventually("both count the same", look, ({ rows, inside }) =>
    Bun.deepEquals(
      rows.map(({ receivedBytes, sentBytes }) => ({ rx: receivedBytes, tx: sentBytes })),
      inside,
    ),
  );
  for (const row of rows) expect(Math.min(row.receivedPackets, row.sentPackets)).toBeGreaterThanOrEqual(20);

  // Anti-spoofing drops them however slowly they come, where storm control would let them pass on a busy machine.
  const foreign = "10.32.99.99";
  expect((await inPod(one, "ip", "address", "add", `${foreign}/32`, "dev", "eth0")).code).toBe(0);
  await inPod(one, "ping", "-q", "-c", "50", "-i", "0.01", "-W", "1", "-I", foreign, two.address);
  const after = v.parse(Top, JSON.parse(await a.weave("top", "--json")));
  const noisy = after.containers.find(({ addresses }) => addresses.includes(`${one.address}/12`));
  // The other direction loses a frame where the kernel's backlog of a busy processor is full, and no more.
  expect(noisy?.sentDropped).toBeGreaterThanOrEqual(50);
  expect(noisy?.receivedDropped).toBeLessThan(10);
}, 300_000);

/** Bytes by the container's own counters. */
async function insideCounters(pod: Pod): Promise<{ rx: number; tx: number }> {
  const [link] = JSON.parse((await inPod(pod, "ip", "-j", "-s", "link", "show", "eth0")).stdout);
  return { rx: link.stats64.rx.bytes, tx: link.stats64.tx.bytes };
}

test("top on a terminal sorts by rate, and is one table off it", async () => {
  const traffic = Bun.spawn(podCommand(two, "ping", "-q", "-i", "0.002", "-s", "1400", b.ip), {
    stdout: "ignore",
    stderr: "ignore",
  });
  children.push(traffic);
  const { child, terminal, frame, raw } = onTerminal(a, ["top", "-n", "0.5"]);
  const lines = await eventually(
    "the busy one is first",
    frame,
    (now) => /^\S+ +[\d.]+ +\d+ [kM]?B\/s/.test(now[5] ?? "") && (now[5] ?? "").includes(two.address),
  );
  expect(lines[2]).toMatch(/^\S+: 2 containers, 1 peer connected; in \d/);
  expect(lines[4]).toStartWith("CONTAINER  ");
  terminal?.write(CTRL_C);
  expect(await child.exited).toBe(0);
  await leaves(raw);

  const table = await eventually(
    "the busy one is first in the table, too",
    async () => (await a.weave("top")).split("\n"),
    (now) => now[3]?.includes(two.address) === true,
  );
  expect(table.length).toBe(6);
  const once = onTerminal(a, ["top", "--once"]);
  expect(await once.child.exited).toBe(0);
  expect(once.raw()).not.toContain(ENTER);
}, 300_000);

test("what makes no sense is refused at once", async () => {
  for (const [args, text] of [
    [["status", "--watch=0"], '--watch "0" is not an interval from 0.5 to 3600 seconds'],
    [["status", "weather", "--watch"], "invalid 'weave status' sub-command: weather"],
    [["top", "-n", "x"], '--interval "x" is not an interval'],
    [["top", "web"], 'top takes no arguments; got "web"'],
  ] as const) {
    const { code, stderr } = await a.exec([join(DIST, "weave"), ...args]);
    expect([code, stderr]).toEqual([2, expect.stringContaining(text)]);
    expect(stderr.trim().split("\n").length).toBe(1);
  }
});
