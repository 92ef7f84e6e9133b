// Who owns which addresses, where hosts are joined by mistake, have lost their state, leave or share a name.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { apiClient } from "../../lib/api/client.ts";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";
import { linesOf } from "../support/lines.ts";

let hosts: Hosts;

beforeAll(async () => {
  hosts = await Hosts.create("div", 4);
});

afterEach(async () => {
  for (const host of hosts.hosts) {
    await host.exec([join(DIST, "weave"), "reset", "--force"]);
    rmSync(join(host.folder, "run/weave.log"), { force: true });
  }
});

afterAll(() => hosts.disposeSync());

const weave = (host: Host, ...args: string[]) => host.exec([join(DIST, "weave"), ...args]);
/** What `weave status [PART]` shows; "" of a router that does not run. */
const status = (host: Host, part?: string) => host.status(part).catch(() => "");
const allocate = (host: Host, id: string) =>
  apiClient(join(host.folder, "run/weave.sock"))("POST", `/ip/${id}`, { timeoutMs: 60_000 });
const peersOf = async (host: Host) => (await status(host)).match(/Peers: (\d+)/)?.[1];
const saysProblem = (host: Host, text: string) =>
  eventually(
    `${host.name} says "${text}"`,
    () => status(host),
    (seen) => seen.includes(text),
  );

test("two networks joined by mistake are kept apart, and both ends say so until one gives in", async () => {
  const [a, b, c, d] = [1, 2, 3, 4].map((i) => hosts.host(i)) as [Host, Host, Host, Host];
  for (const [first, second] of [
    [a, b],
    [c, d],
  ] as const) {
    await first.weave("launch");
    await second.weave("launch", first.ip);
    await allocate(first, "c1");
    await allocate(second, "c1");
  }
  await c.weave("connect", a.ip);
  for (const end of [a, c]) {
    await saysProblem(end, "seeded by different peers");
    const doctor = await weave(end, "doctor");
    expect(doctor.stdout).toMatch(/problem +peers +peer .* is refused since .*seeded by different peers/);
  }
  for (const host of [a, b, c, d])
    await eventually(
      `${host.name} knows its own network alone`,
      () => peersOf(host),
      (peers) => peers === "2",
    );
  for (const host of [c, d]) await host.weave("reset", "--force");
  await c.weave("launch", a.ip);
  await eventually(
    "the one that gave in is let in",
    () => peersOf(c),
    (peers) => peers === "3",
  );
  await eventually(
    "nothing is wrong",
    () => status(c),
    (seen) => !seen.includes("Problem"),
  );
});

test("a host that lost its state waits for the peer that was named, instead of dividing the range anew", async () => {
  const [a, , c] = hosts.hosts as [Host, Host, Host];
  await a.weave("launch");
  const first = await allocate(a, "c1");
  await c.weave("launch", a.ip);
  await allocate(c, "c1");
  await c.weave("stop");
  rmSync(join(c.folder, "lib"), { recursive: true });
  await hosts.cut(a, c);
  await c.weave("launch", a.ip);
  const waiting = allocate(c, "c2");
  await saysProblem(c, `waiting for ${a.ip}, which may know the ring`);
  expect(await status(c, "ipam")).toBe("");
  const expose = Bun.spawn(c.command(join(DIST, "weave"), "expose"), {
    env: { ...process.env, ...c.env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let told = "";
  for await (const line of linesOf(expose.stderr)) {
    told = line;
    if (told.startsWith("waiting: ")) break;
  }
  expose.kill();
  await expose.exited;
  expect(told).toContain("waiting: the peers have not divided the range");
  await hosts.cut(a, c, false);
  expect(await waiting).not.toBe(first);
  expect(await status(c, "ipam")).toContain(" IPs (75.0% of total)");
});

test("reset right after another host has joined hands over to that one", async () => {
  const [a, b] = hosts.hosts as [Host, Host];
  await a.weave("launch");
  await allocate(a, "c1");
  await b.weave("launch", a.ip);
  await a.weave("reset", "--yes");
  expect(await status(b, "ipam")).toContain("(100.0% of total)");
  await allocate(b, "c1");
});

test("reset fails where nobody takes the addresses over, and the router goes on", async () => {
  const [a, b] = hosts.hosts as [Host, Host];
  await a.weave("launch");
  await b.weave("launch", a.ip);
  await allocate(a, "c1");
  await allocate(b, "c1");
  await b.killRouter();
  await eventually(
    "it is gone",
    () => peersOf(a),
    (peers) => peers === "1",
  );
  const { code, stderr } = await weave(a, "reset", "--yes");
  expect(code).toBe(1);
  expect(stderr).toContain("cannot hand the addresses of this host to another peer: no peer can be reached");
  expect(existsSync(join(a.folder, "lib/weave.db"))).toBe(true);
  await allocate(a, "c2");
});

test("of two hosts with one name the second gets nothing, not even when the first has gone, and all say so", async () => {
  const [a, b, c] = hosts.hosts as [Host, Host, Host];
  const name = "02:00:00:00:00:aa";
  await a.weave("launch", "--name", name);
  await b.weave("launch", a.ip);
  await allocate(a, "c1");
  await allocate(b, "c1");
  await c.weave("launch", "--name", name, b.ip);
  await saysProblem(b, `peer name ${name} is that of two hosts, at ${a.ip} and at ${c.ip}`);
  await saysProblem(c, `the peer name of this host, ${name}, is also that of the host at ${a.ip}`);
  await a.killRouter();
  await eventually(
    "it is gone",
    () => peersOf(b),
    (peers) => peers === "1",
  );
  const { code, stderr } = await weave(b, "rmpeer", name);
  expect(code).toBe(1);
  expect(stderr).toContain("is two hosts");
  await c.weave("connect", b.ip);
  await eventually(
    "it is refused",
    () => status(c, "connections"),
    (seen) => seen.includes("is also that of the host"),
  );
  expect(await status(c, "ipam")).toBe("");
});
