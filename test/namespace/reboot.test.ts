// What people gave a host comes back after a reboot: everything in the kernel and under /run is gone, the state on disk is
// there, and the router is launched again.

import { Database } from "bun:sqlite";
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { apiClient, holders } from "../../lib/api/client.ts";
import { fillUp } from "../support/disk.ts";
import { DIST, eventually, type Host, Hosts, must } from "../support/hosts.ts";
import { addPod, type Pod, ping } from "../support/pods.ts";

let hosts: Hosts;
let a: Host;
let b: Host;

beforeEach(async () => {
  hosts = await Hosts.create("boo", 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
});

afterEach(() => hosts.disposeSync());

const masqueraded = async (host: Host, cidr: string) =>
  (await host.must(["nft", "list", "chain", "ip", "weave", "postrouting"])).includes(`ip saddr ${cidr}`);
const bridge = async (host: Host) =>
  [...(await host.must(["ip", "-4", "-o", "addr", "show", "dev", "weave"])).matchAll(/inet (\S+)/g)].map(
    ([, cidr]) => cidr,
  );
const api = (host: Host) => apiClient(host.socket);
const listed = async (host: Host) => (await host.weave("ps", "weave:expose")).trim().split(" ").slice(2);
/** The same of the host itself, asked of the router. */
const held = async (host: Host) => (await holders(api(host))).get("weave:expose") ?? [];
/** What `weave dns-lookup NAME` prints, asked of the router itself. */
const lookup = async (host: Host, name: string) => (await api(host)("GET", `/dns-lookup/${name}`)).trim();
const targets = async (host: Host) => (await host.status("targets")).split("\n").filter(Boolean);
const reachable = (pod: Pod, address: string) =>
  eventually(
    `${address} answers`,
    () => ping(pod, address, "-c", "1"),
    ({ code }) => code === 0,
  );

test("exposures, their names, names of hosts elsewhere and targets come back; what was taken back does not", async () => {
  await a.weave("launch", "--ipalloc-init=consensus=2", "--nickname=a");
  await b.weave("launch", "--ipalloc-init=consensus=2", a.ip);
  const first = (await a.weave("expose", "-h", "gateway.weave.local")).trim();
  await a.weave("expose", "10.60.0.7/24", "--no-masquerade");
  await a.weave("expose", "10.60.1.7/24");
  await a.weave("hide", "10.60.1.7/24");
  await a.weave("dns-add", "192.168.7.7", "-h", "printer.weave.local");
  await a.weave("dns-add", "192.168.7.8", "-h", "scanner.weave.local");
  await a.weave("dns-remove", "192.168.7.8");
  await a.weave("connect", b.ip, "10.99.0.77");
  await a.weave("forget", "10.99.0.77");
  const before = await listed(a);
  const pod = await addPod(hosts, b, "pod");
  await reachable(pod, first);

  await hosts.reboot(a);
  await a.weave("launch", "--ipalloc-init=consensus=2", "--nickname=a");
  expect((await bridge(a)).sort()).toEqual([`${first}/12`, "10.60.0.7/24"].sort());
  expect(await listed(a)).toEqual(before);
  expect(await masqueraded(a, "10.32.0.0/12")).toBe(true);
  expect(await masqueraded(a, "10.60.0.0/24")).toBe(false);
  expect(await lookup(a, "gateway")).toBe(first);
  expect(await lookup(a, "printer")).toBe("192.168.7.7");
  expect(await lookup(a, "scanner")).toBe("");
  expect(await targets(a)).toEqual([b.ip]);
  await reachable(pod, first);
  // Nobody else is given the address.
  expect((await addPod(hosts, a, "other")).address).not.toBe(first);
  const asked = await a.exec(["dig", `@${first}`, "+tries=1", "+time=3", "+short", "printer.weave.local"]);
  expect(asked.stdout.trim()).toBe("192.168.7.7");

  await a.weave("hide");
  await hosts.reboot(a);
  await a.weave("launch", "--ipalloc-init=consensus=2");
  expect(await bridge(a)).toEqual(["10.60.0.7/24"]);
  expect(await lookup(a, "gateway")).toBe("");
  await a.weave("reset", "--force");
  await a.weave("launch", "--ipalloc-init=consensus=1");
  expect(await bridge(a)).toEqual([]);
  expect(await lookup(a, "printer")).toBe("");
}, 300_000);

test("one that a reboot or a crash starts again keeps what connect and forget did; one that was stopped does not", async () => {
  const launch = (...peers: string[]) => a.weave("launch", "--ipalloc-init=consensus=1", ...peers);
  await launch("10.99.0.2", "10.99.0.3");
  await a.weave("forget", "10.99.0.3");
  await a.weave("connect", "10.99.0.4");
  await hosts.reboot(a);
  await launch("10.99.0.3", "10.99.0.2");
  expect(await targets(a)).toEqual(["10.99.0.2", "10.99.0.4"]);
  await a.killRouter();
  await launch("10.99.0.5");
  expect(await targets(a)).toEqual(["10.99.0.5"]);
  await a.weave("connect", "10.99.0.6");
  await a.weave("stop");
  await hosts.reboot(a);
  await launch("10.99.0.5");
  expect(await targets(a)).toEqual(["10.99.0.5"]);
  await a.weave("connect", "10.99.0.6");
  await a.weave("stop");
  await launch("--resume");
  expect(await targets(a)).toEqual(["10.99.0.5", "10.99.0.6"]);
}, 300_000);

test("an exposure whose address cannot be had is told of, kept, and comes back when it can; damaged ones are skipped", async () => {
  const launch = (range: string) =>
    a.weave("launch", "--ipalloc-init=consensus=1", `--ipalloc-range=${range}`);
  await launch("10.32.0.0/16");
  const address = (await a.weave("expose", "-h", "gateway.weave.local")).trim();
  const named = () => lookup(a, "gateway");
  await a.weave("expose", "10.50.0.1/24");
  await hosts.reboot(a);
  const state = new Database(join(a.folder, "lib/weave.db"));
  state.run(`INSERT INTO state VALUES ('exposures', '10.50.0.9/24', '{"cidr":{"address":-1,"prefix":99}}')`);
  state.run("INSERT INTO state VALUES ('names', 'x', '{')");
  state.run("INSERT OR REPLACE INTO state VALUES ('router', 'targets', '7')");
  state.close();
  await launch("10.33.0.0/16");
  expect(await bridge(a)).toEqual(["10.50.0.1/24"]);
  expect(await a.status()).toContain(
    `exposed address ${address}/16 is not in force: it belongs to range 10.32.0.0/16; the range of the network is now 10.33.0.0/16; 'weave hide ${address}/16' forgets it`,
  );
  // Another host may have the address that the name led to.
  expect(await named()).toBe("");
  for (const what of ["10.50.0.9/24", '"x" of "names"', '"targets" of "router"']) await a.logged(what);
  await a.weave("stop");
  await launch("10.32.0.0/16");
  expect((await bridge(a)).sort()).toEqual([`${address}/16`, "10.50.0.1/24"].sort());
  expect(await a.status()).not.toContain("is not in force");
  expect(await named()).toBe(address);
  await a.weave("stop");
  await launch("10.33.0.0/16");
  expect(await a.status()).toContain(`exposed address ${address}/16 is in force nevertheless`);
  expect(await named()).toBe(address);
  await a.weave("hide", `${address}/16`);
  expect(await bridge(a)).toEqual(["10.50.0.1/24"]);
  expect(await a.status()).not.toContain("exposed address");
}, 300_000);

test("an address of another peer is not put in force before that one gives it up", async () => {
  await a.weave("launch", "--ipalloc-init=consensus=2", "--name=02:00:00:00:00:01", "--nickname=before");
  await b.weave("launch", "--ipalloc-init=consensus=2", a.ip);
  const address = (await a.weave("expose", "--no-masquerade")).trim();
  await eventually(
    "the other host knows whose it is",
    () => b.status("ipam"),
    (text) => text.includes("(before)"),
  );
  await hosts.reboot(a);
  // What a host of another name owned is not this one's.
  await a.weave("launch", "--ipalloc-init=consensus=2", "--name=02:00:00:00:00:02", b.ip);
  const status = await a.status();
  expect(status).toContain(`exposed address ${address}/12 is not in force: `);
  expect(await bridge(a)).toEqual([]);
  await eventually(
    "the hosts know each other",
    () => b.status("connections"),
    (text) => text.includes("established"),
  );
  await b.weave("rmpeer", "before");
  await eventually(
    "it is in force",
    () => bridge(a),
    (list) => list.includes(`${address}/12`),
  );
  expect(await masqueraded(a, "10.32.0.0/12")).toBe(false);
  expect(await a.status()).not.toContain("exposed address");
}, 300_000);

test("what is done of an expose that fails half way is taken back; what was there before stays", async () => {
  await a.weave("launch", "--ipalloc-init=consensus=1", "--no-dns");
  const expose = (...args: string[]) => a.exec([join(DIST, "weave"), "expose", ...args]);
  const named = ["-h", "gateway.weave.local"];
  for (const addresses of [[], ["10.60.0.1/24", "10.60.1.1/24"]]) {
    expect((await expose(...addresses, ...named)).stderr).toContain("no DNS: the router was launched");
    expect([await bridge(a), await held(a)]).toEqual([[], []]);
  }
  const address = (await expose("10.60.0.1/24")).stdout.trim();
  expect((await expose("10.60.0.1/24", "10.60.1.1/24", ...named)).code).toBe(1);
  expect(await bridge(a)).toEqual([`${address}/24`]);
  await a.must(["ip", "addr", "flush", "dev", "weave"]);
  await eventually(
    "the address is back",
    () => bridge(a),
    (list) => list.includes(`${address}/24`),
  );
}, 300_000);

test("what a full disk cannot save is refused, and nothing of it is done; what was saved comes back", async () => {
  const state = join(a.folder, "full");
  mkdirSync(state);
  await must(["mount", "-t", "tmpfs", "-o", "size=512k", "none", state]);
  const env = { WEAVE_STATE_DIR: state };
  const weave = (...args: string[]) => a.exec([join(DIST, "weave"), ...args], { env });
  const ballast = join(state, "ballast");
  try {
    await weave("launch", "--ipalloc-init=consensus=1", "10.99.0.2");
    const first = (await weave("expose", "-h", "gateway.weave.local")).stdout.trim();
    await weave("dns-add", "192.168.7.7", "-h", "printer.weave.local");
    const seen = async () => [
      await bridge(a),
      await held(a),
      await targets(a),
      await a.status("dns"),
      await a.must(["nft", "list", "table", "ip", "weave"]),
    ];
    const before = await seen();
    fillUp(ballast);
    for (const command of [
      ["expose", "10.60.0.1/24"],
      ["expose", "-h", "other.weave.local"],
      ["expose", "--no-masquerade"],
      ["hide"],
      ["dns-add", "192.168.7.8", "-h", "scanner.weave.local"],
      ["dns-remove", "192.168.7.7"],
      ["connect", "10.99.0.3"],
      ["connect", "--replace", "10.99.0.3"],
      ["forget", "10.99.0.2"],
    ]) {
      const { code, stderr } = await weave(...command);
      expect([command, code, stderr]).toEqual([
        command,
        1,
        expect.stringContaining("free space on that disk"),
      ]);
      expect(await seen()).toEqual(before);
    }
    rmSync(ballast);
    expect((await weave("expose", "10.60.0.2/24")).code).toBe(0);
    fillUp(ballast);
    await hosts.reboot(a);
    rmSync(ballast);
    await weave("launch", "--ipalloc-init=consensus=1");
    expect((await bridge(a)).sort()).toEqual([`${first}/12`, "10.60.0.2/24"].sort());
    expect(await lookup(a, "printer")).toBe("192.168.7.7");
    expect(await targets(a)).toEqual(["10.99.0.2"]);
  } finally {
    await weave("stop");
    await must(["umount", state]);
  }
}, 300_000);
