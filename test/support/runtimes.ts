// Real container runtimes on a host of a test: podman with its API service, and dockerd.
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, exec, type Host, must, type Output } from "./hosts.ts";

/** A runtime and how it is run. */
export interface Runtime {
  readonly name: string;
  /** Its API. */
  readonly socket: string;
  /** Runs its command line, which has to succeed; returns what it prints. */
  run(...args: string[]): Promise<string>;
  /** Runs its command line, whatever comes of it. */
  attempt(...args: string[]): Promise<Output>;
  end(): Promise<void>;
}

/** A tar of a root file system with busybox in it. */
export async function busyboxImage(folder: string): Promise<string> {
  const root = join(folder, "image");
  const tar = `${root}.tar`;
  if (existsSync(tar)) return tar;
  mkdirSync(join(root, "bin"), { recursive: true });
  for (const part of ["etc", "proc", "sys", "dev", "tmp"]) mkdirSync(join(root, part));
  copyFileSync("/bin/busybox", join(root, "bin/busybox"));
  for (const name of ["sh", "ping", "nc", "sleep", "ip", "httpd", "nslookup"])
    symlinkSync("busybox", join(root, "bin", name));
  await must(["tar", "-C", root, "-cf", tar, "."]);
  return tar;
}

// `ip netns exec` mounts a /sys of its own, without the control groups that runc wants to see.
const entered = (host: Host, ...command: string[]) => [
  "nsenter",
  `--net=/run/netns/${host.netns}`,
  ...command,
];

/** Unmounts what a runtime has left mounted in its folders. */
export async function unmountBelow(folder: string): Promise<void> {
  const mounts = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "");
  for (const path of mounts.filter((mounted) => mounted.startsWith(`${folder}/`)).reverse())
    await exec(["umount", path]);
}

/** podman on a host, with the configurations of CNI there, and its API where `api` says so. */
export async function startPodman(host: Host, api: boolean): Promise<Runtime> {
  // A container's monitor runs the CNI plugin once more when it ends.
  const variables = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"].concat(
    Object.entries(host.env).map(([name, value]) => `${name}=${value}`),
  );
  const conf = join(host.folder, "containers.conf");
  const socket = join(host.folder, "podman.sock");
  writeFileSync(
    conf,
    `[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
conmon_env_vars = ${JSON.stringify(variables)}
[network]
network_backend = "cni"
cni_plugin_dirs = [${JSON.stringify(host.binDir)}, "/usr/lib/cni"]
network_config_dir = ${JSON.stringify(host.confDir)}
`,
  );
  const env = { ...process.env, ...host.env, CONTAINERS_CONF: conf };
  const stored = [
    "--root",
    join(host.folder, "storage"),
    "--runroot",
    join(host.folder, "runroot"),
    "--storage-driver",
    "vfs",
  ];
  const command = (...args: string[]) => entered(host, "podman", ...stored, ...args);
  const run = async (...args: string[]) => (await must(command(...args), { env })).trim();
  const attempt = (...args: string[]) => exec(command(...args), { env });
  await run("import", await busyboxImage(host.folder), "busybox:test");
  const service = api
    ? Bun.spawn(command("system", "service", "--time=0", `unix://${socket}`), {
        env,
        stdout: "ignore",
        stderr: "ignore",
      })
    : undefined;
  if (service) await eventually("podman's API is there", () => existsSync(socket), Boolean);
  return {
    name: "podman",
    socket,
    run,
    attempt,
    async end() {
      await exec(command("rm", "-af", "-t", "0"), { env });
      service?.kill();
      await service?.exited;
      await unmountBelow(host.folder);
    },
  };
}

const NO_NETWORK = ["--iptables=false", "--ip6tables=false", "--bridge=none"];

/** dockerd on a host, with no network of its own unless other options say so. */
export async function startDocker(host: Host, options: readonly string[] = NO_NETWORK): Promise<Runtime> {
  const folder = join(host.folder, "docker");
  mkdirSync(folder);
  const socket = join(folder, "docker.sock");
  const daemon = Bun.spawn(
    entered(
      host,
      "dockerd",
      `--host=unix://${socket}`,
      `--data-root=${join(folder, "data")}`,
      `--exec-root=${join(folder, "exec")}`,
      `--pidfile=${join(folder, "docker.pid")}`,
      "--storage-driver=vfs",
      ...options,
    ),
    { stdout: "ignore", stderr: Bun.file(join(folder, "log")), env: process.env },
  );
  const command = (...args: string[]) => ["docker", `--host=unix://${socket}`, ...args];
  const run = async (...args: string[]) => (await must(command(...args))).trim();
  const attempt = (...args: string[]) => exec(command(...args));
  await eventually(
    "dockerd answers",
    async () => (await exec(command("version"))).code,
    (code) => code === 0,
  );
  await run("import", await busyboxImage(host.folder), "busybox:test");
  return {
    name: "docker",
    socket,
    run,
    attempt,
    async end() {
      const { stdout } = await exec(command("ps", "-aq"));
      const ids = stdout.split("\n").filter(Boolean);
      if (ids.length > 0) await exec(command("rm", "-f", ...ids));
      daemon.kill();
      await daemon.exited;
      await unmountBelow(host.folder);
    },
  };
}
