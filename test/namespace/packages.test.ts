// The packages, by dpkg and rpm themselves: installed, upgraded under traffic, removed, purged.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { VERSION } from "../../lib/version.ts";
import { DIST, eventually, Hosts } from "../support/hosts.ts";
import { PackagedHost } from "../support/packagedhost.ts";
import { Stream } from "../support/stream.ts";
import { makePackages } from "../tools/package/package.ts";

const OLD = "2.99.0~rc1";
const TARGET = `linux-${process.arch}`;
/** Pings a second. */
const RATE = 50;

let hosts: Hosts;
let deb: PackagedHost;
let rpm: PackagedHost;
let packages: readonly string[];

const fileOf = (version: string, ending: string) =>
  packages.find((file) => file.includes(version) && file.endsWith(ending)) ?? expect.unreachable();

/** By the package manager: install or upgrade. */
const install = {
  deb: (version: string) => deb.must("dpkg", "-i", fileOf(version, ".deb")),
  // Debian's rpm knows nothing of what dpkg has installed.
  rpm: (version: string) => rpm.must("rpm", "-U", "--nodeps", fileOf(version, ".rpm")),
};

beforeAll(async () => {
  hosts = await Hosts.create("pkg", 2);
  const wanted = { target: TARGET, versions: [OLD, VERSION], compression: 0, outdir: hosts.folder };
  packages = makePackages(wanted, DIST);
  [deb, rpm] = [await PackagedHost.create(hosts.host(1)), await PackagedHost.create(hosts.host(2))];
}, 300_000);

afterAll(() => hosts.disposeSync());

const established = (host: PackagedHost) =>
  eventually(
    "a connection by fastdp",
    () => host.must("weave", "status", "connections"),
    (text) => / established .*fastdp /.test(text),
  );

async function attach(host: PackagedHost, name: string): Promise<{ netns: string; address: string }> {
  const netns = await hosts.pod(name);
  const output = await host.must("weave", "attach", name, "--netns", netns);
  return { netns, address: /\d+\.\d+\.\d+\.\d+/.exec(output)?.[0] ?? expect.unreachable() };
}

test("a fresh installation has its manual pages, completion and settings, and starts nothing", async () => {
  await install.deb(OLD);
  await install.rpm(OLD);
  expect(await deb.must("dpkg-query", "-W", "weave")).toBe(`weave\t${OLD}\n`);
  expect(await rpm.must("rpm", "-q", "--qf", "%{VERSION}", "weave")).toBe(OLD);
  for (const host of [deb, rpm]) {
    expect(await host.must("weave", "--version")).toContain(VERSION);
    expect(await host.must("weave-router", "--version")).toContain(VERSION);
    expect(await host.must("stat", "-c", "%a", "/etc/default/weave")).toBe("600\n");
    expect(await host.must("sh", "-c", "zcat /usr/share/man/man8/weave-launch.8.gz")).toContain(".TH");
    expect(await host.must("cat", "/usr/share/bash-completion/completions/weave")).toContain("complete");
    expect((await host.exec("weave", "status")).code).not.toBe(0);
  }
  const verify = await deb.must("dpkg", "--verify", "weave");
  expect(verify).toBe("");
});

test("an upgrade by each of them, and the router's restart, lose no packet; settings stay, the CNI plugin goes along", async () => {
  await deb.must("weave", "setup");
  // In a folder of the same file system, the plugin is a link.
  const beside = "/usr/share/weave-test";
  await deb.must("mkdir", beside);
  await deb.must("weave", "setup", "--plugin-only", "--cni-bin-dir", beside);
  await deb.must("cmp", "/usr/bin/weave", `${beside}/weave-net`);
  await deb.must("rm", "-r", beside);
  await deb.must("weave", "launch", "--ipalloc-init=consensus=2");
  await rpm.must("weave", "launch", "--ipalloc-init=consensus=2", deb.host.ip);
  await Promise.all([deb, rpm].map(established));
  const [one, two] = [await attach(deb, "one"), await attach(rpm, "two")];
  // Another executable, as that of an earlier version is.
  await deb.must("cp", "--remove-destination", "/usr/bin/true", "/opt/cni/bin/weave-net");
  await deb.must("sh", "-c", "echo PEERS=host9 >> /etc/default/weave");

  using stream = new Stream("the pods", ["nsenter", `--net=${one.netns}`], two.address, RATE);
  await stream.flows();
  stream.mark();
  for (const [host, upgrade] of [[deb, install.deb] as const, [rpm, install.rpm] as const]) {
    const said = await upgrade(VERSION);
    expect(said).toContain("the running router is the earlier version");
    await host.must("weave", "stop");
    await host.must("weave", "launch", host === deb ? rpm.host.ip : deb.host.ip);
    await Promise.all([deb, rpm].map(established));
    const router = (await host.must("cat", "/run/weave/weave.pid")).trim();
    expect(await host.must("readlink", `/proc/${router}/exe`)).toBe("/usr/bin/weave\n");
    await stream.sends(RATE);
  }
  await stream.flows();
  expect(stream.lost).toBe(0);
  await deb.must("cmp", "/usr/bin/weave", "/opt/cni/bin/weave-net");
  expect(await deb.must("tail", "-n", "1", "/etc/default/weave")).toBe("PEERS=host9\n");
}, 300_000);

test("removal ends the network on the host; a purge leaves nothing", async () => {
  await deb.must("dpkg", "--remove", "weave");
  await rpm.must("rpm", "-e", "weave");
  for (const host of [deb, rpm]) {
    expect(await host.must("ip", "-br", "link")).not.toMatch(/weave|vxlan|vethwe/);
    expect((await host.exec("test", "-e", "/usr/bin/weave")).code).not.toBe(0);
    expect((await host.exec("test", "-e", "/opt/cni/bin/weave-net")).code).not.toBe(0);
  }
  expect(await deb.must("cat", "/etc/default/weave")).toContain("PEERS=host9");
  await deb.must("dpkg", "--purge", "weave");
  for (const host of [deb, rpm])
    expect((await host.written()).filter((path) => path.includes("weave"))).toEqual([]);
});

test("the archive installs by its script, under any prefix", async () => {
  const folder = join(hosts.folder, "archive");
  mkdirSync(folder);
  await deb.must("tar", "-C", folder, "-xf", fileOf(VERSION, ".tar.gz"));
  const script = join(folder, `weave-${VERSION}-${TARGET}/install.sh`);
  expect(await deb.exec(script, "--help")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("usage: ./install.sh [PREFIX]"),
  });
  const said = await deb.must(script, "/opt/weave");
  expect(said).toContain("in /opt/weave/bin");
  expect(await deb.must("/opt/weave/bin/weave-npc", "--version")).toContain(VERSION);
});
