// The life of a daemon from launch to reset, from source, in a network namespace of the test: what commands wait for, print and
// leave behind.
import { afterAll, afterEach, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expose } from "../../cmd/commands/expose.ts";
import { launch } from "../../cmd/commands/launch.ts";
import { reset } from "../../cmd/commands/reset.ts";
import { status } from "../../cmd/commands/status.ts";
import { stop } from "../../cmd/commands/stop.ts";
import { version } from "../../cmd/commands/version.ts";
import * as service from "../../cmd/service.ts";
import { linkByName } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { AlreadyRunningError, runningPid } from "../../lib/router/instance.ts";
import * as executables from "../../lib/sys/executable.ts";
import { runCommand } from "../support/fakerouter.ts";
import { eventually } from "../support/hosts.ts";
import { enterNewNetns, ip, isRoot, nft } from "../support/newnetns.ts";
import { useFolder } from "../support/ownfolders.ts";

const ROOT = join(import.meta.dir, "../..");
const NAME = "02:00:00:00:00:07";

let folder: string;
let leave: () => void;
let spies: { mockRestore(): void }[];
let setBack: () => void;

const launchWith = (...argv: string[]) =>
  runCommand(launch, [
    ...[`--name=${NAME}`, "--nickname=seven", "--http-addr=", "--status-addr=", "--docker-api=", "--no-dns"],
    ...[`--ipalloc-init=seed=${NAME}`, ...argv],
  ]);
const log = () => readFileSync(join(folder, "weave.log"), "utf8");

/** The router's pid; never 0, which stands for all processes of the group. */
function running(): number {
  const pid = runningPid();
  if (pid === undefined) throw new Error("no router runs");
  return pid;
}

describe.if(isRoot)("a daemon", () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "weave-lifecycle-"));
    setBack = useFolder(folder);
    const program = join(folder, "program");
    writeFileSync(program, `#!/bin/sh\nexec ${process.execPath} ${ROOT}/cmd/weave-router.ts "$@"\n`, {
      mode: 0o755,
    });
    spies = [
      spyOn(process, "getuid").mockImplementation(() => 0),
      spyOn(executables, "executable").mockImplementation(() => program),
      spyOn(service, "stepsToRemove").mockImplementation(() => []),
    ];
    leave = enterNewNetns();
  });
  afterEach(() => {
    process.exitCode = 0;
  });
  afterAll(async () => {
    const pid = runningPid();
    if (pid !== undefined) process.kill(pid, "SIGKILL");
    leave();
    for (const spy of spies) spy.mockRestore();
    setBack();
    rmSync(folder, { recursive: true });
  });

  test("that cannot start is an error with its reason, and leaves nothing", async () => {
    const taken = createServer().listen(6_783, "0.0.0.0");
    try {
      const { error, out } = await launchWith();
      expect([out, error?.message]).toEqual([
        "",
        expect.stringContaining("cannot listen for peers on :6783: "),
      ]);
      expect([runningPid(), existsSync(join(folder, "weave.sock"))]).toEqual([undefined, false]);
      using nl = new NetlinkSocket(NETLINK_ROUTE);
      expect(["weave", "vxlan-6784"].map((name) => linkByName(nl, name))).toEqual([undefined, undefined]);
      expect(nft("list", "tables")).toBe("");
    } finally {
      taken.close();
    }
  });

  test("runs in the background once launch has printed its name and the state of its peers", async () => {
    const { out, err, error } = await launchWith("10.99.0.9");
    expect([error, err]).toEqual([undefined, expect.any(String)]);
    expect(out).toContain(`${NAME}(seven)`);
    expect(out).toContain("10.99.0.9");
    const pid = runningPid();
    expect(pid).toBeGreaterThan(0);
    expect(readFileSync(join(folder, "weave.pid"), "utf8")).toBe(`${pid}\n`);
    expect(statSync(join(folder, "weave.log")).mode & 0o777).toBe(0o640);
    expect(log()).toContain("weave is ready");
    expect((await runCommand(status, [])).out).toContain(`Name: ${NAME}(seven)`);
    expect((await runCommand(version, ["--json"])).out).toContain('"router": "3.0.0"');
  });

  test("is one: a second launch names the first", async () => {
    const { error } = await launchWith();
    expect(error).toBeInstanceOf(AlreadyRunningError);
    expect(error?.message).toBe(
      `weave is already running (pid ${runningPid()}): 'weave connect' adds peers, 'weave stop' ends it`,
    );
  });

  test("is not stopped by way of another folder, which is an error that names it", async () => {
    const before = process.env["WEAVE_RUN_DIR"];
    process.env["WEAVE_RUN_DIR"] = join(folder, "other");
    const { out, err, error } = await runCommand(stop, []);
    process.env["WEAVE_RUN_DIR"] = before;
    expect([out, err]).toEqual(["", ""]);
    expect(error?.message).toStartWith(`no router runs in WEAVE_RUN_DIR ${join(folder, "other")}: `);
    expect(error?.message).toContain(`: process ${runningPid()} has it open; `);
  });

  test("stops once, after which nothing answers and links stay", async () => {
    expect((await runCommand(expose, ["10.32.0.1/12"])).error).toBeUndefined();
    expect((await runCommand(stop, [])).out).toBe("stopped the router; the fast datapath keeps forwarding\n");
    expect(log()).toContain("exiting on SIGTERM; containers stay attached");
    expect([runningPid(), existsSync(join(folder, "weave.sock"))]).toEqual([undefined, false]);
    const again = await runCommand(stop, ["--json"]);
    expect([JSON.parse(again.out), again.error]).toEqual([{ stopped: false }, undefined]);
    expect((await runCommand(stop, [])).err).toBe("weave is not running\n");
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    expect(linkByName(nl, "weave")).toBeDefined();
    expect((await runCommand(version, [])).out).toBe("weave 3.0.0\n");
  });

  test("that is killed is launched again with what it had", async () => {
    expect((await launchWith("--json")).error).toBeUndefined();
    process.kill(running(), "SIGKILL");
    await eventually("it has ended", runningPid, (now) => now === undefined);
    expect(existsSync(join(folder, "weave.sock"))).toBe(true);
    const { out } = await launchWith("--json");
    expect(JSON.parse(out)).toMatchObject({ name: NAME, nickname: "seven" });
    expect(ip("-br", "addr", "show", "weave")).toContain("10.32.0.1/12");
  });

  test("that is stopped by a signal ends with stop, too", async () => {
    process.kill(running(), "SIGSTOP");
    expect((await runCommand(stop, [])).error).toBeUndefined();
    expect(runningPid()).toBeUndefined();
  });

  test("leaves nothing after a reset", async () => {
    const files = readdirSync(folder).sort();
    expect(files).toContain("weave.db");
    const dir = ["--cni-bin-dir", join(folder, "none"), "--cni-conf-dir", join(folder, "none")];
    const listed = await runCommand(reset, ["--dry-run", ...dir]);
    expect(listed.out).toContain("remove bridge weave");
    const { out, error } = await runCommand(reset, ["--yes", ...dir]);
    expect(error).toBeUndefined();
    expect(out).toContain("left its addresses with the network");
    expect(readdirSync(folder)).toEqual(["program"]);
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    for (const name of ["weave", "vxlan-6784", "sleeve-6783"]) expect(linkByName(nl, name)).toBeUndefined();
    expect(nft("list", "tables")).toBe("");
    expect((await runCommand(reset, dir)).out).toBe("nothing of weave is on this host\n");
  });
});
