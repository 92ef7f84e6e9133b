// Commands that change a host, with the host's parts in the test's hands: what is printed, asked, done and in which order.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as cnifolders from "../../cmd/cnifolders.ts";
import { doctor } from "../../cmd/commands/doctor.ts";
import { launch } from "../../cmd/commands/launch.ts";
import { migrate } from "../../cmd/commands/migrate.ts";
import * as launching from "../../cmd/launching.ts";
import * as agents from "../../cmd/mesos.ts";
import * as steps from "../../cmd/steps.ts";
import * as applying from "../../lib/doctor/apply.ts";
import * as diagnosis from "../../lib/doctor/doctor.ts";
import { type Finding, ok, problem, warning } from "../../lib/doctor/finding.ts";
import * as migration from "../../lib/migration/migration.ts";
import * as originals from "../../lib/migration/process.ts";
import * as instance from "../../lib/router/instance.ts";
import * as localhttp from "../../lib/sys/localhttp.ts";
import { ask } from "../support/fakerouter.ts";

let spies: { mockRestore(): void }[];
let code: typeof process.exitCode;
beforeEach(() => {
  code = process.exitCode;
  process.exitCode = 0;
  spies = [spyOn(process, "getuid").mockImplementation(() => 0)];
});
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
  process.exitCode = code ?? 0;
});

describe("doctor", () => {
  const FIX = { action: "load-module", module: "vxlan" } as const;
  const WELL = ok("mtu", "fits");
  const ILL = problem("kernel", "no VXLAN", "load it", [FIX]);
  const POOR = warning("clock", "not synchronised", "install chrony");

  /** Runs it on a host with these findings, look by look; `answered`: what a person says; `errors` of the repairs. */
  async function doctored(
    argv: readonly string[],
    looks: readonly (readonly Finding[])[],
    answered: boolean | undefined = undefined,
    error?: string,
  ) {
    const left = [...looks];
    const applied: string[] = [];
    spies.push(
      spyOn(diagnosis, "diagnose").mockImplementation(async () => [
        ...(left.shift() ?? expect.unreachable()),
      ]),
      spyOn(steps, "confirmed").mockImplementation(async () => answered),
      spyOn(applying, "applyFixes").mockImplementation((planned) => {
        applied.push(...planned.map(({ does }) => does));
        return planned.map((each) => (error === undefined ? each : { ...each, error }));
      }),
    );
    const { out, error: failure } = await ask(doctor, argv, {});
    expect([failure, left]).toEqual([undefined, []]);
    return { out, applied, code: process.exitCode };
  }

  test("prints what it finds, and how many repairs it could make; a warning is no failure", async () => {
    const ill = await doctored([], [[WELL, ILL]]);
    expect(ill.out.split("\n").slice(-3)).toEqual([
      "",
      "'weave doctor --fix' can make 1 of these repairs; it lists them first",
      "",
    ]);
    expect([ill.code, ill.applied]).toEqual([1, []]);
    process.exitCode = 0;
    const poor = await doctored([], [[WELL, POOR]]);
    expect([poor.out.includes("--fix"), poor.out.includes("clock"), poor.code]).toEqual([false, true, 0]);
  });

  test("--fix lists what is wrong and to be done, asks, does it, and tells what is left", async () => {
    const { out, applied, code } = await doctored(
      ["--fix"],
      [
        [WELL, ILL, POOR],
        [WELL, POOR],
      ],
      true,
    );
    expect([applied, code]).toEqual([["modprobe vxlan"], 0]);
    expect(out).not.toContain("fits");
    expect(out.split("\n").filter((line) => !line.includes("->"))).toEqual([
      ...["problem  kernel  no VXLAN", "warning  clock   not synchronised"],
      ...["", "to be done:", "  kernel: modprobe vxlan"],
      ...["", "done: modprobe vxlan", "", "left:", "warning  clock  not synchronised", ""],
    ]);
  });

  test.each([[false], [undefined]])("--fix changes nothing where the answer is %p", async (answer) => {
    const { out, applied, code } = await doctored(["--fix"], [[ILL]], answer);
    expect([applied, code]).toEqual([[], 1]);
    expect(out).toEndWith("nothing changed: confirm on a terminal, or use --yes\n");
  });

  test("--fix --yes does not ask; a repair that fails is told, and a failure", async () => {
    const { out, applied, code } = await doctored(["--fix", "--yes"], [[ILL], [WELL]], false, "refused");
    expect([applied, code]).toEqual([["modprobe vxlan"], 1]);
    expect(out).toContain("failed: modprobe vxlan: refused\n");
  });

  test("--fix says where there is nothing to repair, or nothing wrong", async () => {
    expect((await doctored(["--fix"], [[WELL, POOR]], true)).out).toEndWith(
      "nothing that --fix can repair\n",
    );
    expect((await doctored(["--fix"], [[WELL]], true)).out).toBe("nothing is wrong\n");
  });

  test("as JSON: the findings; with --fix the plan, what was done and what is left, and nobody is asked", async () => {
    expect(JSON.parse((await doctored(["--json"], [[WELL, ILL]])).out)).toEqual([WELL, ILL]);
    process.exitCode = 0;
    const planned = { check: "kernel", found: "no VXLAN", fix: FIX, does: "modprobe vxlan" };
    const refused = await doctored(["--json", "--fix"], [[ILL]], true);
    expect([JSON.parse(refused.out), refused.applied, refused.code]).toEqual([
      { findings: [ILL], planned: [planned], done: [], left: [ILL] },
      [],
      1,
    ]);
    process.exitCode = 0;
    const done = await doctored(["--json", "--fix", "--yes"], [[ILL], [WELL]]);
    expect([JSON.parse(done.out), done.code]).toEqual([
      { findings: [ILL], planned: [planned], done: [planned], left: [WELL] },
      0,
    ]);
  });
});

describe("migrate", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "weave-migrate-"));
    mkdirSync(join(folder, "bin"));
    mkdirSync(join(folder, "conf"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const KERNEL = { links: ["datapath"], rules: [], sets: [] };
  const THEIRS = {
    pid: 77,
    args: ["--port", "7000", "--nickname=old", "10.0.0.2", "--no-dns"],
    password: "s3cret",
    stateFile: undefined,
  };

  /** A host where the original runs and has these neighbours; `done` notes what happens. */
  async function migrated(argv: readonly string[], { present = true, running = false } = {}) {
    const theirs = present ? THEIRS : undefined;
    const done: string[] = [];
    const original = { kernel: KERNEL, file: undefined, state: undefined, error: undefined };
    const left = [original, original, undefined];
    const started: ReturnType<typeof launching.daemonArguments>[] = [];
    spies.push(
      spyOn(originals, "findOriginalProcess").mockImplementation(() => theirs),
      spyOn(originals, "stopOriginal").mockImplementation(async () => void done.push("stop")),
      spyOn(migration, "findOriginal").mockImplementation(() => (theirs ? left.shift() : undefined)),
      spyOn(instance, "runningPid").mockImplementation(() => (running ? 5 : undefined)),
      spyOn(cnifolders, "installCni").mockImplementation(() => {
        done.push("install");
        return [];
      }),
      spyOn(launching, "startDaemon").mockImplementation(async (daemon) => {
        done.push("start");
        started.push(daemon);
        return {
          peers: [],
          warnings: ["slow"],
          name: "n",
          nickname: "x",
          range: null,
          overlay: "o",
        } as never;
      }),
      spyOn(localhttp, "askLocally").mockImplementation(async () => ({
        status: 200,
        body: JSON.stringify({
          Router: {
            Connections: [
              { Address: "10.0.0.2:7000", Outbound: true },
              { Address: "10.0.0.3:40123", Outbound: false },
            ],
          },
        }),
      })),
      spyOn(Bun, "sleep").mockImplementation(async () => {}),
    );
    const dirs = [`--cni-bin-dir=${join(folder, "bin")}`, `--cni-conf-dir=${join(folder, "conf")}`];
    const { asked, out, err, error } = await ask(migrate, [...argv, ...dirs], {
      "POST /connect": "",
      "POST /forget": "{}",
    });
    return { asked, out, err, error, done, started, left };
  }
  const plugins = () => {
    for (const name of ["weave-ipam", "weave-plugin-2.8.1", "weave-net", "portmap"])
      writeFileSync(join(folder, "bin", name), "");
  };

  test("--dry-run lists the steps, and takes none", async () => {
    plugins();
    const { out, done, error } = await migrated(["--dry-run"]);
    expect([error, done]).toEqual([undefined, []]);
    expect(
      out
        .replace(/ --docker-api=\S+/, "")
        .split("\n")
        .slice(0, 2),
    ).toEqual([
      "stop the original's router (pid 77)",
      "launch weave --port=7000 --nickname=old --dns=false 10.0.0.2",
    ]);
    expect(out).toContain(`put our CNI plugin in ${folder}/bin and remove weave-ipam, weave-plugin-2.8.1\n`);
    expect(readdirSync(join(folder, "bin")).length).toBe(4);
  });

  test("stops theirs, then starts ours, and lets it reach the neighbours until it has its own", async () => {
    const { asked, out, err, done, started, error } = await migrated([]);
    expect([error, done]).toEqual([undefined, ["stop", "start"]]);
    expect(started[0]?.env["WEAVE_PASSWORD"]).toBe("s3cret");
    expect(asked).toEqual([
      "POST /connect peer=10.0.0.2:7000&peer=10.0.0.3:7000",
      "POST /forget peer=10.0.0.2:7000&peer=10.0.0.3:7000",
    ]);
    expect(err).toContain("warning: slow\n");
    expect(out).toEndWith("migrated: nothing of the original is left on this host\n");
  });

  test("options and peers of the command line go before theirs, and a named neighbour is not forgotten", async () => {
    const { asked, started } = await migrated(["--port=7000", "--nickname=new", "10.0.0.2:7000"]);
    expect(started[0]?.args.filter((arg) => !arg.startsWith("--docker-api"))).toEqual([
      "--port=7000",
      "--nickname=new",
      "--dns=false",
      "10.0.0.2",
      "10.0.0.2:7000",
    ]);
    expect(asked).toEqual([
      "POST /connect peer=10.0.0.2:7000&peer=10.0.0.3:7000",
      "POST /forget peer=10.0.0.3:7000",
    ]);
  });

  test("removes their plugins and no others, after ours is installed", async () => {
    plugins();
    const { done } = await migrated([]);
    expect(done).toEqual(["stop", "start", "install"]);
    expect(readdirSync(join(folder, "bin")).sort()).toEqual(["portmap", "weave-net"]);
  });

  test("does not start ours where it runs, and says nothing twice as JSON", async () => {
    const { out, done, asked } = await migrated(["--json"], { running: true });
    expect([done, asked]).toEqual([["stop"], ["POST /forget peer=10.0.0.2:7000&peer=10.0.0.3:7000"]]);
    const answer = JSON.parse(out);
    expect([answer.done, answer.steps.some((step: string) => step.startsWith("launch"))]).toEqual([
      true,
      false,
    ]);
    expect(answer).not.toHaveProperty("warnings");
  });

  test("has nothing to do on a host without the original", async () => {
    const { out, done } = await migrated([], { present: false });
    expect([out, done]).toEqual(["nothing of the original found on this host\n", []]);
  });

  test("a wrong command line is refused on any host", async () => {
    const { error, done } = await migrated(["--port=0"]);
    expect([error?.message.includes("port"), done]).toEqual([true, []]);
  });
});

describe("launch", () => {
  test.each<[string[], string]>([
    [["--foreground", "--wait=5"], "--wait and --json are for a launch in the background"],
    [["--foreground", "--json"], "--wait and --json are for a launch in the background"],
    [["--wait=x"], '--wait "x": should be seconds, 1 … 99999'],
  ])("%p is refused", async (argv, message) => {
    const start = spyOn(launching, "startDaemon").mockImplementation(() => expect.unreachable());
    spies.push(start);
    expect((await ask(launch, argv, {})).error?.message).toBe(message);
    expect(start).not.toHaveBeenCalled();
  });

  test("on an agent of Mesos starts with what the agent's environment says, and connects to the agents beside it", async () => {
    const started: string[][] = [];
    spies.push(
      spyOn(agents, "prepareAgent").mockImplementation(async (given, peers) => ({
        options: { ...given, "ipalloc-range": "10.50.0.0/16" },
        peers: [...peers, "agent2", "agent4"],
      })),
      spyOn(launching, "startDaemon").mockImplementation(async ({ args }) => {
        started.push(args.filter((arg) => /^--ipalloc-range|^[^-]/.test(arg)));
        return {} as never;
      }),
      spyOn(launching, "answerLaunched").mockImplementation(() => {}),
    );
    await ask(launch, ["--mesos", "host9"], {});
    expect(started).toEqual([["--ipalloc-range=10.50.0.0/16", "host9", "agent2", "agent4"]]);
  });

  test("waits for the ring only where that is asked for, once the answer is printed", async () => {
    const order: string[] = [];
    spies.push(
      spyOn(launching, "startDaemon").mockImplementation(async ({ args }) => {
        order.push(`start ${args.filter((arg) => /^--dns|^host/.test(arg)).join(" ")}`);
        return { peers: [], warnings: [], name: "n", nickname: "x", range: null, overlay: "o" } as never;
      }),
      spyOn(launching, "answerLaunched").mockImplementation(() => void order.push("answer")),
      spyOn(launching, "awaitQuorum").mockImplementation(
        async (_args, seconds) => void order.push(`wait ${seconds}`),
      ),
    );
    await ask(launch, ["--no-dns", "host2"], {});
    await ask(launch, ["--wait=30"], {});
    expect(order).toEqual(["start --dns=false host2", "answer", "start --dns=true", "answer", "wait 30"]);
  });
});
