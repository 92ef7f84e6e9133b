// weave doctor --cluster on three hosts: what is wrong on any of them is seen from one.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import * as v from "valibot";
import { Cluster } from "../../lib/api/shapes.ts";
import { VERSION } from "../../lib/version.ts";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";

let hosts: Hosts;
let one: Host;
let two: Host;
let three: Host;

beforeEach(async () => {
  hosts = await Hosts.create("clu", 3);
  [one, two, three] = [hosts.host(1), hosts.host(2), hosts.host(3)];
  for (const host of hosts.hosts) {
    const others = hosts.hosts.filter((other) => other !== host).map(({ ip }) => ip);
    await host.weave("launch", "--nickname", host.name, "--ipalloc-init=consensus=3", ...others);
  }
  await hosts.meshed();
});

afterEach(() => hosts.disposeSync());

async function cluster(on: Host) {
  const { code, stdout, stderr } = await on.exec([join(DIST, "weave"), "doctor", "--cluster", "--json"]);
  if (stdout === "") throw new Error(stderr);
  return { code, ...v.parse(Cluster, JSON.parse(stdout)) };
}

test("all is well: every host, every pair both ways", async () => {
  const { code, hosts: seen, paths } = await cluster(two);
  expect(seen.map(({ peer, state, version, problems }) => [peer.nickname, state, version, problems])).toEqual(
    ["host2", "host1", "host3"].map((name) => [name, "answers", VERSION, []]),
  );
  expect(paths.map(({ from, ping }) => `${from.nickname} ${ping.peer.nickname}`).sort()).toEqual([
    "host1 host2",
    "host1 host3",
    "host2 host1",
    "host2 host3",
    "host3 host1",
    "host3 host2",
  ]);
  expect(
    paths.flatMap(({ ping }) => [ping, ...ping.overlays].flatMap(({ problem }) => problem ?? [])),
  ).toEqual([]);
  expect(code).toBe(0);
}, 300_000);

test("a path that is blocked one way between two others", async () => {
  // Frames in VXLAN, not heartbeats.
  const rule = "udp dport 6784 @th,128,48 != 0";
  const stdin = `table inet t { chain c { type filter hook output priority -300; ip daddr ${three.ip} ${rule} drop\n}\n}\n`;
  await two.must(["nft", "-f", "-"], { stdin });
  const { code, paths } = await cluster(one);
  const wrong = paths.flatMap(({ from, ping }) =>
    ping.overlays.flatMap(({ problem }) =>
      problem === null ? [] : [`${from.nickname} ${ping.peer.nickname}: ${problem}`],
    ),
  );
  expect(wrong.sort()).toEqual([
    "host2 host3: no frame by fastdp arrives at host3",
    "host3 host2: frames by fastdp arrive at host2, and none comes back",
  ]);
  expect(code).toBe(1);
}, 300_000);

test("a problem on another host, one whose router is stopped, one that was killed", async () => {
  await two.weave("connect", "10.99.0.77");
  await eventually(
    "it is not reached",
    () => two.status("connections"),
    (text) => /(failed|retrying)/.test(text),
  );
  const before = (await cluster(one)).hosts.find(({ peer }) => peer.nickname === "host2");
  expect(before?.problems).toEqual([
    expect.objectContaining({
      level: "problem",
      check: "connections",
      found: expect.stringContaining("10.99.0.77"),
    }),
  ]);
  process.kill(two.pid, "SIGSTOP");
  await three.killRouter();
  await eventually(
    "it is lost",
    () => one.status("connections"),
    (text) => text.split("\n").filter((line) => line.includes("established")).length === 1,
  );
  const { code, hosts: seen } = await cluster(one);
  expect(seen.map(({ peer, state }) => `${peer.nickname} ${state}`)).toEqual([
    "host1 answers",
    "host2 silent",
    "host3 lost",
  ]);
  expect(code).toBe(1);
  process.kill(two.pid, "SIGCONT");
}, 300_000);

test("what goes together with it, and what does not", async () => {
  const fails = async (...args: string[]) =>
    (await one.exec([join(DIST, "weave"), "doctor", "--cluster", ...args])).code;
  expect(await fails("--fix")).toBe(2);
  await one.weave("stop");
  const { code, stdout, stderr } = await one.exec([join(DIST, "weave"), "doctor", "--cluster"]);
  expect([code, stdout]).toEqual([1, ""]);
  expect(stderr).toContain("weave is not running");
}, 300_000);
