// The build as others get it: the same bytes wherever and whenever it is made, sums that are right, and programs that ask
// nobody for anything.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { DIST, exec, type Host, Hosts, must } from "../support/hosts.ts";

const ROOT = join(import.meta.dir, "../..");

const sha256 = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");

test("another folder and another time make the same executable, byte by byte", async () => {
  // In one file system with node_modules, for hard links.
  mkdirSync(DIST, { recursive: true });
  const folder = mkdtempSync(join(DIST, ".elsewhere-"));
  try {
    const root = join(folder, "deeper/root");
    mkdirSync(root, { recursive: true });
    for (const name of ["cmd", "lib", "test", "node_modules", "package.json", "tsconfig.json", "bunfig.toml"])
      await must(["cp", "-al", join(ROOT, name), root]);
    const program = `
      const { build } = await import(${JSON.stringify(join(root, "test/tools/build.ts"))});
      build("weave", "linux-${process.arch}", ${JSON.stringify(join(folder, "out"))});`;
    await must([process.execPath, "-e", program], { env: { TZ: "Asia/Tokyo" }, timeoutMs: 200_000 });
    expect(sha256(join(folder, "out/weave"))).toBe(sha256(join(DIST, "weave")));
  } finally {
    rmSync(folder, { recursive: true });
  }
}, 300_000);

test("sums, bill of materials and licences go with the executables", async () => {
  const { code, stdout } = await exec(["sh", "-c", `cd ${DIST} && sha256sum --strict -c SHA256SUMS`]);
  expect([code, stdout.match(/: OK$/gm)?.length]).toEqual([0, 6]);
  const { components } = JSON.parse(readFileSync(join(DIST, "sbom.cdx.json"), "utf8"));
  const names = components.map(({ name }: { name: string }) => name);
  for (const name of [
    "weave",
    "weave-npc",
    "bun",
    "SQLite",
    "libsodium",
    "sodium-native",
    "valibot",
    "prom-client",
  ])
    expect(names).toContain(name);
  // What only tests and builds use is not in it.
  for (const name of ["fast-check", "typescript", "playwright-core", "ajv"])
    expect(names).not.toContain(name);
  const text = readFileSync(join(DIST, "LICENSES.txt"), "utf8");
  for (const { type, name } of components)
    if (type === "library" && name !== "libsodium") expect(text).toContain(name);
});

let hosts: Hosts;
let host: Host;

beforeAll(async () => {
  hosts = await Hosts.create("sup", 1);
  host = hosts.host(1);
});
afterAll(() => hosts?.disposeSync());

test("nothing asks the network for anything: no version check, no report, no question", async () => {
  // All that leaves goes to a link that counts it and loses it.
  for (const command of [
    "sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
    "ip link add out type veth peer name sink",
    "ip link set sink up",
    "ip address add 192.0.2.2/24 dev out",
    "ip link set out up",
    "ip neighbour add 192.0.2.1 lladdr 02:00:00:00:00:01 dev out nud permanent",
    "ip route replace default via 192.0.2.1",
  ])
    await host.must(command.split(" "));
  const sent = async () => {
    const [link] = JSON.parse(await host.must(["ip", "-j", "-s", "link", "show", "out"]));
    return Number(link.stats64.tx.packets);
  };
  const before = await sent();
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await host.weave("attach", "--netns", await hosts.pod("a"));
  for (const command of [["status"], ["version"], ["--version"], ["ps"], ["help"], ["report"], ["doctor"]])
    await host.exec([join(DIST, "weave"), ...command]);
  await host.weave("bugreport", "-o", join(host.folder, "report.tar.gz"));
  expect(JSON.parse(await host.weave("report", "-f", "{{json .VersionCheck}}"))).toMatchObject({
    Enabled: false,
  });
  await host.weave("stop");
  expect((await sent()) - before).toBe(0);
  // The link does count.
  await host.exec(["ping", "-c", "1", "-W", "0.1", "203.0.113.1"]);
  expect((await sent()) - before).toBe(1);
}, 300_000);
