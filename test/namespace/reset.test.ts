// weave reset: lists, asks, removes what launch, setup and attach have made, and says so.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, eventually, type Host, Hosts, must } from "../support/hosts.ts";

let hosts: Hosts;
let host: Host;

beforeEach(async () => {
  hosts = await Hosts.create("rst", 1);
  host = hosts.host(1);
});

afterEach(() => hosts.disposeSync());

const WEAVE = join(DIST, "weave");
const folders = () => ["--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir];
const units = () => ["--systemd-dir", join(host.folder, "units"), "--systemd-env", join(host.folder, "env")];
const everything = () => [...folders(), ...units()];
const reset = (...args: string[]) => host.exec([WEAVE, "reset", ...everything(), ...args]);

/** Everything that there is to remove. */
async function furnish(): Promise<void> {
  await host.weave("launch", "--ipalloc-init=consensus=1", "--expect-npc");
  await host.weave("setup", "--systemd", ...everything());
  await host.weave("attach", "--netns", await hosts.pod("rst-pod"));
  await host.weave("expose");
}

/** A folder that the environment names stays, without what was in it. */
const inFolder = (name: string) => readdirSync(join(host.folder, name));

const left = async () => [
  (await host.must(["ip", "-br", "link"])).match(/\b(weave|vxlan|vethwepl|sleeve)/g),
  await host.must(["nft", "list", "tables"]),
  readdirSync(host.binDir),
  readdirSync(host.confDir),
  existsSync(join(host.folder, "units/weave.service")),
  existsSync(join(host.folder, "env")),
  inFolder("lib"),
  inFolder("run"),
];

const NOTHING = [null, "", [], [], false, false, [], []];

/** Runs reset on a terminal, and answers its question. */
async function onTerminal(reply: string): Promise<{ code: number; text: string }> {
  const command = [WEAVE, "reset", ...everything()].join(" ");
  const child = Bun.spawn(host.command("script", "-qefc", command, "/dev/null"), {
    env: { ...(process.env as Record<string, string>), ...host.env },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  let text = "";
  const read = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) text += decoder.decode(chunk, { stream: true });
  })();
  await eventually(
    "the question",
    () => text,
    (seen) => seen.includes("[y/N]"),
  );
  child.stdin.write(`${reply}\n`);
  await child.stdin.flush();
  const code = await child.exited;
  child.stdin.end();
  await read;
  return { code, text };
}

test("without a terminal nothing is removed, unless that is what was asked for", async () => {
  await furnish();
  const { pid } = host;
  const before = await left();
  const refused = await reset();
  expect([refused.code, refused.stdout]).toEqual([2, ""]);
  expect(refused.stderr).toMatch(
    /^weave reset: nothing was removed: there is no terminal to ask on; give --yes, or --force/,
  );
  const dry = await reset("--dry-run");
  expect(dry.stderr).toBe("");
  expect(dry.stdout.trim().split("\n")).toEqual([
    `hand the addresses of this host to another peer, and stop the router (pid ${pid})`,
    "remove bridge weave, the network links of 1 container, link vxlan-6784",
    "remove our rules from the packet filter (table weave)",
    "remove the network policies in force (table weave-npc)",
    `forget name, addresses, exposures and peers of this host (${host.folder}/lib/weave.db)`,
    `remove the log and the pid file of the router (in ${host.folder}/run)`,
    `remove ${host.folder}/units/weave.service`,
    `remove ${host.folder}/env`,
    `remove ${host.confDir}/10-weave.conflist`,
    `remove ${host.binDir}/weave-net`,
  ]);
  expect(await left()).toEqual(before);
  expect(await host.weave("status")).toContain("Service: router");
  const done = await reset("--yes");
  expect(done.code).toBe(0);
  expect(done.stdout.trim().split("\n")).toEqual([
    `handed no addresses over, as this host has none or knows no other peer, and stopped the router (pid ${pid})`,
    ...dry.stdout
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => line.replace(/^remove/, "removed").replace(/^forget/, "forgot")),
  ]);
  expect(await left()).toEqual(NOTHING);
  const again = await reset();
  expect([again.code, again.stdout]).toEqual([0, "nothing of weave is on this host\n"]);
});

test("on a terminal it asks: no leaves all, yes removes all", async () => {
  await furnish();
  const before = await left();
  const no = await onTerminal("n");
  expect(no.code).toBe(1);
  expect(no.text).toContain("weave reset will");
  expect(no.text).toContain("  remove bridge weave, the network links of 1 container, link vxlan-6784");
  expect(no.text).toContain("weave reset: nothing was removed");
  expect(await left()).toEqual(before);
  const yes = await onTerminal("y");
  expect(yes.text).toContain("removed bridge weave");
  expect(yes.code).toBe(0);
  expect(await left()).toEqual(NOTHING);
});

test("files that others have changed are kept, and said to be", async () => {
  await furnish();
  const files = ["cni/net.d/10-weave.conflist", "env", "cni/bin/weave-net"].map((name) =>
    join(host.folder, name),
  );
  for (const file of files.slice(0, 2)) writeFileSync(file, "PEERS=host2\n");
  await host.must(["rm", files[2] ?? ""]);
  writeFileSync(files[2] ?? "", "another program");
  const { code, stdout } = await reset("--force");
  expect(code).toBe(0);
  for (const file of files) {
    expect(stdout).toContain(`kept ${file}, which`);
    expect(readFileSync(file, "utf8")).not.toBe("");
  }
  expect((await reset()).code).toBe(0);
});

test("a hanging router is ended with --force only, and what cannot be removed is told at the end", async () => {
  await furnish();
  const { pid } = host;
  process.kill(pid, "SIGSTOP");
  const { code, stderr } = await reset("--yes");
  expect(code).toBe(1);
  expect(stderr).toContain("--force");
  expect((await left())[0]).not.toBeNull();
  const busy = join(host.folder, "env");
  await must(["mount", "--bind", busy, busy]);
  try {
    const forced = await reset("--force");
    expect(forced.stdout).toContain(`stopped the router (pid ${pid})`);
    expect(forced.code).toBe(1);
    expect(forced.stderr.trim().split("\n").at(-1)).toStartWith(
      `weave reset: reset is not complete: cannot remove ${busy}: resource busy`,
    );
    expect((await left()).with(5, false)).toEqual(NOTHING);
  } finally {
    await must(["umount", busy]);
  }
});

test("without a router nothing is handed over, and what to do about it is said", async () => {
  await furnish();
  await host.weave("stop");
  const { code, stdout } = await reset("--yes");
  expect(code).toBe(0);
  expect(stdout).toMatch(/^left its addresses with the network \('weave rmpeer' .*, as no router runs here/m);
  expect(await left()).toEqual(NOTHING);
});
