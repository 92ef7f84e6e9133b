// The router's entry program in front of Debian's programs: the environment, arguments and capabilities that they get.
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { privilegesIn } from "../../lib/sys/confine.ts";
import { capabilityBits, namesOf } from "../../lib/sys/privileges.ts";
import { ENGINE_OPTIONS } from "../../lib/sys/runtime.ts";
import { withEntry } from "../tools/entry/elf.ts";
import { entryProgram, type When } from "../tools/entry/program.ts";
import { x64 } from "../tools/entry/x64.ts";

const folder = mkdtempSync(join(tmpdir(), "weave-router-entry-"));
afterAll(() => rmSync(folder, { recursive: true }));

const OPTIONS = Object.entries(ENGINE_OPTIONS).map(([name, value]) => `${name}=${value}`);

/** Return the path of a program with the entry program, and with another dynamic linker where one is given. */
function entered(program: string, router: When = "always", linker = LINKER): string {
  const path = join(folder, `${program}-${router.replace(" ", "-")}${linker === LINKER ? "" : "-other"}`);
  const elf = withEntry(linkedBy(linker, program), (layout) =>
    entryProgram(x64(), layout, { handsOver: "never", router }),
  );
  writeFileSync(path, elf, { mode: 0o755 });
  return path;
}

function linkedBy(linker: string, program: string): Buffer {
  const elf = readFileSync(`/usr/bin/${program}`);
  elf.write(linker.padEnd(LINKER.length, "\0"), elf.indexOf(`${LINKER}\0`));
  return elf;
}

/** Return what a program prints. */
function printed(command: string[], env: Record<string, string> = {}, argv0 = "weave-router"): string {
  const { stdout, exitCode, signalCode } = Bun.spawnSync(command, { env, argv0 });
  expect([exitCode, signalCode ?? null]).toEqual([0, null]);
  return stdout.toString();
}

const lines = (text: string) => text.split("\n").filter((line) => line !== "");

const LINKER = "/lib64/ld-linux-x86-64.so.2";

const here = test.skipIf(process.arch !== "x64");

here("the engine's options follow the variables of the environment", () => {
  expect(lines(printed([entered("env")], { A: "1", LONG: "ü".repeat(9_000) }))).toEqual([
    "A=1",
    `LONG=${"ü".repeat(9_000)}`,
    ...OPTIONS,
  ]);
  expect(lines(printed([entered("env")]))).toEqual(OPTIONS);
});

here("arguments are unchanged", () => {
  expect(printed([entered("echo"), "a", "", "b c"])).toBe("a  b c\n");
});

here.each(["BUN_GC_TIMER_INTERVAL", "MIMALLOC_PURGE_HOLES_MIN_INTERVAL"])(
  "a program that has %s in its environment does not execute itself",
  (name) => {
    expect(lines(printed([entered("env")], { [name]: "1", A: "2" }))).toEqual([`${name}=1`, "A=2"]);
  },
);

here("an environment that is too long is left unchanged", () => {
  const many = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`V${i}`, ""]));
  expect(lines(printed([entered("env")], many)).length).toBe(20_000);
});

here.each<[argv0: string, isRouter: boolean]>([
  ["weave-router", true],
  ["/usr/bin/weave-router", true],
  ["weave", false],
  ["my-weave-router", false],
  ["", false],
])("weave called as %j is the router: %p", (argv0, isRouter) => {
  const found = lines(printed([entered("env", "by name")], { A: "1" }, argv0));
  expect(found).toEqual(isRouter ? ["A=1", ...OPTIONS] : ["A=1"]);
});

here("the router has only a daemon's capabilities", () => {
  const status = printed([entered("cat"), "/proc/self/status"]);
  // In a container, this test may have a smaller bounding set.
  const { bounding } = privilegesIn(readFileSync("/proc/self/status", "utf8"));
  const allowed = bounding & capabilityBits(namesOf("weave-router"));
  expect(allowed).not.toBe(bounding);
  expect(privilegesIn(status)).toMatchObject({
    bounding: allowed,
    permitted: allowed,
    effective: allowed,
    inheritable: 0n,
    ambient: 0n,
  });
});

here("inheritable and ambient capabilities are dropped", () => {
  const cat = [entered("cat"), "/proc/self/status"];
  const inheriting = ["setpriv", "--inh-caps", "+chown", "--ambient-caps", "+chown", "env", "-i", ...cat];
  const status = Bun.spawnSync(inheriting).stdout.toString();
  expect(privilegesIn(status)).toMatchObject({ inheritable: 0n, ambient: 0n });
});

here("without CAP_SETPCAP, the options are set and the bounding set is unchanged", () => {
  const command = ["setpriv", "--bounding-set", "-setpcap", "env", "-i"];
  const status = Bun.spawnSync([...command, entered("cat"), "/proc/self/status"]).stdout.toString();
  const { bounding } = privilegesIn(readFileSync("/proc/self/status", "utf8"));
  expect(privilegesIn(status).bounding).toBe(bounding & ~(1n << 8n));
  expect(lines(Bun.spawnSync([...command, entered("env")]).stdout.toString())).toEqual(OPTIONS);
});

here("the dynamic linker is where the kernel would have told it, and finds the program's own entry", () => {
  const auxiliary = (program: string) => printed([program], { LD_SHOW_AUXV: "1" });
  const value = (text: string, name: string) =>
    Number(new RegExp(`^AT_${name}: +(\\S+)$`, "m").exec(text)?.[1]);
  const [plain, ours] = ["/usr/bin/true", entered("true", "never")].map(auxiliary) as [string, string];
  const entry = (text: string) => value(text, "ENTRY") - value(text, "PHDR");
  expect(entry(ours)).toBe(entry(plain));
  expect(value(ours, "BASE") % 4096).toBe(0);
  expect(value(ours, "BASE")).toBeGreaterThan(0);
});

here.each(["/nowhere", "/proc/version", "/etc"])(
  "with %s for a dynamic linker, a program says so",
  (linker) => {
    const { stderr, exitCode } = Bun.spawnSync([entered("true", "never", linker)], {
      env: {},
      argv0: "true",
    });
    expect(stderr.toString()).toStartWith("weave: cannot load the dynamic linker");
    expect(exitCode).toBe(126);
  },
);
