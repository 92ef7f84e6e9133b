// Launches that cannot succeed: one line that says why, and the host as it was before.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, type Host, Hosts } from "../support/hosts.ts";

let hosts: Hosts;
let host: Host;

beforeAll(async () => {
  hosts = await Hosts.create("lau", 1);
  host = hosts.host(1);
});

afterAll(() => hosts.disposeSync());

const state = async () => [
  await host.must(["ip", "-br", "link"]),
  await host.must(["nft", "list", "ruleset"]),
  await host.must(["ip", "-4", "addr"]),
  existsSync(join(host.folder, "run/weave.sock")),
];

/** Holds a TCP port in the host until it is killed. */
async function occupy(port: number, address: string): Promise<() => Promise<void>> {
  const script = `require("node:net").createServer().listen(${port}, "${address}", () => console.log("ready"))`;
  const child = Bun.spawn(host.command(process.execPath, "-e", script), { stdout: "pipe", stderr: "ignore" });
  await child.stdout.getReader().read();
  return async () => {
    child.kill();
    await child.exited;
  };
}

const cases: readonly [string, () => Promise<() => Promise<unknown>>, string[], number, string][] = [
  [
    "the mesh's port is in use",
    () => occupy(6783, "0.0.0.0"),
    [],
    1,
    "cannot listen for peers on :6783: the port is in use",
  ],
  [
    "the control port is in use",
    () => occupy(6784, "127.0.0.1"),
    [],
    1,
    "cannot serve the control API on 127.0.0.1:6784",
  ],
  [
    "a link of the bridge's name is no bridge",
    async () => {
      await host.must(["ip", "link", "add", "weave", "type", "veth", "peer", "name", "weave-peer"]);
      return () => host.must(["ip", "link", "del", "weave"]);
    },
    [],
    1,
    'link "weave" is in the way: it is no bridge',
  ],
  [
    "a link of the overlay's name is another kind of link",
    async () => {
      await host.must(["ip", "link", "add", "vxlan-6784", "type", "vxlan", "id", "5", "dstport", "4789"]);
      return () => host.must(["ip", "link", "del", "vxlan-6784"]);
    },
    [],
    1,
    "link vxlan-6784 is in the way: it is no external VXLAN link on UDP port 6784",
  ],
  [
    "a peer's name cannot be found",
    async () => async () => {},
    ["no-such-host.invalid"],
    2,
    'cannot resolve peer "no-such-host.invalid"',
  ],
  [
    "the state file is damaged",
    async () => {
      mkdirSync(join(host.folder, "lib"), { recursive: true });
      writeFileSync(
        join(host.folder, "lib/weave.db"),
        "this is no database, and long enough to be looked at as one".repeat(50),
      );
      return () => host.must(["rm", "-rf", join(host.folder, "lib")]);
    },
    [],
    3,
    "it is kept as",
  ],
];

test.each(cases)("%s", async (_what, arrange, args, code, text) => {
  const undo = await arrange();
  try {
    const before = await state();
    const result = await host.exec([join(DIST, "weave"), "launch", "--ipalloc-init=consensus=1", ...args]);
    expect(result.stderr).toContain(text);
    expect(result.stderr.trim().split("\n").length).toBe(1);
    expect(result.code).toBe(code);
    expect(await state()).toEqual(before);
  } finally {
    await undo();
  }
});

test("another VXLAN link has the port: sleeve does without, and the status says so", async () => {
  await host.must(["ip", "link", "add", "vx7", "up", "type", "vxlan", "external", "dstport", "6784"]);
  try {
    await host.weave("launch", "--ipalloc-init=consensus=1");
    expect(await host.weave("status")).toContain("no VXLAN link on UDP port 6784");
    await host.weave("reset", "--force");
  } finally {
    await host.must(["ip", "link", "del", "vx7"]);
  }
});

test("and after all that, a launch succeeds", async () => {
  expect(await host.weave("launch", "--ipalloc-init=consensus=1")).toStartWith("weave is running");
});
