// Setting a host up: an agent of Mesos by its name and environment, the service's files, and an output that is refreshed
// while the router comes and goes.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import * as lookups from "node:dns/promises";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import * as folders from "../../cmd/cnifolders.ts";
import { watchStatus } from "../../cmd/live/statuswatch.ts";
import { watch, watchJson } from "../../cmd/live/watch.ts";
import { prepareAgent } from "../../cmd/mesos.ts";
import * as outputs from "../../cmd/output/output.ts";
import { install, SETTINGS, stepsToRemove } from "../../cmd/service.ts";
import { formatCidr } from "../../lib/address/ipv4.ts";
import { ApiError, RouterDownError } from "../../lib/api/client.ts";
import * as services from "../../lib/deploy/service.ts";
import { PLAIN } from "../../lib/help/layout.ts";
import * as overlap from "../../lib/host/overlap.ts";
import * as instance from "../../lib/router/instance.ts";
import * as executables from "../../lib/sys/executable.ts";

let spies: { mockRestore(): void }[];
let told: unknown[][];
let out: string;
let warned: string[];
let folder: string;
beforeEach(() => {
  [told, out, warned] = [[], "", []];
  folder = mkdtempSync(join(os.tmpdir(), "weave-hostsetup-"));
  spies = [
    spyOn(outputs, "warn").mockImplementation((line) => void warned.push(line)),
    spyOn(outputs, "write").mockImplementation((text) => {
      out += text;
    }),
  ];
});
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
  rmSync(folder, { recursive: true });
});

describe("an agent of Mesos", () => {
  const ENV = { HOST_PREFIX: "agent", IPALLOC_RANGE: "10.40.0.0/16" };
  const places = () => ({ bin: join(folder, "bin"), conf: join(folder, "net.d") });
  const said: string[] = [];

  function prepare(
    given: Record<string, unknown> = {},
    env: Record<string, string> = ENV,
    peers: string[] = [],
  ) {
    said.length = 0;
    spies.push(
      spyOn(os, "hostname").mockImplementation(() => "agent3.example.com"),
      spyOn(overlap, "refuseOverlap").mockImplementation(
        (_nl, range, name) => void told.push(["overlap", formatCidr(range), name]),
      ),
      spyOn(folders, "installCni").mockImplementation((...args) => {
        told.push(["install", existsSync(places().bin), existsSync(places().conf), ...args]);
        return ["wrote a", "linked b"];
      }),
      spyOn(lookups, "lookup").mockImplementation((async (host: string, options: unknown) => {
        told.push(["lookup", host, options]);
        if (host.startsWith("agent4")) throw new Error("ENOTFOUND");
        return { address: "10.0.0.2", family: 4 };
      }) as never),
    );
    return prepareAgent(given, peers, env, places(), (line) => said.push(line));
  }

  test("dials its neighbours that resolve, beside those that are named, and installs the plugin of one configuration", async () => {
    expect(await prepare({}, ENV, ["h9"])).toEqual({
      options: { "ipalloc-range": "10.40.0.0/16" },
      peers: ["h9", "agent2.example.com"],
    });
    expect(told).toEqual([
      ["overlap", "10.40.0.0/16", undefined],
      ["install", true, true, places(), true],
      ["lookup", "agent2.example.com", { family: 4 }],
      ["lookup", "agent4.example.com", { family: 4 }],
    ]);
    expect(said).toEqual(["wrote a", "linked b"]);
    expect(warned).toEqual([
      'weave launch: no agent "agent4.example.com" (ENOTFOUND); it connects to this host once it runs',
    ]);
  });

  test("takes options before variables", async () => {
    const env = { ...ENV, IPALLOC_INIT: "consensus=3", CONN_LIMIT: "50", OTHER: "1" };
    const { options } = await prepare({ "ipalloc-range": "10.50.0.0/16", "conn-limit": "9" }, env);
    expect(options).toEqual({
      "ipalloc-range": "10.50.0.0/16",
      "conn-limit": "9",
      "ipalloc-init": "consensus=3",
    });
  });

  test.each<[Record<string, string>, string]>([
    [{ IPALLOC_RANGE: "10.40.0.0/16" }, "--mesos needs HOST_PREFIX"],
    [{ HOST_PREFIX: "", IPALLOC_RANGE: "10.40.0.0/16" }, "--mesos needs HOST_PREFIX"],
    [{ HOST_PREFIX: "agent" }, "--mesos needs IPALLOC_RANGE"],
    [{ HOST_PREFIX: "node", IPALLOC_RANGE: "10.40.0.0/16" }, 'is not HOST_PREFIX "node" and a number'],
    [{ ...ENV, CONN_LIMIT: "many" }, "--conn-limit"],
  ])("with %j is refused before anything changes", async (env, message) => {
    await expect(prepare({}, env)).rejects.toThrow(message);
    expect(told).toEqual([]);
  });
});

test("the service has the files that are named, the router's executable, and all variables of options", () => {
  const options = { "systemd-dir": "/a", "systemd-env": "/b" };
  spies.push(
    spyOn(executables, "executable").mockImplementation((name) => `/opt/${name}`),
    spyOn(services, "installService").mockImplementation((...args) => {
      told.push(["install", ...args]);
      return [] as never;
    }),
    spyOn(services, "serviceSteps").mockImplementation((...args) => {
      told.push(["remove", ...args]);
      return [];
    }),
  );
  const pid = spyOn(instance, "runningPid").mockReturnValue(undefined);
  spies.push(pid);
  install(options as never);
  pid.mockReturnValue(77);
  install(options as never);
  stepsToRemove(options as never);
  expect(told).toEqual([
    ["install", { units: "/a", environment: "/b" }, "/opt/weave-router", SETTINGS, false],
    ["install", { units: "/a", environment: "/b" }, "/opt/weave-router", SETTINGS, true],
    ["remove", { units: "/a", environment: "/b" }, SETTINGS],
  ]);
  const of = (variable: string) => SETTINGS.find((each) => each.variable === variable)?.description;
  expect(of("WEAVE_PASSWORD")).toBeString();
  expect(of("WEAVE_NO_FASTDP")).toBe("1 for --no-fastdp");
  expect(SETTINGS.every(({ variable }) => variable !== undefined)).toBe(true);
});

describe("an output that is refreshed", () => {
  /** Looks that give this in turn; the watch ends with the error after them. */
  function looks(...seen: (string[] | Error)[]) {
    const slept: number[] = [];
    spies.push(spyOn(Bun, "sleep").mockImplementation((async (ms: number) => void slept.push(ms)) as never));
    const look = async () => {
      const next = seen.shift() ?? new Error("the end");
      if (next instanceof Error) throw next;
      return next;
    };
    return { look, slept };
  }
  const down = (at = "x") => new RouterDownError(at);
  const base = { command: "weave ps", everyMs: 700, style: PLAIN };
  // Without a terminal.
  const isTTY = process.stdout.isTTY;
  beforeEach(() => {
    process.stdout.isTTY = false;
  });
  afterEach(() => {
    process.stdout.isTTY = isTTY;
  });

  test("has all lines at first, then those that are new or changed; errors that waiting cannot cure end it", async () => {
    const { look, slept } = looks(["a 1", "b 1"], ["a 1", "b 1"], ["a 1", "b 2", "c 1"]);
    await expect(watch({ ...base, look })).rejects.toThrow("the end");
    expect([out, slept]).toEqual(["a 1\nb 1\nb 2\nc 1\n", [700, 700, 700]]);
    expect(warned).toEqual([]);
  });

  test("says once that the router is away, and why, and that it is back", async () => {
    const { look } = looks(down(), down(), down("y"), ["a"], down(), ["a"]);
    await expect(watch({ ...base, look })).rejects.toThrow("the end");
    expect(warned.map((line) => line.replace(/\(.*\)/, "()"))).toEqual([
      ...["weave ps: weave is not running (); launch it with 'weave launch'; waiting for it"],
      ...["weave ps: weave is not running (); launch it with 'weave launch'; waiting for it"],
      "weave ps: the router answers again",
      "weave ps: weave is not running (); launch it with 'weave launch'; waiting for it",
      "weave ps: the router answers again",
    ]);
    expect(out).toBe("a\n");
  });

  test("as JSON is a line each time", async () => {
    const { look, slept } = looks(["a"], down(), down(), ["b"]);
    await expect(watchJson("weave ps", 300, look)).rejects.toThrow("the end");
    expect([out, warned.length, slept]).toEqual(['["a"]\n["b"]\n', 1, [300, 300, 300, 300]]);
  });

  test("of the status has no empty lines around it, and shows what a router that starts says", async () => {
    const texts: (string | Error)[] = [
      "\n\na\n\nb\n\n",
      new ApiError(503, "starting"),
      new ApiError(500, "broken"),
    ];
    looks();
    const source = (part: string) => ({
      ...{ part, everyMs: 5, json: async () => ["json"] },
      async text() {
        const next = texts.shift() ?? new Error("the end");
        if (next instanceof Error) throw next;
        return next;
      },
    });
    await expect(watchStatus({ options: {}, positionals: [] } as never, source(""))).rejects.toThrow(
      "broken",
    );
    expect(out).toBe("a\n\nb\nstarting\n");
    out = "";
    texts.push(down());
    await expect(watchStatus({ options: {}, positionals: [] } as never, source("peers"))).rejects.toThrow(
      "the end",
    );
    expect(warned.at(-1)).toStartWith("weave status peers: ");
  });
});
