// weave oci-hook under runc, crun and podman: a container's first process finds its addresses.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { apiClient, holders } from "../../lib/api/client.ts";
import { DIST, eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";
import { busyboxImage, type Runtime, startPodman } from "../support/runtimes.ts";

let hosts: Hosts;
let host: Host;

const held = async () =>
  Array.from(await holders(apiClient(join(host.folder, "run/weave.sock"))), ([id, addresses]) =>
    [id, ...addresses].join(" "),
  ).join("\n");

beforeAll(async () => {
  hosts = await Hosts.create("oh", 1);
  host = hosts.host(1);
  await host.weave("launch", "--ipalloc-init=consensus=1", "--docker-api=");
}, 300_000);

afterAll(() => hosts?.disposeSync());

// crun refuses control groups of both versions at once, which some machines have: it sees none.
const WITHOUT_CGROUPS = 'mount -t tmpfs none /sys/fs/cgroup && exec crun --cgroup-manager=disabled "$@"';
const RUNTIMES: [string, string[]][] = [
  ["runc", ["runc"]],
  ["crun", ["unshare", "--mount", "sh", "-c", WITHOUT_CGROUPS, "crun"]],
];

describe.each(RUNTIMES)("%s", (runtime, program) => {
  /** A bundle whose first process writes down its addresses; returns its folder. */
  async function bundle(id: string, env: readonly string[]): Promise<string> {
    const folder = join(host.folder, `${runtime}-${id}`);
    const rootfs = join(folder, "rootfs");
    mkdirSync(rootfs, { recursive: true });
    await must(["tar", "-C", rootfs, "-xf", await busyboxImage(host.folder)]);
    await must([runtime, "spec"], { cwd: folder });
    const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
    const hook = {
      path: join(DIST, "weave"),
      args: ["weave", "oci-hook"],
      env: [`WEAVE_RUN_DIR=${host.folder}/run`, `WEAVE_STATE_DIR=${host.folder}/lib`],
    };
    config.process.terminal = false;
    config.process.args = ["/bin/ip", "-4", "-o", "addr"];
    config.process.env.push(...env);
    config.hostname = `${id}.weave.local`;
    config.hooks = { createRuntime: [hook], poststop: [hook] };
    // Limits that this machine may not allow.
    delete config.process.rlimits;
    writeFileSync(join(folder, "config.json"), JSON.stringify(config));
    return folder;
  }

  const run = async (id: string, env: readonly string[]) => {
    const folder = await bundle(id, env);
    const command = [...program, "run", "--bundle", folder, `${runtime}-${id}`];
    return exec(["nsenter", `--net=/run/netns/${host.netns}`, ...command]);
  };

  test("the first process has the addresses, which are free after its end", async () => {
    const { stdout, stderr } = await run("first", ["WEAVE_CIDR=10.40.3.3/16 net:10.41.0.0/16"]);
    expect([stdout, stderr]).toEqual([expect.stringContaining("inet 10.40.3.3/16 "), ""]);
    expect(stdout).toMatch(/ethwe +inet 10\.41\./);
    await eventually("its addresses are released", held, (text) => !text.includes("first"));
  });

  test("one that asks for nothing is left alone; one that cannot be attached does not start", async () => {
    expect((await run("plain", [])).stdout).not.toContain("ethwe");
    expect((await run("none", ["WEAVE_CIDR=none"])).stdout).not.toContain("ethwe");
    const { code, stdout, stderr } = await run("wrong", ["WEAVE_CIDR=10.40.3.300/16"]);
    expect([code === 0, stdout]).toEqual([false, ""]);
    // crun keeps to itself what a hook says.
    if (runtime === "crun") await host.logged("300 is more than 255");
    else expect(stderr).toContain("300 is more than 255");
    expect(await held()).toBe("");
  });
});

describe("podman", () => {
  let podman: Runtime;
  let hooks: string;

  beforeAll(async () => {
    podman = await startPodman(host, false);
    hooks = join(host.folder, "hooks.d");
    await host.weave(
      "setup",
      "--oci-hooks",
      hooks,
      "--cni-bin-dir",
      host.binDir,
      "--cni-conf-dir",
      host.confDir,
    );
  }, 300_000);
  afterAll(() => podman?.end(), 60_000);

  test("one that is started again has the same addresses, without podman's API, before its first process", async () => {
    const ip = ["busybox:test", "/bin/ip", "-4", "-o", "addr"];
    const first = await podman.run(
      "--hooks-dir",
      hooks,
      "run",
      "--name",
      "web",
      "--network=none",
      "-e",
      "WEAVE_CIDR=",
      ...ip,
    );
    const [, address = ""] = /ethwe +inet ([\d./]+) /.exec(first) ?? [];
    expect(address).toMatch(/^10\..*\/12$/);
    // Meanwhile another container may not get it.
    const second = await podman.run(
      "--hooks-dir",
      hooks,
      "run",
      "--name",
      "other",
      "--network=none",
      "-e",
      "WEAVE_CIDR=",
      ...ip,
    );
    expect(second).not.toContain(`${address} `);
    const again = await podman.run("--hooks-dir", hooks, "start", "-a", "web");
    expect(again).toContain(`inet ${address} `);
    const annotated = ["--annotation", "works.weave.cidr=10.40.7.7/16"];
    expect(
      await podman.run("--hooks-dir", hooks, "run", "--rm", "--network=none", ...annotated, ...ip),
    ).toContain("inet 10.40.7.7/16 ");
    const removed = await host.weave("setup", "--oci-hooks", hooks, "--remove");
    expect(removed).toBe(`removed ${hooks}/weave.json\n`);
  });

  test("the folder that the manual installs into is the one that podman reads by itself", async () => {
    const manual = readFileSync(join(import.meta.dir, "../../lib/help/pages/podman.md"), "utf8");
    const [, folder = ""] = /setup --oci-hooks (\S+)/.exec(manual) ?? [];
    const started = ["run", "--rm", "--network=none", "busybox:test", "/bin/ip", "link"];
    const { stderr } = await podman.attempt("--log-level=debug", ...started);
    const read = Array.from(stderr.matchAll(/reading hooks from ([^"\s]+)/g), ([, path]) => path);
    expect(read).toContain(folder);
  });
});
