// Looking for a fault on one host with a password: the log, and the file for whoever is to find it.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { appendFileSync, existsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LOG_LIMIT } from "../../lib/router/logfile.ts";
import { DIST, eventually, type Host, Hosts, must } from "../support/hosts.ts";

const PASSWORD = "correct-horse-battery";

let hosts: Hosts;
let a: Host;

beforeAll(async () => {
  hosts = await Hosts.create("logs", 1);
  a = hosts.host(1);
  await a.weave("launch", `--password=${PASSWORD}`, "--ipalloc-init=consensus=1", "--log-level=debug");
});

afterAll(() => hosts.disposeSync());

test("weave logs prints the last lines, and with -f those that follow", async () => {
  const whole = a.log.trimEnd().split("\n");
  const lines = (await a.weave("logs", "-n", "2")).trimEnd().split("\n");
  expect(lines).toHaveLength(2);
  expect((await a.weave("logs", "--lines=100000")).split("\n").slice(0, whole.length)).toEqual(whole);
  const follow = Bun.spawn(a.command(join(DIST, "weave"), "logs", "-f", "-n", "1"), {
    env: { ...process.env, ...a.env },
    stdout: "pipe",
  });
  try {
    let text = "";
    const reading = (async () => {
      for await (const chunk of follow.stdout) text += new TextDecoder().decode(chunk);
    })();
    await eventually(
      "the first line",
      async () => text,
      (now) => now.includes("\n"),
    );
    await a.weave("connect", "10.99.0.77");
    await eventually(
      "the line of a new peer",
      async () => text,
      (now) => now.includes("10.99.0.77"),
    );
    follow.kill();
    await reading;
  } finally {
    follow.kill();
  }
});

test("a log that is full goes on in a new file, and weave logs shows both; as JSON where that is asked for", async () => {
  await a.weave("stop");
  const file = join(a.env["WEAVE_RUN_DIR"] ?? "", "weave.log");
  appendFileSync(file, `${`${"x".repeat(1023)}\n`.repeat(LOG_LIMIT / 1024)}the last before\n`);
  const follow = Bun.spawn(a.command(join(DIST, "weave"), "logs", "-f", "-n", "1"), {
    env: { ...process.env, ...a.env },
    stdout: "pipe",
  });
  let text = "";
  const reading = (async () => {
    for await (const chunk of follow.stdout) text += new TextDecoder().decode(chunk);
  })();
  const told = (what: string) =>
    eventually(
      what,
      async () => text,
      (now) => now.includes(what),
    );
  try {
    await told("the last before\n");
    await a.weave("launch", `--password=${PASSWORD}`, "--ipalloc-init=consensus=1", "--log-format=json");
    await told('"msg":"weave is ready"');
  } finally {
    follow.kill();
    await reading;
  }
  const [first, ...lines] = text.trimEnd().split("\n");
  expect(first).toBe("the last before");
  for (const line of lines)
    expect(JSON.parse(line)).toMatchObject({ time: expect.any(String), level: expect.any(String) });
  expect(statSync(file).size).toBeLessThan(LOG_LIMIT);
  const all = (await a.weave("logs", "--lines=100000")).split("\n");
  expect(all.slice(all.indexOf("the last before")).slice(0, lines.length + 1)).toEqual([
    first ?? "",
    ...lines,
  ]);
  const few = (await a.weave("logs", "-n", String(lines.length + 3))).split("\n");
  expect(few).toContain("the last before");
  const refused = await a.exec([join(DIST, "weave-router"), "--log-format=json"]);
  expect([refused.code, JSON.parse(refused.stderr)]).toEqual([
    1,
    expect.objectContaining({ level: "error", msg: expect.stringContaining("already running") }),
  ]);
});

test("weave bugreport packs everything but secrets, for root alone", async () => {
  const file = join(a.folder, "report.tar.gz");
  expect(await a.weave("bugreport", "--output", file)).toMatch(/^\d+ files in /);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const names = (await must(["tar", "tzf", file])).trimEnd().split("\n");
  for (const name of ["status.txt", "report.json", "doctor.json", "log.txt", "links.json", "nftables.json"])
    expect(names).toContain(`report/${name}`);
  const everything = await must(["tar", "xzOf", file]);
  for (const secret of [PASSWORD, Buffer.from(PASSWORD).toString("base64")])
    expect(everything.includes(secret)).toBe(false);
  // A kernel without modules has no list of them.
  const failed = everything.match(/not available: .*/g) ?? [];
  expect(failed.filter((line) => !line.includes("/proc/modules"))).toEqual([]);
  const again = await a.exec([join(DIST, "weave"), "bugreport", "--output", file]);
  expect([again.code, again.stderr]).toEqual([1, expect.stringContaining("it exists")]);
});

test("an address without its prefix length is one of the default subnet", async () => {
  const pod = await hosts.pod("logs-pod");
  expect(await a.weave("expose", "10.32.0.77")).toBe("10.32.0.77\n");
  expect(await a.weave("attach", "10.32.0.50", "--netns", pod)).toBe("10.32.0.50\n");
  expect(JSON.parse(await a.weave("ps", "--json"))).toMatchObject([
    { addresses: ["10.32.0.77/12"] },
    { addresses: ["10.32.0.50/12"] },
  ]);
  for (const [address, code, text] of [
    ["192.168.1.300", 2, '"192.168.1.300" is not an IPv4 address: 300 is more than 255'],
    ["10.32.0", 2, '"10.32.0" is not an IPv4 address: it has 3 numbers, not 4'],
    ["10.32.0.9/33", 2, '"10.32.0.9/33": prefix length 33 is more than 32'],
    ["192.168.1.3", 1, "192.168.1.3 is not in the default subnet 10.32.0.0/12; add its prefix length"],
  ] as const) {
    const result = await a.exec([join(DIST, "weave"), "attach", address, "--netns", pod]);
    expect([result.code, result.stderr]).toEqual([code, expect.stringContaining(text)]);
  }
  for (const command of ["expose", "hide"])
    expect((await a.exec([join(DIST, "weave"), command, "10.32.0.777"])).code).toBe(2);
  expect(await a.weave("detach", "10.32.0.50", "--netns", pod)).toBe("10.32.0.50\n");
});

test("a launch that fails says why in words, whatever the format of its log", async () => {
  await a.weave("stop");
  writeFileSync(join(a.env["WEAVE_STATE_DIR"] ?? "", "weave.db"), "no database");
  const { code, stderr } = await a.exec([join(DIST, "weave"), "launch", "--log-format=json"]);
  expect([code, stderr]).toEqual([
    3,
    expect.stringMatching(/^weave launch: cannot use the state file .*moved to/),
  ]);
  expect(stderr.trim().split("\n")).toHaveLength(1);
});

test("no log where weave never ran", async () => {
  const env = { WEAVE_RUN_DIR: join(a.folder, "nowhere") };
  const result = await a.exec([join(DIST, "weave"), "logs"], { env });
  expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("weave is not running")]);
  expect(existsSync(env.WEAVE_RUN_DIR)).toBe(false);
});
