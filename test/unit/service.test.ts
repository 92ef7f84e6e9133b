// The service of systemd: what it is told, its unit and its settings.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { takeSteps } from "../../cmd/steps.ts";
import { ForeignUnitError, installService, serviceSteps } from "../../lib/deploy/service.ts";
import { environmentFile, unitFile } from "../../lib/deploy/systemd.ts";
import { createLog, isJournal } from "../../lib/log/log.ts";
import { EXIT_CODES } from "../../lib/sys/failure.ts";
import { ServiceManager } from "../../lib/sys/servicemanager.ts";
import { NotifySocket } from "../support/notifysocket.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-service-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("what systemd is told", () => {
  test.each([
    ["a path", () => join(folder, "notify")],
    ["an abstract address", () => `@weave-test-${process.pid}`],
  ])("arrives at %s", (_what, path) => {
    using socket = new NotifySocket(path());
    const manager = ServiceManager.of({ NOTIFY_SOCKET: socket.path });
    manager?.status("waits\nREADY=0");
    manager?.ready();
    manager?.alive();
    manager?.stopping();
    expect(socket.lines).toEqual(["STATUS=waits READY=0", "READY=1", "WATCHDOG=1", "STOPPING=1"]);
  });

  test.each([
    {},
    { NOTIFY_SOCKET: "" },
    { NOTIFY_SOCKET: "relative" },
    { NOTIFY_SOCKET: `/${"x".repeat(108)}` },
  ])("is nothing where nobody listens: %p", (env) => expect(ServiceManager.of(env)).toBeUndefined());

  test("may be lost, if its socket is gone", () => {
    expect(() => ServiceManager.of({ NOTIFY_SOCKET: join(folder, "gone") })?.ready()).not.toThrow();
  });

  test.each([
    [{ WATCHDOG_USEC: "30000000", WATCHDOG_PID: String(process.pid) }, 15_000],
    [{ WATCHDOG_USEC: "30000000" }, 15_000],
    [{ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "1" }, undefined],
    [{ WATCHDOG_USEC: "soon" }, undefined],
    [{}, undefined],
  ])("comes at half of the watchdog's time: %p", (env, ms) => {
    expect(ServiceManager.of({ NOTIFY_SOCKET: "/run/notify", ...env })?.aliveMs).toBe(ms);
  });
});

describe("the log", () => {
  test("has priorities instead of dates if, and only if, standard error is the journal", () => {
    const { dev, ino } = statSync(folder, { bigint: true });
    const child = (stream: string, format = "text") => {
      const script = `require("./lib/log/log.ts").createLog("info", "${format}").warning("text", { peer: "a" })`;
      const file = join(folder, "log");
      writeFileSync(file, "");
      const at = statSync(file, { bigint: true });
      const env = { ...process.env, JOURNAL_STREAM: stream || `${at.dev}:${at.ino}` };
      const cwd = join(import.meta.dir, "../..");
      Bun.spawnSync([process.execPath, "-e", script], { cwd, env, stderr: Bun.file(file) });
      return readFileSync(file, "utf8");
    };
    expect(child("")).toBe("<4>text peer=a\n");
    expect(child("", "json")).toBe('<4>{"level":"warning","msg":"text","peer":"a"}\n');
    expect(child(`${dev}:${ino}`)).toMatch(/^WARN: \d{4}\/.* text peer=a\n$/);
    expect(isJournal("nonsense")).toBe(false);
    const lines: string[] = [];
    createLog("info", "text", (line) => lines.push(line)).error("text");
    expect(lines[0]).toStartWith("ERRO: ");
  });
});

describe("the unit", () => {
  const settings = [{ variable: "WEAVE_MTU", description: "MTU of the network" }];
  const files = () => ({ units: join(folder, "units"), environment: join(folder, "default/weave") });
  const unit = () => join(files().units, "weave.service");
  /** Removes it; returns what was done. */
  const removed = async () => (await takeSteps(serviceSteps(files(), settings))).did;

  test.skipIf(Bun.which("systemd-analyze") === null)("is one that systemd understands", () => {
    // A path with all that has a meaning in units.
    const executable = join(folder, "a b%i$x");
    writeFileSync(executable, "");
    chmodSync(executable, 0o755);
    for (const path of [executable, "/bin/true"]) {
      writeFileSync(
        join(folder, "weave.service"),
        unitFile({ executable: path, environmentFile: join(folder, "env file") }),
      );
      const verify = [
        "systemd-analyze",
        "verify",
        "--man=no",
        "--recursive-errors=no",
        join(folder, "weave.service"),
      ];
      const { exitCode, stderr } = Bun.spawnSync(verify, {
        stderr: "pipe",
        env: { ...process.env, SYSTEMD_LOG_LEVEL: "notice" },
      });
      const about = stderr
        .toString()
        .split("\n")
        .filter((line) => line.includes("weave.service"));
      expect([exitCode, about]).toEqual([0, []]);
    }
  });

  test.skipIf(Bun.which("systemd-analyze") === null)("has a sandbox that systemd rates below 4", () => {
    const file = join(folder, "weave.service");
    writeFileSync(file, unitFile({ executable: "/bin/true", environmentFile: join(folder, "env") }));
    const { stdout } = Bun.spawnSync(["systemd-analyze", "security", "--offline=true", "--no-pager", file]);
    const [, exposure] = /Overall exposure level for weave.service: ([\d.]+)/.exec(stdout.toString()) ?? [];
    expect(Number(exposure)).toBeLessThan(4);
  });

  test("starts again after every failure but that of a command line that makes no sense", () => {
    const text = unitFile({ executable: "/bin/true", environmentFile: "/etc/env" });
    const final = /^RestartPreventExitStatus=(.*)$/m.exec(text)?.[1]?.split(" ").map(Number);
    const kinds = Object.entries(EXIT_CODES).flatMap(([kind, code]) => (final?.includes(code) ? [kind] : []));
    expect([kinds, /^Restart=(.*)$/m.exec(text)?.[1]]).toEqual([["usage"], "on-failure"]);
  });

  test("is installed, enabled, and installed again with a new path; settings stay as people left them", async () => {
    installService(files(), "/usr/local/bin/weave", settings, false);
    expect(readFileSync(unit(), "utf8")).toContain(
      "ExecStart=@/usr/local/bin/weave weave-router $EXTRA_ARGS $PEERS\n",
    );
    expect(readFileSync(join(files().units, "multi-user.target.wants/weave.service"), "utf8")).toBe(
      readFileSync(unit(), "utf8"),
    );
    expect(statSync(files().environment).mode & 0o777).toBe(0o600);
    expect(readFileSync(files().environment, "utf8")).toBe(environmentFile(settings));
    writeFileSync(files().environment, "PEERS=host2\n");
    // A router that was launched by hand holds the ports.
    expect(installService(files(), "/opt/weave", settings, true)[0]).toEndWith(
      "it starts at boot, and now with 'weave stop && systemctl start weave'",
    );
    expect(readFileSync(unit(), "utf8")).toContain("ExecStart=@/opt/weave weave-router");
    expect(readFileSync(files().environment, "utf8")).toBe("PEERS=host2\n");
    expect(await removed()).toContain(`kept ${files().environment}, which was changed`);
    expect([existsSync(unit()), existsSync(files().environment)]).toEqual([false, true]);
    expect(await removed()).toEqual([]);
  });

  test("leaves nothing behind when it is removed", async () => {
    installService(files(), "/usr/local/bin/weave", settings, false);
    await removed();
    for (const path of ["weave.service", "multi-user.target.wants/weave.service"])
      expect(existsSync(join(files().units, path))).toBe(false);
    expect(existsSync(files().environment)).toBe(false);
  });

  test("of somebody else is neither replaced nor removed", async () => {
    installService(files(), "/usr/local/bin/weave", settings, false);
    writeFileSync(unit(), "[Service]\nExecStart=/usr/local/bin/weave launch\n");
    expect(() => installService(files(), "/usr/local/bin/weave", settings, false)).toThrow(ForeignUnitError);
    expect(await removed()).toEqual([]);
    expect(readFileSync(unit(), "utf8")).toContain("launch");
  });
});
