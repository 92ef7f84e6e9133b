// Files that others must not take the place of, and that are written again where they are removed.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import { OwnFiles } from "../../lib/router/ownfiles.ts";
import { makeOwnFolder, openOwnFile } from "../../lib/sys/ownfile.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-own-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("a folder of ours", () => {
  test("is made with those above it, for us to write and all to read", () => {
    const path = join(folder, "a/b");
    makeOwnFolder(path);
    makeOwnFolder(path);
    expect(statSync(path).mode & 0o7777).toBe(0o755 & ~process.umask());
  });

  test("that cannot be made leaves none above it", () => {
    expect(() => makeOwnFolder(join(folder, "a/b", "x".repeat(300)))).toThrow("name too long");
    expect(readdirSync(folder)).toEqual([]);
  });

  test.each([0o775, 0o757, 0o777, 0o720, 0o702])("of mode %o is refused", (mode) => {
    const path = join(folder, "shared");
    mkdirSync(path);
    chmodSync(path, mode);
    expect(() => makeOwnFolder(path)).toThrow(`mode ${mode.toString(8)}): change its owner`);
  });

  test.each([0o755, 0o700, 0o711])("of mode %o is taken", (mode) => {
    const path = join(folder, "private");
    mkdirSync(path);
    chmodSync(path, mode);
    expect(() => makeOwnFolder(path)).not.toThrow();
  });

  test("is no link to a folder, no file, and not below a file", () => {
    symlinkSync(folder, join(folder, "link"));
    writeFileSync(join(folder, "file"), "");
    expect(() => makeOwnFolder(join(folder, "link"))).toThrow("link is not a folder; remove it");
    expect(() => makeOwnFolder(join(folder, "file"))).toThrow("file is not a folder; remove it");
    expect(() => makeOwnFolder(join(folder, "file/below"))).toThrow("cannot make the folder");
  });

  test.if(process.geteuid?.() === 0)("is not another user's", () => {
    const path = join(folder, "theirs");
    mkdirSync(path);
    chownSync(path, 65_534, 65_534);
    expect(() => makeOwnFolder(path)).toThrow("uid 65534, mode 755");
  });
});

describe("a file of ours", () => {
  const flags = constants.O_RDWR | constants.O_CREAT;

  test("is made with the mode asked for, and opened again", () => {
    const path = join(folder, "file");
    closeSync(openOwnFile(path, flags, 0o600));
    expect(statSync(path).mode & 0o7777).toBe(0o600);
    closeSync(openOwnFile(path, flags, 0o644));
    expect(statSync(path).mode & 0o7777).toBe(0o600);
  });

  test("is no symbolic link, no folder and no FIFO", () => {
    writeFileSync(join(folder, "target"), "");
    symlinkSync(join(folder, "target"), join(folder, "link"));
    Bun.spawnSync(["mkfifo", join(folder, "fifo")]);
    expect(() => openOwnFile(join(folder, "link"), flags, 0o600)).toThrow("cannot open");
    expect(() => openOwnFile(folder, constants.O_RDONLY, 0o600)).toThrow(
      "is not a regular file of this user",
    );
    expect(() => openOwnFile(join(folder, "fifo"), flags, 0o600)).toThrow(
      "is not a regular file of this user",
    );
  });

  test.if(process.geteuid?.() === 0)("is not another user's", () => {
    const path = join(folder, "theirs");
    writeFileSync(path, "");
    chownSync(path, 65_534, 65_534);
    expect(() => openOwnFile(path, flags, 0o600)).toThrow("is not a regular file of this user; remove it");
  });
});

describe("files that others remove", () => {
  function kept(restore: () => boolean) {
    const clock = new SimulatedClock();
    const lines: string[] = [];
    const log = { warning: (text: string) => lines.push(text), error: (text: string) => lines.push(text) };
    const files = new OwnFiles(clock, log);
    files.keep({ what: "the control socket x", restore });
    return { clock, files, lines };
  }

  test("are looked at every 5 s until the end, and each restoration is told", () => {
    let looks = 0;
    const { clock, files, lines } = kept(() => ++looks === 2);
    clock.advance(4_999);
    expect(looks).toBe(0);
    clock.advance(1);
    expect([looks, lines]).toEqual([1, []]);
    clock.advance(5_000);
    expect(lines).toEqual(["the control socket x was removed by another program; restored it"]);
    files.stop();
    clock.advance(60_000);
    expect(looks).toBe(2);
  });

  test("that cannot be restored are a problem until they can, told once and again once it has changed", () => {
    let why: string | undefined = "cannot write x: no space left; free some";
    const { files, lines } = kept(() => {
      if (why !== undefined) throw new Error(why);
      return true;
    });
    files.look();
    files.look();
    expect(lines).toEqual(["cannot write x: no space left; free some"]);
    expect(files.problems()).toEqual([
      { Check: "files", Found: "cannot write x: no space left", Advice: "free some" },
    ]);
    why = "a folder is in its place";
    files.look();
    expect(files.problems()).toEqual([{ Check: "files", Found: why, Advice: "remove what is in its place" }]);
    why = undefined;
    files.look();
    expect(files.problems()).toEqual([]);
    expect(lines.length).toBe(3);
    why = "cannot write x: no space left; free some";
    files.look();
    expect(lines.length).toBe(4);
  });

  test("one that cannot be restored does not keep others from it", () => {
    const { files, lines } = kept(() => {
      throw new Error("no");
    });
    files.keep({ what: "the state file y", restore: () => true });
    files.look();
    expect(lines).toEqual(["no", "the state file y was removed by another program; restored it"]);
  });

  test("one of a router that is ending stays removed", () => {
    const clock = new SimulatedClock();
    let wanted = true;
    let restored = 0;
    const files = new OwnFiles(clock, silentLog, () => wanted);
    files.keep({ what: "the control socket", restore: () => ++restored > 0 });
    clock.advance(60_000);
    const before = restored;
    wanted = false;
    clock.advance(60_000);
    files.look();
    expect([before > 0, restored]).toEqual([true, before]);
    files.stop();
  });
});
