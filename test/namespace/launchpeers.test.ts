// What launch says of the peers that it was to connect to, with real routers; no peer makes it fail.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { Connections, Failure, Launched, Primed, type Shape } from "../../lib/api/shapes.ts";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";

let hosts: Hosts;
let a: Host;
let b: Host;

beforeAll(async () => {
  hosts = await Hosts.create("lpe", 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
  mkdirSync(`/etc/netns/${b.netns}`, { recursive: true });
  writeFileSync(`/etc/netns/${b.netns}/hosts`, "127.0.0.1 localhost\n");
  writeFileSync(`/etc/netns/${b.netns}/resolv.conf`, "nameserver 127.0.0.9\n");
});

afterEach(async () => {
  for (const host of [a, b]) await host.exec([join(DIST, "weave"), "reset", "--force"]);
});

afterAll(() => {
  if (existsSync(`/etc/netns/${b.netns}`)) rmSync(`/etc/netns/${b.netns}`, { recursive: true });
  hosts.disposeSync();
});

const launch = (host: Host, ...args: string[]) => host.exec([join(DIST, "weave"), "launch", ...args]);

/** The same until no peer is unheard that does answer: launch gives peers 1.5 s, in which a busy machine may get nowhere. */
const launchHeard = (host: Host, unheard: RegExp, ...args: string[]) =>
  eventually(
    "peers have answered the launch",
    async () => {
      await host.exec([join(DIST, "weave"), "stop"]);
      return launch(host, ...args);
    },
    ({ stdout }) => !unheard.test(stdout),
  );

/** Launches with --json, which has to succeed; the answer has to be exactly the shape. `silent` is all that do not answer. */
async function launched(host: Host, silent: number, ...args: string[]): Promise<Shape<typeof Launched>> {
  const unheard = new RegExp(`(?:"no-answer"[^]*){${silent + 1}}`);
  const { code, stdout } = await launchHeard(host, unheard, "--json", ...args);
  expect(code).toBe(0);
  const printed: unknown = JSON.parse(stdout);
  const parsed = v.parse(Launched, printed);
  expect(printed).toEqual(parsed as never);
  return parsed;
}

test("a live peer: connected", async () => {
  await a.weave("launch", "--nickname=a");
  const args = ["--nickname=b", "--mtu=1300", a.ip];
  const { code, stdout, stderr } = await launchHeard(b, /no answer yet/, ...args);
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout).toStartWith("weave is running (pid ");
  expect(stdout).toMatch(/^ {2}name {5}[0-9a-f:]{17}\(b\)$/m);
  expect(stdout).toContain(
    "  range    10.32.0.0/12\n  overlay  fast datapath: VXLAN and eBPF; not encrypted\n",
  );
  expect(stdout).toMatch(/^ {2}peers {4}10\.99\.0\.1 {2}connected to [0-9a-f:]{17}\(a\)$/m);
});

test("a peer with another password is refused, with why and what to do, and is no error", async () => {
  await a.weave("launch", "--password=one");
  const { peers, encryption, warnings } = await launched(b, 0, "--password=two", a.ip);
  expect(encryption).toBe(true);
  expect(peers).toEqual([
    {
      ...{ peer: a.ip, address: `${a.ip}:6783`, state: "refused", name: null, nickname: null },
      reason: expect.stringContaining("password"),
      advice: expect.stringContaining("password"),
    },
  ]);
  // The kernel may lack ESP, which is another warning.
  expect(warnings.filter((warning) => !warning.includes("ESP")).length).toBeLessThanOrEqual(1);
});

test("a peer with another range is refused, with why and what to do", async () => {
  await a.weave("launch");
  const { code, stdout } = await launchHeard(b, /no answer yet/, "--ipalloc-range=10.48.0.0/16", a.ip);
  expect(code).toBe(0);
  expect(stdout).toMatch(/peers {4}10\.99\.0\.1 {2}refused: Incompatible IP allocation ranges/);
  expect(stdout).toContain("launch all peers with the same --ipalloc-range");
});

test("a host without a router, one that is silent, and ourselves", async () => {
  await b.must(["ip", "neigh", "add", "10.99.0.78", "lladdr", "02:00:00:00:00:78", "dev", "eth0"]);
  const { peers, warnings } = await launched(b, 2, a.ip, "10.99.0.78", b.ip);
  expect(warnings).toEqual([]);
  expect(peers).toEqual([
    expect.objectContaining({ peer: a.ip, state: "no-answer", reason: expect.stringMatching(/refused/i) }),
    expect.objectContaining({
      peer: "10.99.0.78",
      address: "10.99.0.78:6783",
      state: "no-answer",
      reason: null,
    }),
    expect.objectContaining({ peer: b.ip, state: "self" }),
  ]);
});

test("launch, status and doctor have one reason and one remedy for a peer", async () => {
  const { peers } = await launched(b, 1, a.ip);
  const [said] = peers;
  expect(said).toMatchObject({ reason: "connection refused", advice: expect.stringContaining(a.ip) });
  const [status] = v.parse(Connections, JSON.parse(await b.weave("status", "connections", "--json")));
  expect([status?.reason, status?.remedy]).toEqual([said?.reason, said?.advice] as never);
  const { stdout } = await b.exec([join(DIST, "weave"), "doctor", "--json"]);
  const findings = v.parse(v.array(v.looseObject({ found: v.string() })), JSON.parse(stdout));
  expect(findings).toContainEqual(
    expect.objectContaining({
      found: expect.stringContaining(`cannot be reached: ${said?.reason}`),
      advice: said?.advice,
    }),
  );
});

test("a name that does not resolve is looked up until it does", async () => {
  const { code, stdout, stderr } = await launch(b, "host1.example");
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout).toMatch(/peers {4}host1\.example {2}the name does not resolve yet: /);
  expect(await b.weave("status", "targets")).toBe("host1.example\n");
  await a.weave("launch", "--nickname=a");
  writeFileSync(`/etc/netns/${b.netns}/hosts`, `127.0.0.1 localhost\n${a.ip} host1.example\n`);
  await eventually(
    "it is connected once its name resolves",
    () => b.status("connections"),
    (text) => / established /.test(text),
  );
});

test("what the router warns of is on the terminal, too", async () => {
  await b.must(["ip", "route", "add", "10.40.0.0/24", "via", a.ip]);
  const range = "--ipalloc-range=10.40.0.0/16";
  try {
    const { code, stderr } = await launch(b, range, "--log-level=error");
    expect(code).toBe(0);
    expect(stderr).toMatch(/^warning: .*10\.40\.0\.0\/24/);
    expect(stderr.trim().split("\n")).toHaveLength(1);
    await b.weave("reset", "--force");
    expect((await launched(b, 0, range)).warnings).toEqual([expect.stringContaining("10.40.0.0/24")]);
  } finally {
    await b.must(["ip", "route", "del", "10.40.0.0/24"]);
  }
});

test("--wait resolves with a quorum, and says what it waited for where there is none", async () => {
  const alone = await launch(b, "--json", "--wait=2", a.ip);
  expect(alone.code).toBe(1);
  expect(v.parse(Failure, JSON.parse(alone.stderr)).error.message).toMatch(
    /^no quorum within 2 s: .*10\.99\.0\.1/,
  );
  expect(await b.weave("status")).toContain("Service: router");
  const { code } = await launch(a, "--wait=30", b.ip);
  expect(code).toBe(0);
  expect(v.parse(Primed, JSON.parse(await b.weave("prime", "--json")))).toEqual({ ready: true });
});

test.each(["--wait=0", "--wait=soon", "--foreground --wait=1", "--foreground --json"])(
  "launch %s is refused",
  async (args) => {
    expect((await launch(b, ...args.split(" "))).code).toBe(2);
    expect(existsSync(join(b.folder, "run/weave.sock"))).toBe(false);
  },
);
