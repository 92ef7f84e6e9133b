// The executables by the names that they are called by: help, errors and exit codes of weave, and the plugins of CNI and
// netavark beside a router that answers, refuses or is not there.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UsageError } from "../../cmd/arguments.ts";
import { ociHook } from "../../cmd/commands/ocihook.ts";
import { fail, LoggedError, run } from "../../cmd/main.ts";
import { prepareAgent } from "../../cmd/mesos.ts";
import { main as netavark } from "../../cmd/netavark.ts";
import { stdout } from "../../cmd/output/stdout.ts";
import { main as weaveNet } from "../../cmd/weave-net.ts";
import { RouterDownError } from "../../lib/api/client.ts";
import * as cni from "../../lib/cni/main.ts";
import * as executables from "../../lib/sys/executable.ts";
import { VERSION } from "../../lib/version.ts";
import { withRouter } from "../support/fakerouter.ts";

class Exit extends Error {
  constructor(readonly code: number) {
    super(`exit ${code}`);
  }
}

let out: string;
let err: string;
let spies: { mockRestore(): void }[];
let imported = 0;
const saved = {
  argv: process.argv,
  argv0: process.argv0,
  env: { ...process.env },
};
beforeEach(() => {
  [out, err] = ["", ""];
  const write = fs.writeSync;
  spies = [
    spyOn(stdout, "write").mockImplementation((text) => {
      out += String(text);
    }),
    spyOn(fs, "writeSync").mockImplementation(((fd: number, text: string, ...more: never[]) => {
      if (fd !== 2) return write(fd, text, ...more);
      err += text;
      return text.length;
    }) as never),
    spyOn(Bun, "write").mockImplementation((async (_: unknown, text: string) => {
      out += text;
      return text.length;
    }) as never),
    spyOn(console, "error").mockImplementation((text) => {
      err += `${text}\n`;
    }),
    spyOn(process, "exit").mockImplementation((code) => {
      throw new Exit(Number(code ?? process.exitCode ?? 0));
    }),
  ];
  process.exitCode = 0;
});
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
  process.argv = saved.argv;
  process.argv0 = saved.argv0;
  for (const name of Object.keys(process.env)) if (!(name in saved.env)) delete process.env[name];
  Object.assign(process.env, saved.env);
  process.exitCode = 0;
});
const input = (text: string) =>
  spies.push(spyOn(Bun.stdin, "stream").mockImplementation(() => new Response(text).body as never));
/** Run until the end, or the exit; return the exit code. */
async function codeOf(program: Promise<unknown>): Promise<number> {
  try {
    await program;
  } catch (error) {
    if (!(error instanceof Exit)) throw error;
    return error.code;
  }
  return Number(process.exitCode ?? 0);
}

describe("weave", () => {
  /** Call it anew, by a name. */
  const call = (argv: readonly string[], name = "weave") => {
    process.argv = ["bun", "weave", ...argv];
    process.argv0 = name;
    imported++;
    return codeOf(import(`../../cmd/weave.ts?${imported}`));
  };

  test.each<[string[], string]>([
    [[], "USAGE"],
    [["--help"], "USAGE"],
    [["-h"], "LIFE CYCLE"],
    [["help"], "USAGE"],
    [["--version"], `weave ${VERSION}\n`],
    [["-v"], `weave ${VERSION}\n`],
    [["--local", "--version"], `weave ${VERSION}\n`],
    [["status", "--help"], "weave status"],
    [["help", "status"], "weave status"],
    [["manifest", "--help"], "weave manifest: "],
    [["npc", "explain", "--help"], ""],
  ])("%j prints help or the version", async (argv, text) => {
    const code = await call(argv);
    if (text === "") return;
    expect([code, err]).toEqual([0, ""]);
    expect(out).toContain(text);
  });

  test.each<[string[], string]>([
    [["statsu"], "unknown command 'statsu'; did you mean"],
    [["--foo"], "unknown option --foo; options follow the command"],
    [["manifest"], "'weave manifest': which one? "],
    [["manifest", "kubernets"], "did you mean"],
    [["help", "statsu"], "no command or topic 'statsu'"],
  ])("%j is refused with exit code 2", async (argv, text) => {
    expect(await call(argv)).toBe(2);
    expect([out, err.includes(text)]).toEqual(["", true]);
    expect(err).toStartWith("weave: ");
  });

  test("as JSON, an error has a code and a hint", async () => {
    expect(await call(["statsu", "--json"])).toBe(2);
    expect(JSON.parse(err).error).toEqual({
      code: "usage",
      message: expect.stringContaining("statsu"),
      hint: "see 'weave --help'",
    });
  });

  test("by another name is another program", async () => {
    expect([await call(["--version"], "/opt/cni/bin/weave-net"), out]).toEqual([0, `weave ${VERSION}\n`]);
    out = "";
    expect([await call(["info"], "/usr/libexec/netavark/weave"), JSON.parse(out).api_version]).toEqual([
      0,
      expect.any(String),
    ]);
    out = "";
    expect([await call(["--version"], "weave-router"), out]).toEqual([0, `weave ${VERSION}\n`]);
    expect(await call(["aply"], "weave-npc")).toBe(2);
    expect(err).toContain("weave-npc: ");
  });
});

describe("a command that fails", () => {
  const command = (error: Error) => ({
    ...{ name: "x", group: "Life cycle" as const, description: "X", options: {}, examples: [] },
    run: () => Promise.reject(error),
  });

  test.each<[Error, number, string]>([
    [new Error("no"), 1, "weave x: no\n"],
    [new UsageError("no"), 2, "weave x: no (see 'weave x --help')\n"],
    [Object.assign(new Error("no"), { failure: "state-file" }), 3, "weave x: no\n"],
    [Object.assign(new Error("no"), { exitCode: 7 }), 7, "weave x: no\n"],
    [
      new LoggedError("see the log", { cause: Object.assign(new Error("no"), { failure: "crashed" }) }),
      4,
      "",
    ],
    [
      new RouterDownError("/s"),
      1,
      "weave x: weave is not running (nothing answers at /s); launch it with 'weave launch'\n",
    ],
  ])("%o: exit code %d", async (error, code, text) => {
    expect([await codeOf(run("weave x", command(error), [])), err]).toEqual([code, text]);
  });

  test.each(["WEAVE_RUN_DIR", "WEAVE_STATE_DIR"])("by a relative %s, before it runs", async (variable) => {
    const before = process.env[variable];
    process.env[variable] = "relative";
    const code = await codeOf(run("weave x", command(new Error("it ran")), []));
    if (before === undefined) delete process.env[variable];
    else process.env[variable] = before;
    expect([code, err]).toEqual([2, `weave x: ${variable}=relative: give an absolute path\n`]);
  });

  test("as JSON names its kind, and the remedy behind the cause", () => {
    fail("weave x", new RouterDownError("/s"), true);
    expect(JSON.parse(err)).toEqual({
      error: {
        code: "not-running",
        message: "weave is not running (nothing answers at /s); launch it with 'weave launch'",
        hint: "launch it with 'weave launch'",
      },
    });
    err = "";
    fail("weave x", new Error("plain"), true);
    expect(JSON.parse(err).error).toEqual({ code: "failed", message: "plain", hint: null });
  });
});

const RESULT = JSON.stringify({
  ...{ cniVersion: "1.0.0", ips: [{ address: "10.32.0.5/12", gateway: "10.32.0.1" }] },
  interfaces: [{ name: "v" }, { name: "eth0", mac: "02:00:00:00:00:05", sandbox: "/n" }],
});

describe("the CNI plugin", () => {
  const CONFIG = '{"cniVersion":"1.0.0","name":"net","type":"weave-net"}';
  /** Call it beside a router with this answer to the call. */
  async function call(
    answer: string | { status: number; text: string },
    change: Record<string, string> = {},
  ) {
    Object.assign(process.env, {
      ...{ CNI_COMMAND: "ADD", CNI_CONTAINERID: "c1", CNI_NETNS: "/proc/self/ns/net", CNI_IFNAME: "eth0" },
      ...change,
    });
    input(CONFIG);
    const { asked, result } = await withRouter({ "POST /cni": answer }, () => codeOf(weaveNet([])));
    return { asked, code: result };
  }
  const here = () => {
    const spy = spyOn(cni, "runPlugin").mockImplementation(async () => ({ output: "here", code: 0 }));
    spies.push(spy);
    return spy;
  };

  test("hands the call to the router, with its variables, input and namespace", async () => {
    const { asked, code } = await call(JSON.stringify({ output: RESULT, code: 0 }), { OTHER: "x" });
    expect([code, out]).toEqual([0, `${RESULT}\n`]);
    const body = JSON.parse(asked[0]?.slice("POST /cni ".length) ?? "");
    expect(body).toMatchObject({ input: CONFIG, namespace: String(fs.statSync("/proc/self/ns/net").ino) });
    expect(body.variables).toMatchObject({ CNI_COMMAND: "ADD", CNI_CONTAINERID: "c1", CNI_IFNAME: "eth0" });
    expect(Object.keys(body.variables).every((name) => name.startsWith("CNI_"))).toBe(true);
  });

  test("prints an error of the router, and exits with its code", async () => {
    expect((await call(JSON.stringify({ output: '{"code":11}', code: 1 }))).code).toBe(1);
    expect(out).toBe('{"code":11}\n');
  });

  test("prints nothing for nothing", async () => {
    expect((await call(JSON.stringify({ output: "", code: 0 }), { CNI_COMMAND: "DEL" })).code).toBe(0);
    expect(out).toBe("");
  });

  test("runs the call itself where the router leaves it to the plugin, or answers late", async () => {
    const spy = here();
    for (const status of [409, 504]) {
      out = "";
      expect([(await call({ status, text: "no" })).code, out]).toEqual([0, "here\n"]);
    }
    expect(spy).toHaveBeenCalledTimes(2);
  });

  test("runs VERSION itself, without the router", async () => {
    const { asked, code } = await call("", { CNI_COMMAND: "VERSION" });
    expect([asked, code, JSON.parse(out).supportedVersions]).toEqual([[], 0, expect.any(Array)]);
  });

  test("explains itself where nobody calls it by CNI", async () => {
    expect(await codeOf(weaveNet(["--help"]))).toBe(0);
    expect(out).toStartWith("weave-net: CNI plugin of weave.");
  });
});

describe("the plugin of netavark", () => {
  const NETWORK = { name: "net", driver: "weave", options: {} };
  const EXEC = {
    ...{ container_id: "c".repeat(64), container_name: "web", network: NETWORK, port_mappings: [] },
    network_options: { interface_name: "eth0", aliases: ["db"] },
  };
  const ADDED = JSON.stringify({ output: RESULT, code: 0 });
  const call = async (
    argv: string[],
    text: object | string,
    answers: Parameters<typeof withRouter>[0] = {},
  ) => {
    input(typeof text === "string" ? text : JSON.stringify(text));
    return withRouter(answers, () => codeOf(netavark(argv)));
  };

  test("tells its version; creates a network for podman to save", async () => {
    expect((await call(["info"], "")).result).toBe(0);
    expect(JSON.parse(out).version).toBe(VERSION);
    out = "";
    expect((await call(["create"], NETWORK)).result).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      name: "net",
      dns_enabled: false,
      ipam_options: { driver: "none" },
    });
  });

  test("sets a container up, names it, and says where it asks for names", async () => {
    const { asked, result } = await call(["setup", "/proc/self/ns/net"], EXEC, {
      ...{ "POST /cni": ADDED, "GET /dns-address": "10.32.0.1:53", "GET /domain": "weave.local." },
      "PUT /name/": "",
    });
    expect(result).toBe(0);
    expect(JSON.parse(out)).toEqual({
      ...{ dns_search_domains: ["weave.local"], dns_server_ips: ["10.32.0.1"] },
      interfaces: {
        eth0: {
          mac_address: "02:00:00:00:00:05",
          subnets: [{ ipnet: "10.32.0.5/12", gateway: "10.32.0.1" }],
        },
      },
    });
    const named = asked.filter((line) => line.startsWith("PUT /name"));
    expect(named.length).toBeGreaterThan(0);
    for (const line of named) expect(line).toMatch(/^PUT \/name\/c{64}\/10\.32\.0\.5 fqdn=(web|db)\./);
  });

  test("sets it up without DNS, and with a name that is refused", async () => {
    const refusing = {
      "POST /cni": ADDED,
      "GET /dns-address": "10.32.0.1:53",
      "GET /domain": "weave.local.",
    };
    expect(
      (await call(["setup", "/n"], EXEC, { ...refusing, "PUT /name/": { status: 400, text: "no" } })).result,
    ).toBe(0);
    expect(err).toContain(`weave: cannot name container ${"c".repeat(12)} `);
    out = "";
    expect((await call(["setup", "/n"], EXEC, { "POST /cni": ADDED })).result).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ dns_search_domains: [], dns_server_ips: [] });
  });

  test("tears it down with a DEL", async () => {
    const { asked, result } = await call(["teardown", "/n"], EXEC, { "POST /cni": '{"output":"","code":0}' });
    expect([result, out]).toEqual([0, ""]);
    expect(asked[0]).toContain('"CNI_COMMAND":"DEL"');
  });

  test("says what is wrong as netavark wants it, and exits with 1", async () => {
    const failed = JSON.stringify({ output: '{"msg":"no address","details":"all are taken"}', code: 1 });
    expect((await call(["setup", "/n"], EXEC, { "POST /cni": failed })).result).toBe(1);
    expect(JSON.parse(out)).toEqual({ error: "no address: all are taken" });
    for (const [argv, text, error] of [
      [["setup"], EXEC, "the path of the network namespace is missing"],
      [["fly"], "", "unknown command fly: create, setup, teardown and info are those of netavark"],
      [["setup", "/n"], "{", expect.stringContaining("the container on standard input is invalid")],
    ] as const) {
      out = "";
      expect((await call([...argv], text)).result).toBe(1);
      expect(JSON.parse(out)).toEqual({ error });
    }
  });

  test("runs the call itself where the router leaves it to the plugin", async () => {
    const spy = spyOn(cni, "runPlugin").mockImplementation(async () => ({ output: "", code: 0 }));
    spies.push(spy);
    expect((await call(["teardown", "/n"], EXEC, { "POST /cni": { status: 409, text: "no" } })).result).toBe(
      0,
    );
    expect(spy).toHaveBeenCalledTimes(1);
    expect((await call(["teardown", "/n"], EXEC, { "POST /cni": { status: 400, text: "no" } })).result).toBe(
      1,
    );
  });
});

describe("the OCI hook", () => {
  let bundle: string;
  beforeEach(() => {
    bundle = fs.mkdtempSync(join(tmpdir(), "weave-hook-"));
  });
  afterEach(() => fs.rmSync(bundle, { recursive: true }));
  const hook = (state: object, process_: object = {}, answers: Parameters<typeof withRouter>[0] = {}) => {
    fs.writeFileSync(
      join(bundle, "config.json"),
      JSON.stringify({
        ...{ hostname: "web.weave.local", process: process_ },
        linux: { namespaces: [{ type: "network" }] },
      }),
    );
    input(JSON.stringify({ ociVersion: "1.0.2", id: "c1", bundle, ...state }));
    return withRouter(answers, () => Promise.resolve(ociHook.run({} as never)));
  };

  test("attaches a container that asks for it, before its first process", async () => {
    const { asked } = await hook(
      { status: "creating", pid: 7 },
      { env: ["WEAVE_CIDR=net:default"] },
      { "POST /attachment/": "" },
    );
    expect(asked).toEqual([
      'POST /attachment/c1 {"pid":7,"addresses":"net:default","fqdn":"web.weave.local"}',
    ]);
  });

  test("leaves others alone", async () => {
    expect((await hook({ status: "creating", pid: 7 }, { env: [] })).asked).toEqual([]);
  });

  test("releases what a container had that has ended, whatever that was", async () => {
    const { asked } = await hook({ status: "stopped", pid: 0 }, { env: ["WEAVE_CIDR=net:default"] });
    expect(asked).toEqual(["DELETE /attachment/c1", "DELETE /ip/c1"]);
  });

  test("fails where the router refuses: the container does not start", async () => {
    const refused = { "POST /attachment/": { status: 400, text: "no address" } };
    await expect(
      hook({ status: "creating", pid: 7 }, { env: ["WEAVE_CIDR=net:default"] }, refused),
    ).rejects.toThrow("no address");
  });
});

describe("an agent of Mesos", () => {
  let folder: string;
  beforeEach(() => {
    folder = fs.mkdtempSync(join(tmpdir(), "weave-mesos-"));
    fs.writeFileSync(join(folder, "weave-net"), "x", { mode: 0o755 });
    spies.push(spyOn(executables, "executable").mockImplementation(() => join(folder, "weave-net")));
  });
  afterEach(() => fs.rmSync(folder, { recursive: true }));
  const prepare = (given: Record<string, unknown>, env: Record<string, string>) => {
    const said: string[] = [];
    const folders = { bin: join(folder, "bin"), conf: join(folder, "net.d") };
    return prepareAgent(given, ["peer"], env, folders, (line) => said.push(line)).then((made) => ({
      ...made,
      said,
    }));
  };
  const range = { IPALLOC_RANGE: "203.0.113.0/24" };

  test("needs the names of its neighbours, and a range", async () => {
    await expect(prepare({}, range)).rejects.toThrow("--mesos needs HOST_PREFIX");
    await expect(prepare({}, { HOST_PREFIX: "agent-" })).rejects.toThrow("--mesos needs IPALLOC_RANGE");
  });

  test("takes options from its environment, those of the command line first, and installs the plugin", async () => {
    spies.push(
      spyOn(await import("../../lib/deploy/mesos.ts"), "neighbours").mockImplementation(() => ["127.0.0.1"]),
    );
    const env = { ...range, HOST_PREFIX: "agent-", CONN_LIMIT: "50", IPALLOC_INIT: "consensus=3" };
    const { options, peers, said } = await prepare({ "conn-limit": "60" }, env);
    expect(options).toMatchObject({
      ...{ "ipalloc-range": "203.0.113.0/24", "ipalloc-init": "consensus=3", "conn-limit": "60" },
    });
    expect([peers, said.length > 0, fs.readdirSync(join(folder, "bin"))]).toEqual([
      ["peer", "127.0.0.1"],
      true,
      ["weave-net"],
    ]);
    expect(fs.readdirSync(join(folder, "net.d")).every((name) => !name.endsWith("list"))).toBe(true);
  });
});
