// A real runtime: podman with its CNI back-end runs containers on a network made of our configuration.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { exec, type Host, Hosts, must } from "../support/hosts.ts";

let hosts: Hosts;
let host: Host;
let conf: string;

beforeAll(async () => {
  hosts = await Hosts.create("pod", 1);
  host = hosts.host(1);
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await host.weave("setup", "--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir);
  const list = JSON.parse(readFileSync(join(host.confDir, "10-weave.conflist"), "utf8"));
  expect(list.plugins.map((plugin: { type: string }) => plugin.type)).toEqual(["weave-net", "portmap"]);
  conf = join(host.folder, "containers.conf");
  writeFileSync(
    conf,
    `[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
[network]
network_backend = "cni"
cni_plugin_dirs = [${JSON.stringify(host.binDir)}, "/usr/lib/cni"]
network_config_dir = ${JSON.stringify(host.confDir)}
`,
  );
  const root = join(host.folder, "image");
  mkdirSync(join(root, "bin"), { recursive: true });
  for (const folder of ["etc", "proc", "sys", "dev", "tmp"]) mkdirSync(join(root, folder));
  copyFileSync("/bin/busybox", join(root, "bin/busybox"));
  for (const name of ["sh", "ping", "nc", "sleep", "ip", "httpd"])
    symlinkSync("busybox", join(root, "bin", name));
  await must(["tar", "-C", root, "-cf", join(host.folder, "image.tar"), "."]);
  await podman("import", join(host.folder, "image.tar"), "busybox:test");
}, 120_000);

afterAll(async () => {
  await exec(entered("rm", "-af", "-t", "0"), { env: environment() });
  await exec(["umount", "-R", join(host.folder, "storage/overlay")]);
  hosts.disposeSync();
});

function command(...args: string[]): string[] {
  return [
    "podman",
    "--root",
    join(host.folder, "storage"),
    "--runroot",
    join(host.folder, "runroot"),
    "--storage-driver",
    "vfs",
    ...args,
  ];
}

const environment = () => ({ ...host.env, CONTAINERS_CONF: conf });
// `ip netns exec` mounts a /sys of its own, without the control groups that runc wants to see.
const entered = (...args: string[]) => ["nsenter", `--net=/run/netns/${host.netns}`, ...command(...args)];
const podman = async (...args: string[]) => (await must(entered(...args), { env: environment() })).trim();

test("two containers ping each other, and a published port leads to one", async () => {
  const run = (name: string, ...args: string[]) =>
    podman("run", "-d", "--name", name, "--network", "weave", ...args);
  await run("one", "-p", "8080:80", "busybox:test", "/bin/httpd", "-f", "-p", "80");
  await run("two", "busybox:test", "/bin/sleep", "600");
  const address = await podman("exec", "one", "/bin/ip", "-4", "addr", "show", "eth0");
  const one = /inet (10\.\d+\.\d+\.\d+)\//.exec(address)?.[1] ?? "";
  expect(one).not.toBe("");
  expect(await podman("exec", "two", "/bin/ping", "-c", "2", one)).toContain(" 0% packet loss");
  // From another host of the network between hosts, by the host's own address.
  const answer = await host.must([
    process.execPath,
    "-e",
    `console.log((await fetch("http://${host.ip}:8080/")).status)`,
  ]);
  expect(answer.trim()).toBe("404");
  expect(await host.weave("ps")).toContain(`${one}/12`);
  await podman("rm", "-f", "-t", "0", "one");
  expect(await host.weave("ps")).not.toContain(`${one}/12`);
}, 120_000);
