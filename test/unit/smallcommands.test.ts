// Commands that ask nobody: completion scripts, manual pages, manifests in folders and over HTTP; and where the status page is.
import { afterEach, beforeEach, describe, expect, mock, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { completion } from "../../cmd/commands/completion.ts";
import { helm, kubernetes, kustomize, marathon, serve } from "../../cmd/commands/manifest.ts";
import { manual } from "../../cmd/commands/manual.ts";
import { ui } from "../../cmd/commands/ui.ts";
import { loadCommands } from "../../cmd/commands.ts";
import { endpoint } from "../../cmd/endpoint.ts";
import * as shutdown from "../../cmd/shutdown.ts";
import * as chart from "../../lib/deploy/helm/chart.ts";
import { SCRIPTS, SHELLS } from "../../lib/help/completion.ts";
import { TOPICS } from "../../lib/help/topics.ts";
import { Scope } from "../../lib/sys/scope.ts";
import { ask, runCommand } from "../support/fakerouter.ts";

let folder: string;
const spies: { mockRestore(): void }[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-small-"));
});
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
  rmSync(folder, { recursive: true });
});

describe("completion", () => {
  test("prints the script of one shell", async () => {
    for (const shell of SHELLS)
      expect(await runCommand(completion, [shell])).toEqual({
        out: SCRIPTS[shell],
        err: "",
        error: undefined,
      });
  });

  test.each([[[]], [["csh"]], [["bash", "fish"]], [["toString"]]])(
    "asks which shell for %j",
    async (argv) => {
      const { out, error } = await runCommand(completion, argv);
      expect([out, error?.message]).toEqual(["", expect.stringMatching(/^which shell\? /)]);
      const named = argv[0] !== undefined;
      expect(error?.message.includes(", not ")).toBe(named);
    },
  );
});

describe("the manual", () => {
  test("is a page for each command and topic, in the folders of their sections", async () => {
    const command = manual(loadCommands);
    const { out } = await runCommand(command, ["--man", join(folder, "man"), "--json"]);
    const files = ["man7", "man8"].flatMap((section) => readdirSync(join(folder, "man", section)));
    expect(JSON.parse(out)).toEqual({ path: join(folder, "man"), files: files.length });
    expect(files).toContain("weave.8");
    for (const topic of Object.keys(TOPICS)) expect(files).toContain(`weave-${topic}.7`);
    for (const { name } of await loadCommands())
      expect([name, files.some((file) => file.startsWith(`weave-${name.replaceAll(" ", "-")}.8`))]).toEqual([
        name,
        true,
      ]);
    expect(readFileSync(join(folder, "man/man8/weave.8"), "utf8")).toStartWith(".");
    // Again is no error.
    expect((await runCommand(command, ["--man", join(folder, "man")])).out).toBe(
      `${files.length} manual pages in ${join(folder, "man")}\n`,
    );
    for (const argv of [[], ["--man", ""]])
      expect((await runCommand(command, argv)).error?.message).toContain("name the folder with --man DIR");
  });
});

describe("a manifest in a folder", () => {
  test.each([
    ["helm", helm, "Chart.yaml"],
    ["kustomize", kustomize, "kustomization.yaml"],
  ])("of %s is written whole into a new folder, or not at all", async (_, command, file) => {
    // A chart is tried out for each of its values, which takes long.
    spies.push(
      spyOn(chart, "helmChart").mockImplementation(() => ({ "Chart.yaml": "a", "templates/b.yaml": "c" })),
    );
    const target = join(folder, "deep", "chart");
    mkdirSync(join(folder, "deep"));
    const { out, error } = await runCommand(command, [
      "--output-dir",
      `${target}/`,
      "--json",
      "--env",
      "A=b=c",
    ]);
    expect(error).toBeUndefined();
    const all = readdirSync(target, { recursive: true, withFileTypes: true }).filter((each) => each.isFile());
    expect(JSON.parse(out)).toEqual({ path: `${target}/`, files: all.length });
    expect(existsSync(join(target, file))).toBe(true);
    const again = await runCommand(command, ["--output-dir", target]);
    expect(again.error?.message).toBe(`${target} exists: name a new folder, or remove it`);
    spies.push(
      spyOn(fs, "renameSync").mockImplementation(() => {
        throw new Error("EXDEV");
      }),
    );
    expect((await runCommand(command, ["--output-dir", join(folder, "other")])).error?.message).toBe("EXDEV");
    expect(readdirSync(folder)).toEqual(["deep"]);
    for (const argv of [[], ["--output-dir", ""]])
      expect((await runCommand(command, argv)).error?.message).toContain("--output-dir DIR");
  });
});

describe("parameters of the manifest", () => {
  test("are the options; those of a query give way to them", async () => {
    const { out } = await runCommand(kubernetes, [
      ...["--query", "env.WEAVE_MTU=1337&env.A=1&password-secret=theirs", "--password-secret", "ours"],
      ...["--env", "A=2=3", "--selinux-options", "type=spc_t", "--disable-npc"],
    ]);
    expect([out.includes("name: ours"), out.includes("theirs")]).toEqual([true, false]);
    expect([/WEAVE_MTU\s+value: ['"]?1337/.test(out), /name: A\s+value: ['"]?2=3/.test(out)]).toEqual([
      true,
      true,
    ]);
    expect([out.includes("type: spc_t"), out.includes("weave-npc")]).toEqual([true, false]);
    expect((await runCommand(kubernetes, [])).out).toContain("weave-npc");
  });

  test.each([
    ["env", kubernetes],
    ["selinux-options", kubernetes],
    ["env", marathon],
  ])("--%s has to be a name with a value", async (option, command) => {
    const { out, error } = await runCommand(command, [`--${option}`, "NAME"]);
    expect([out, error?.message]).toEqual(["", `--${option} "NAME": should be NAME=VALUE`]);
  });

  test("of Marathon have what is given", async () => {
    const argv = [
      "--host-prefix",
      "agent",
      "--ipalloc-range",
      "10.32.0.0/16",
      "--instances",
      "3",
      "--env",
      "A=1",
    ];
    const { out } = await runCommand(marathon, argv);
    const app = JSON.parse(out);
    expect([app.instances, app.env.A]).toEqual([3, "1"]);
    expect(out).toContain("10.32.0.0/16");
    expect((await runCommand(marathon, argv.slice(2))).error).toBeDefined();
  });
});

describe("manifest serve", () => {
  test("answers with the manifest of its options and the query, until it is told to stop", async () => {
    let scope: Scope | undefined;
    spies.push(
      spyOn(shutdown, "runDaemon").mockImplementation(async (_log, _stays, start) => {
        scope = new Scope(() => {});
        await start(scope, () => {});
      }),
    );
    const server = { ...{ hostname: "127.0.0.1", port: 8_081 }, stop: mock(async () => {}) };
    const served = spyOn(Bun, "serve").mockImplementation((() => server) as never);
    spies.push(served);
    const { out, error } = await runCommand(serve, [
      "--listen",
      "127.0.0.1:8081",
      "--password-secret",
      "ours",
    ]);
    expect([error, out]).toEqual([undefined, "serving http://127.0.0.1:8081/k8s/net\n"]);
    const [[options] = expect.unreachable()] = served.mock.calls as unknown as [
      [{ hostname: string; port: number; fetch(request: Request): Response }],
    ];
    expect([options.hostname, options.port]).toEqual(["127.0.0.1", 8_081]);
    const get = async (path: string, method = "GET") => {
      const answer = options.fetch(new Request(`http://127.0.0.1:8081${path}`, { method }));
      return [answer.status, await answer.text()] as const;
    };
    const [status, text] = await get("/k8s/net?env.WEAVE_MTU=1337");
    expect([status, text.includes("name: ours"), text.includes("1337")]).toEqual([200, true, true]);
    expect((await get("/k8s/v1.21/net.yaml"))[0]).toBe(200);
    expect((await get("/k8s/nets"))[0]).toBe(404);
    expect([(await get("/k8s/net", "POST"))[0], (await get("/k8s/net", "HEAD"))[0]]).toEqual([405, 200]);
    expect(await get("/k8s/net?none=1")).toEqual([400, expect.stringMatching(/none.*\n$/)]);
    expect(server.stop.mock.calls).toEqual([]);
    await scope?.end();
    expect(server.stop.mock.calls as unknown[][]).toEqual([[true]]);
  });

  test("refuses options that make no sense before it serves", async () => {
    const begun = spyOn(shutdown, "runDaemon").mockImplementation(async () => {});
    spies.push(begun);
    expect((await runCommand(serve, ["--guaranteed", "much"])).error).toBeDefined();
    expect((await runCommand(serve, ["--trusted-subnets", "x"])).error).toBeDefined();
    expect(begun).toHaveBeenCalledTimes(0);
  });

  test("listens at an address with a port", () => {
    expect([endpoint("listen", ":8080"), endpoint("listen", "10.0.0.1:1")]).toEqual([
      { hostname: "0.0.0.0", port: 8_080 },
      { hostname: "10.0.0.1", port: 1 },
    ]);
    expect(() => endpoint("listen", "8080")).toThrow(
      '--listen "8080": should be IP:PORT or :PORT, such as :6781',
    );
  });
});

describe("weave ui", () => {
  const SSH = "SSH_CONNECTION";
  const before = process.env[SSH];
  afterEach(() => {
    if (before === undefined) delete process.env[SSH];
    else process.env[SSH] = before;
  });
  const at = (...places: object[]) => ask(ui, ["--json"], { "GET /ui/places": JSON.stringify(places) });

  test.each([
    ["127.0.0.1", "127.0.0.1"],
    ["0.0.0.0", "127.0.0.1"],
    ["::", "127.0.0.1"],
    ["10.0.0.1", "10.0.0.1"],
  ])("prints the first place, on %s, and the way there from another machine", async (host, shown) => {
    delete process.env[SSH];
    const { out } = await at({ host, port: 7_784 }, { host: "10.9.9.9", port: 1 });
    expect(JSON.parse(out)).toEqual({
      url: `http://${shown}:7784/ui/`,
      tunnel: `ssh -L 7784:${shown}:7784 root@${hostname()}`,
    });
    process.env[SSH] = "10.0.0.7 50000 10.0.0.8 22";
    expect(JSON.parse((await at({ host, port: 7_784 })).out).tunnel).toEndWith("root@10.0.0.8");
  });

  test("says what to do where it is served nowhere", async () => {
    const { out, error } = await at();
    expect([out, error?.message]).toEqual(["", expect.stringContaining("the status page is served nowhere")]);
  });
});
