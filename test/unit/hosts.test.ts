// /etc/hosts of a container: its text, and that nothing else is ever written.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hostsText, rewriteHosts } from "../../lib/container/hosts.ts";

test.each<[string, string]>([
  ["web.weave.local", "10.32.0.1       web.weave.local web\n"],
  ["web.weave.local.", "10.32.0.1       web.weave.local web\n"],
  ["web", "10.32.0.1       web\n"],
])("the line of %s", (hostname, line) => {
  expect(hostsText(hostname, ["10.32.0.1"], [])).toContain(`# container hostname\n${line}\n#`);
});

test("the whole file, as the original writes it", () => {
  const text = hostsText("a.b", ["10.2.1.1", "192.168.100.100"], [{ name: "db", address: "192.0.2.1" }]);
  expect(text).toBe(`# created by Weave - BEGIN
# container hostname
10.2.1.1        a.b a
192.168.100.100 a.b a

# static names added with --add-host
192.0.2.1       db

# default localhost entries
127.0.0.1       localhost
::1             ip6-localhost ip6-loopback
fe00::0         ip6-localnet
ff00::0         ip6-mcastprefix
ff02::1         ip6-allnodes
ff02::2         ip6-allrouters
# created by Weave - END
`);
});

test.each(["", "a b", "a\nb 6.6.6.6", "a".repeat(300), "#x"])("%j is no host name", (hostname) => {
  expect(() => hostsText(hostname, [], [])).toThrow("is not a host name");
});

describe("the file", () => {
  let folder: string;
  let file: string;
  const TEXT = "new\n";

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "weave-hosts-"));
    file = join(folder, "hosts");
    writeFileSync(file, "old and longer\n".repeat(1_000), { mode: 0o644 });
  });

  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test("is written in place, where the container has it mounted, as often as one likes", () => {
    chownSync(file, 12345, 54321);
    const before = statSync(file);
    for (const text of [TEXT, "a longer one\n", ""]) {
      rewriteHosts(file, text);
      expect(readFileSync(file, "utf8")).toBe(text);
    }
    const { ino, uid, gid, mode } = statSync(file);
    expect([ino, uid, gid, mode]).toEqual([before.ino, before.uid, before.gid, before.mode]);
    expect(readdirSync(folder)).toEqual(["hosts"]);
  });

  test("is never found empty by a reader", async () => {
    const reading = `
      const { readFileSync } = require("node:fs");
      let [looks, empty] = [0, 0];
      console.log("reads");
      process.on("SIGTERM", () => { console.log(looks, empty); process.exit(0); });
      const look = () => {
        for (let i = 0; i < 500; i++, looks++) if (readFileSync(${JSON.stringify(file)}).length === 0) empty++;
        setImmediate(look);
      };
      look();`;
    const reader = Bun.spawn([process.execPath, "-e", reading], { stdout: "pipe" });
    const lines = reader.stdout.pipeThrough(new TextDecoderStream()).getReader();
    expect((await lines.read()).value).toBe("reads\n");
    for (let i = 0; i < 4_000; i++) rewriteHosts(file, i % 2 ? TEXT : "a longer one\n");
    reader.kill("SIGTERM");
    const [looks, empty] = ((await lines.read()).value ?? "").split(" ").map(Number);
    expect(looks).toBeGreaterThan(0);
    expect(empty).toBe(0);
  });

  test("that is a link to another, a FIFO, a folder or missing is left alone", () => {
    const victim = join(folder, "victim");
    writeFileSync(victim, "precious\n");
    const changes: (() => void)[] = [
      () => symlinkSync(victim, file),
      () => linkSync(victim, file),
      () => Bun.spawnSync(["mkfifo", file]),
      () => mkdirSync(file),
      () => {},
    ];
    for (const change of changes) {
      rmSync(file, { recursive: true, force: true });
      change();
      const names = readdirSync(folder);
      expect(() => rewriteHosts(file, TEXT)).toThrow("cannot rewrite /etc/hosts of the container");
      expect(readFileSync(victim, "utf8")).toBe("precious\n");
      expect(readdirSync(folder)).toEqual(names);
    }
  });

  test("in a folder that others can change is left alone", () => {
    for (const spoil of [() => chmodSync(folder, 0o777), () => chownSync(folder, 12345, 0)]) {
      spoil();
      expect(() => rewriteHosts(file, TEXT)).toThrow(`others than root can change folder ${folder}`);
      chownSync(folder, 0, 0);
      chmodSync(folder, 0o700);
    }
    expect(() => rewriteHosts("hosts", TEXT)).toThrow("the path is not absolute");
    expect(readFileSync(file, "utf8")).toStartWith("old");
    const outside = join(folder, "outside");
    mkdirSync(outside);
    chmodSync(outside, 0o777);
    writeFileSync(join(outside, "hosts"), "old\n");
    symlinkSync(outside, join(folder, "inside"));
    expect(() => rewriteHosts(join(folder, "inside/hosts"), TEXT)).toThrow("others than root can change");
    expect(readFileSync(join(outside, "hosts"), "utf8")).toBe("old\n");
  });
});
