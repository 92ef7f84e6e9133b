// What a container declares, and what a hook of its runtime makes of it.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatCidr, formatIPv4 } from "../../lib/address/ipv4.ts";
import { parseWantedList } from "../../lib/address/wanted.ts";
import { declaredAddresses } from "../../lib/container/declared.ts";
import { hookAction, parseState, readConfig } from "../../lib/container/ocihook.ts";
import { hookFile } from "../../lib/deploy/podman.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-ocihook-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

test.each<[readonly string[], Record<string, string>, string | undefined]>([
  [[], {}, undefined],
  [["PATH=/bin"], { other: "x" }, undefined],
  [["WEAVE_CIDR="], {}, ""],
  [["WEAVE_CIDR=none"], { "works.weave.cidr": "net:default" }, undefined],
  [["WEAVE_CIDR=10.32.0.5/12"], { "works.weave.cidr": "net:default" }, "10.32.0.5/12"],
  [["WEAVE_CIDR=net:default", "WEAVE_CIDR= ip:10.32.0.5/12 "], {}, "ip:10.32.0.5/12"],
  [["WEAVE_CIDRS=x"], { "works.weave.cidr": "net:10.33.0.0/16" }, "net:10.33.0.0/16"],
  [[], { "works.weave.cidr": "none" }, undefined],
])("environment %j and labels %j", (env, labels, expected) => {
  expect(declaredAddresses({ env, labels })).toBe(expected as string);
});

test("wanted addresses, several with spaces between them", () => {
  const shown = parseWantedList(" net:default  10.32.0.7 ip:10.33.0.1/24\tnet:10.34.0.0/16 ").map((wanted) =>
    wanted.kind === "own"
      ? formatCidr(wanted.cidr)
      : wanted.kind === "bare"
        ? formatIPv4(wanted.address)
        : `net ${wanted.subnet ? formatCidr(wanted.subnet) : "default"}`,
  );
  expect(shown).toEqual(["net default", "10.32.0.7", "10.33.0.1/24", "net 10.34.0.0/16"]);
  expect(parseWantedList("")).toEqual([{ kind: "net", subnet: undefined }]);
  for (const wrong of ["10.32.0", "net:x", "127.0.0.1/8", "yes"])
    expect(() => parseWantedList(wrong)).toThrow();
});

describe("a hook", () => {
  const state = (more: object = {}) =>
    parseState(
      JSON.stringify({ ociVersion: "1.0.2", id: "c1", status: "created", pid: 7, bundle: folder, ...more }),
    );
  const config = (more: object = {}) => {
    const text = {
      hostname: "web.weave.local",
      process: { env: ["WEAVE_CIDR=net:default"] },
      linux: { namespaces: [{ type: "network" }] },
      ...more,
    };
    writeFileSync(join(folder, "config.json"), JSON.stringify(text));
    return readConfig(folder);
  };
  const inNetns = (path: string) => ({ linux: { namespaces: [{ type: "pid" }, { type: "network", path }] } });

  test("attaches, releases, or leaves a container alone", () => {
    expect(hookAction(state(), config())).toEqual({
      kind: "attach",
      id: "c1",
      pid: 7,
      addresses: "net:default",
      fqdn: "web.weave.local",
    });
    expect(hookAction(state(), config({ hostname: "web", domainname: "weave.local" }))).toMatchObject({
      fqdn: "web.weave.local",
    });
    expect(hookAction(state(), config({ hostname: "web", ...inNetns("/run/netns/x") }))).toMatchObject({
      kind: "attach",
      fqdn: undefined,
    });
    const annotated = { "works.weave.cidr": "10.32.0.9/12" };
    expect(hookAction(state({ annotations: annotated }), config({ process: {} }))).toMatchObject({
      addresses: "10.32.0.9/12",
    });
    const stopped = { status: "stopped", pid: 0 };
    expect(hookAction(state(stopped), config())).toEqual({ kind: "release", id: "c1" });
    const kept = { annotations: { "io.container.manager": "libpod" } };
    for (const [at, of] of [
      [state(), config({ process: null })],
      [state(), config({ linux: { namespaces: [{ type: "mount" }] } })],
      [state(), config(inNetns("/proc/9/ns/net"))],
      [state(stopped), config(kept)],
      [state({ pid: 0 }), config()],
    ] as const)
      expect(hookAction(at, of).kind).toBe("nothing");
  });

  test("says what is wrong with its input", () => {
    for (const text of [
      "",
      "{}",
      "[1]",
      JSON.stringify({ id: "../x", status: "created", pid: 1, bundle: "/" }),
    ])
      expect(() => parseState(text)).toThrow("standard input is not the state of a container");
    expect(() => readConfig("/nowhere")).toThrow("cannot read /nowhere/config.json: no such file");
    writeFileSync(join(folder, "config.json"), "{");
    expect(() => readConfig(folder)).toThrow(`cannot read ${folder}/config.json`);
  });
});

test("podman runs the hook before the first process of each container", () => {
  expect(JSON.parse(hookFile("/usr/local/bin/weave", "/run/other"))).toEqual({
    version: "1.0.0",
    hook: {
      path: "/usr/local/bin/weave",
      args: ["weave", "oci-hook"],
      env: ["WEAVE_RUN_DIR=/run/other"],
      timeout: 60,
    },
    when: { always: true },
    stages: ["createRuntime"],
  });
});
