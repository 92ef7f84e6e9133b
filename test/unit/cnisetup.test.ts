// Installing the CNI plugin: what is written, linked and kept in folders of the test, and which configuration runtimes take.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { conf, conflist, LIST, SINGLE } from "../../lib/cni/conflist.ts";
import {
  configurations,
  installConfig,
  installPlugin,
  PLUGIN,
  precedingConfig,
  precedingText,
  removeConfig,
  sameFile,
  setup,
} from "../../lib/cni/setup.ts";

let folder: string;
let binDir: string;
let confDir: string;
let executable: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-setup-"));
  [binDir, confDir, executable] = ["bin", "net.d", "weave"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(binDir);
  mkdirSync(confDir);
  writeFileSync(executable, "program", { mode: 0o755 });
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("configurations", () => {
  test.each<[string[], string | undefined]>([
    [[LIST], undefined],
    [["00-other.conf", LIST], "00-other.conf"],
    [["00-b.json", "00-a.conflist", LIST], "00-a.conflist"],
    [["99-other.conf", LIST], undefined],
    [["00-other.conf"], undefined],
    [["00-other.txt", "00-other.conf.bak", LIST], undefined],
    [["00-other.conflist", SINGLE], "00-other.conflist"],
    [[], undefined],
  ])("of which runtimes take the first by name: of %p, %p is before ours", (names, first) => {
    // The file system may list them in any order.
    for (const listed of [names, names.toReversed()]) {
      using _ = spyOn(fs, "readdirSync").mockImplementation((() => listed) as never);
      expect(configurations(confDir)).toEqual(
        listed.filter((name) => /\.(conf|conflist|json)$/.test(name)).sort(),
      );
      expect(precedingConfig(confDir)).toBe(first === undefined ? undefined : join(confDir, first));
    }
  });

  test("are none in a folder that there is not", () => {
    expect([configurations(join(folder, "none")), precedingConfig(join(folder, "none"))]).toEqual([
      [],
      undefined,
    ]);
    expect(precedingText("/etc/cni/net.d/00-x.conf")).toContain(`/etc/cni/net.d/00-x.conf before ${LIST}`);
  });
});

describe("the plugin", () => {
  const target = () => join(binDir, PLUGIN);

  test("is linked where that can be, once, and replaces another version at once", () => {
    expect(installPlugin(binDir, executable)).toBe(`linked ${executable} to ${target()}`);
    expect(statSync(target()).ino).toBe(statSync(executable).ino);
    expect(installPlugin(binDir, executable)).toBe(`${target()} is up to date`);
    rmSync(target());
    writeFileSync(target(), "PROGRAM");
    expect(installPlugin(binDir, executable)).toStartWith("linked ");
    expect([readFileSync(target(), "utf8"), readdirSync(binDir)]).toEqual(["program", [PLUGIN]]);
  });

  test("is a file also where its executable is a symbolic link, as in packages", () => {
    writeFileSync(executable, "program");
    symlinkSync("weave", join(folder, "weave-net"));
    installPlugin(binDir, join(folder, "weave-net"));
    expect([lstatSync(target()).isFile(), readFileSync(target(), "utf8")]).toEqual([true, "program"]);
  });

  test("is copied to another file system, and nothing is left where there is no room", () => {
    using _ = spyOn(fs, "linkSync").mockImplementation(() => {
      throw new Error("EXDEV");
    });
    expect(installPlugin(binDir, executable)).toBe(`copied ${executable} to ${target()}`);
    expect(statSync(target()).ino).not.toBe(statSync(executable).ino);
    expect(installPlugin(binDir, executable)).toBe(`${target()} is up to date`);
    rmSync(target());
    using _rename = spyOn(fs, "renameSync").mockImplementation(() => {
      throw new Error("ENOSPC");
    });
    expect(() => installPlugin(binDir, executable)).toThrow("ENOSPC");
    expect(readdirSync(binDir)).toEqual([]);
  });

  test("on a read-only file system the error is that of the write, not of the clean-up", () => {
    const readOnly = (call: string) => () => {
      const text = `EROFS: read-only file system, ${call} '/x'`;
      throw Object.assign(new Error(text), { code: "EROFS", syscall: call, path: "/x" });
    };
    using _write = spyOn(fs, "writeFileSync").mockImplementation(readOnly("open"));
    using _remove = spyOn(fs, "rmSync").mockImplementation(readOnly("rm"));
    expect(() => installConfig({ confDir, hairpin: true })).toThrow(
      `cannot write ${join(confDir, LIST)}: open /x: read-only file system; mount the file system of ${confDir} read-write`,
    );
  });

  test("what an interrupted setup left goes after a minute; that of another that runs stays", () => {
    const left = [`${PLUGIN}.tmp1`, `${PLUGIN}.tmp22`];
    const other = [`${PLUGIN}.tmp`, `${PLUGIN}.tmpx`, "portmap.tmp1"];
    for (const name of [...left, ...other]) writeFileSync(join(binDir, name), "part");
    writeFileSync(join(confDir, `${LIST}.tmp1`), "{");
    const places = { binDir, confDir, executable, hairpin: true };
    // A hard link has the age of its target.
    utimesSync(join(binDir, `${PLUGIN}.tmp1`), 0, 0);
    setup(places);
    expect(readdirSync(binDir).sort()).toEqual([PLUGIN, ...left, ...other].sort());
    const later = Date.now() + 61_000;
    using _ = spyOn(Date, "now").mockImplementation(() => later);
    writeFileSync(executable, "another version");
    rmSync(target());
    rmSync(join(confDir, LIST));
    setup(places);
    expect(readdirSync(binDir).sort()).toEqual([PLUGIN, ...other].sort());
    expect(readdirSync(confDir)).toEqual([LIST]);
  });

  test("is not installed into what is no folder, or where there is none", () => {
    writeFileSync(join(folder, "file"), "");
    expect(() => installPlugin(join(folder, "file"), executable)).toThrow(
      `${join(folder, "file")}: not a folder`,
    );
    expect(() => installPlugin(join(folder, "none"), executable)).toThrow(
      `cannot install into ${join(folder, "none")}: no such folder; create it`,
    );
    const done = setup({ binDir: join(folder, "none"), confDir, executable, hairpin: true });
    expect(done).toEqual([
      `${join(folder, "none")} does not exist: neither CNI plugin nor configuration installed; create it, or name another by --cni-bin-dir`,
    ]);
    // A runtime that reads it would start no container.
    expect(readdirSync(confDir)).toEqual([]);
  });

  test.each<[string, string, boolean]>([
    ["a", "a", true],
    ["a", "b", false],
    ["a", "ab", false],
    ["", "", true],
    ["x".repeat(1 << 20), `${"x".repeat((1 << 20) - 1)}y`, false],
    [`${"x".repeat(1 << 20)}y`, `${"x".repeat(1 << 20)}z`, false],
    [`${"x".repeat(1 << 20)}y`, `${"x".repeat(1 << 20)}y`, true],
  ])("is the same where all its bytes are (case %#)", (one, other, same) => {
    const [a, b] = [join(folder, "a"), join(folder, "b")];
    writeFileSync(a, one);
    writeFileSync(b, other);
    const opened = spyOn(fs, "openSync");
    const closed = spyOn(fs, "closeSync");
    expect(sameFile(a, b)).toBe(same);
    expect(closed.mock.calls.length).toBe(opened.mock.calls.length);
    opened.mockRestore();
    closed.mockRestore();
  });
});

describe("the configuration", () => {
  const list = () => join(confDir, LIST);
  const single = () => join(confDir, SINGLE);
  const text = (path: string) => readFileSync(path, "utf8");

  test("is written once, and again for other options; in place of the single one, and the other way round", () => {
    expect(installConfig({ confDir, hairpin: true })).toEqual([`wrote ${list()}`]);
    expect(text(list())).toBe(conflist(true, "1.0.0"));
    expect(installConfig({ confDir, hairpin: true })).toEqual([`${list()} is up to date`]);
    expect(installConfig({ confDir, hairpin: false })).toEqual([`wrote ${list()}`]);
    expect(text(list())).toBe(conflist(false, "1.0.0"));
    expect(installConfig({ confDir, hairpin: true, single: true })).toEqual([
      `removed ${list()}`,
      `wrote ${single()}`,
    ]);
    expect([text(single()), readdirSync(confDir)]).toEqual([conf(true), [SINGLE]]);
    expect(installConfig({ confDir, hairpin: true })).toEqual([`removed ${single()}`, `wrote ${list()}`]);
    expect(readdirSync(confDir)).toEqual([LIST]);
  });

  test("that was changed by hand stays, and is not removed", () => {
    writeFileSync(list(), '{"name": "mine"}');
    expect(installConfig({ confDir, hairpin: true })).toEqual([`${list()} was changed by hand: kept`]);
    expect(removeConfig(confDir)).toEqual([]);
    expect(text(list())).toBe('{"name": "mine"}');
  });

  test("leaves nothing where it cannot be written", () => {
    using _ = spyOn(fs, "renameSync").mockImplementation(() => {
      throw new Error("ENOSPC");
    });
    expect(() => installConfig({ confDir, hairpin: true })).toThrow("ENOSPC");
    expect(readdirSync(confDir)).toEqual([]);
  });

  test("is removed, in both forms", () => {
    writeFileSync(list(), conflist(true, "1.0.0"));
    writeFileSync(single(), conf(false));
    writeFileSync(join(confDir, "20-other.conf"), "{}");
    expect(removeConfig(confDir)).toEqual([`removed ${list()}`, `removed ${single()}`]);
    expect(readdirSync(confDir)).toEqual(["20-other.conf"]);
    expect([removeConfig(confDir), removeConfig(join(folder, "none"))]).toEqual([[], []]);
    const none = join(folder, "none");
    expect(installConfig({ confDir: none, hairpin: true })).toEqual([
      `${none} does not exist: CNI configuration not written`,
    ]);
    expect(existsSync(none)).toBe(false);
  });
});
