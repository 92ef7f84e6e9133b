// Files of a router that others remove, and obstacles in their place.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, eventually, type Host, Hosts, must } from "../support/hosts.ts";

const WEAVE = join(DIST, "weave");

let hosts: Hosts;
let host: Host;

beforeAll(async () => {
  hosts = await Hosts.create("own", 1);
  host = hosts.host(1);
});

afterAll(() => hosts.disposeSync());

afterEach(async () => {
  await host.exec([WEAVE, "stop"]);
  for (const folder of [run(), state()]) rmSync(folder, { recursive: true, force: true });
});

const run = (file = "") => join(host.folder, "run", file);
const state = (file = "") => join(host.folder, "lib", file);
const launch = () => host.weave("launch", "--ipalloc-init=consensus=1");

test("a router whose folders are removed writes its files again, and loses no state", async () => {
  await launch();
  const [exposed, { pid }] = [await host.weave("expose"), host];
  for (const folder of [run(), state()]) rmSync(folder, { recursive: true });
  await eventually(
    "the files are there again",
    () => ["weave.sock", "weave.pid", "weave.log"].every((file) => existsSync(run(file))),
    Boolean,
  );
  expect(host.pid).toBe(pid);
  await eventually(
    "all is well",
    () => host.status(),
    (text) => text.includes("all is well"),
  );
  for (const what of ["log", "state file", "pid file", "control socket"])
    await host.logged(new RegExp(`WARN: .* the ${what} /\\S+ was removed by another program; restored it`));
  await host.weave("dns-add", "192.0.2.1", "-h", "printer.weave.local");
  await host.weave("stop");
  await launch();
  expect(await host.weave("expose")).toBe(exposed);
  expect(await host.weave("dns-lookup", "printer")).toBe("192.0.2.1\n");
}, 300_000);

test("a router without its pid file is found: it is not launched twice, and it is stopped", async () => {
  await launch();
  const { pid } = host;
  rmSync(run(), { recursive: true });
  const again = await host.exec([WEAVE, "launch"]);
  expect([again.code, again.stderr]).toEqual([1, expect.stringContaining(`already running (pid ${pid})`)]);
  rmSync(run(), { recursive: true, force: true });
  expect(await host.weave("stop")).toContain("stopped the router");
  expect(existsSync(`/proc/${pid}/exe`)).toBe(false);
}, 300_000);

test("another file in the place of the state file is a problem, and stays as it is", async () => {
  await launch();
  rmSync(state("weave.db"));
  mkdirSync(state("weave.db"));
  const status = await eventually(
    "the status says so",
    () => host.status(),
    (text) => text.includes("1 problem"),
  );
  expect(status).toContain(`the state file ${state("weave.db")} was replaced while the router runs`);
  rmSync(state("weave.db"), { recursive: true });
  await eventually(
    "it is restored",
    () => host.status(),
    (text) => text.includes("all is well"),
  );
}, 300_000);

test.each<[string, () => unknown, string]>([
  [
    "a folder",
    () => void mkdirSync(state("weave.db"), { recursive: true }),
    "weave.db is a folder; move it away",
  ],
  [
    "a FIFO",
    async () => {
      mkdirSync(state());
      await must(["mkfifo", state("weave.db")]);
    },
    "weave.db is not a regular file; move it away",
  ],
  [
    "a folder as its log",
    () => void mkdirSync(state("weave.db-wal"), { recursive: true }),
    "weave.db-wal is a folder; move it away",
  ],
  [
    "a file as its folder",
    () => writeFileSync(join(host.folder, "lib"), ""),
    "lib is not a folder; move it away",
  ],
])("%s in the place of the state file is named, with what to do", async (_what, place, text) => {
  await place();
  const { code, stderr } = await host.exec([WEAVE, "launch"]);
  expect([code, stderr.trimEnd()]).toEqual([3, expect.stringContaining(text)]);
  expect(stderr.trimEnd().split("\n")).toHaveLength(1);
});

test("a limit on open files that is too low is said in one line, and nothing is left", async () => {
  const { code, stderr } = await host.exec(["sh", "-c", `ulimit -n 40; exec ${WEAVE} launch`]);
  expect([code, stderr]).toEqual([
    1,
    "weave launch: the limit on open files is 40, and the router needs 128 at least; raise it with 'ulimit -Hn 65536', or LimitNOFILE= of its service\n",
  ]);
  expect(existsSync(run()) ? readdirSync(run()) : []).toEqual([]);
});
