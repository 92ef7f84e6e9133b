// Kernel modules: the order of loading, and their names.
import { afterEach, beforeEach, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { release } from "node:os";
import { hasModule, isLoaded, loadBridgeNetfilter, loadModule } from "../../lib/host/modules.ts";
import { EEXIST, ENOENT } from "../../lib/sys/errno.ts";
import * as syscalls from "../../lib/sys/syscall.ts";

const FOLDER = `/lib/modules/${release()}`;
const NET = "kernel/net";
const LIST = `${NET}/llc/llc.ko:
${NET}/bridge/br_netfilter.ko.xz: ${NET}/bridge/bridge.ko.xz ${NET}/802/stp.ko.zst ${NET}/llc/llc.ko
${NET}/sched/act-police.ko.gz:
`;

let there: string[];
let calls: string[];
let results: number[];
const spies: { mockRestore(): void }[] = [];
beforeEach(() => {
  [there, calls, results] = [[`${FOLDER}/modules.dep`], [], []];
  spies.push(
    spyOn(fs, "existsSync").mockImplementation((path) => there.includes(String(path))),
    spyOn(fs, "readFileSync").mockImplementation(((path: string) =>
      path === `${FOLDER}/modules.dep` ? LIST : "") as never),
    spyOn(fs, "openSync").mockImplementation((path) => calls.push(`open ${path}`) && 7),
    spyOn(fs, "closeSync").mockImplementation((fd) => void calls.push(`close ${fd}`)),
    spyOn(syscalls, "trySyscall").mockImplementation((name, ...[fd, options, flags]) => {
      calls.push(`${name} ${fd} ${options} ${flags}`);
      return results.shift() ?? 0;
    }),
  );
});
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
});

const loading = (file: string, flags: number) => [
  `open ${FOLDER}/${NET}/${file}`,
  `finit_module 7 0 ${flags}`,
  "close 7",
];

test("a module is loaded after its dependencies, compressed or not, although some are loaded already", () => {
  results = [0, -EEXIST];
  loadModule("br_netfilter");
  expect(calls).toEqual([
    ...loading("llc/llc.ko", 0),
    ...loading("802/stp.ko.zst", 4),
    ...loading("bridge/bridge.ko.xz", 4),
    ...loading("bridge/br_netfilter.ko.xz", 4),
  ]);
});

test("a loaded module is not loaded again", () => {
  there.push("/sys/module/br_netfilter");
  loadModule("br_netfilter");
  expect(calls).toEqual([]);
});

test("an error of the kernel is reported, and no file stays open", () => {
  results = [0, -ENOENT];
  expect(() => loadModule("br_netfilter")).toThrow(`load ${FOLDER}/${NET}/802/stp.ko.zst: No such file`);
  expect(calls.at(-1)).toBe("close 7");
  // The caller reports that it is missing.
  results = [-ENOENT];
  loadBridgeNetfilter();
});

test("a module has one name, with - or _, compressed or not", () => {
  expect(["act-police", "act_police", "llc", "br-netfilter", "netfilter", "ko"].map(hasModule)).toEqual([
    ...[true, true, true, true],
    ...[false, false],
  ]);
  there.push("/sys/module/act_police");
  expect(["act-police", "act_police", "llc"].map(isLoaded)).toEqual([true, true, false]);
});

test("without modules.dep no module is found", () => {
  there = [];
  expect(hasModule("llc")).toBe(false);
  expect(() => loadModule("llc")).toThrow(
    `cannot load llc: it is not among the kernel's modules in ${FOLDER}`,
  );
});
