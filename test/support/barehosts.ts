// Hosts as a newcomer has them: each with its own /etc, /run, /var, /opt, /usr/local and host name, so that commands of
// the manual run as they stand, with the folders that are the default.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, eventually, exec, type Host, Hosts, must, type Output } from "./hosts.ts";

const OWN_FOLDERS = ["/etc", "/var", "/opt", "/usr/local", "/root", "/home"];

/** One host; commands run in its namespaces. */
export interface BareHost {
  readonly name: string;
  readonly host: Host;
  /** A shell's command line as root in /root, on the host; ended after `timeoutMs`. */
  shell(command: string, timeoutMs?: number): Promise<Output>;
  /** The command line that runs another in the host's namespaces. */
  entered(...command: string[]): string[];
}

/** Hosts that know each other by name; `weave` lies in /root, as if it were copied there. */
export class BareHosts {
  readonly hosts: BareHost[] = [];
  readonly #init: Bun.Subprocess[] = [];

  private constructor(readonly network: Hosts) {}

  static async create(name: string, count: number): Promise<BareHosts> {
    const bare = new BareHosts(await Hosts.create(name, count));
    try {
      for (const host of bare.network.hosts) bare.hosts.push(await bare.#boot(host));
      return bare;
    } catch (error) {
      await bare[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #boot(host: Host): Promise<BareHost> {
    const disk = join(host.folder, "disk");
    mkdirSync(disk);
    const names = this.network.hosts.map(({ name, ip }) => `${ip} ${name}\n`).join("");
    writeFileSync(join(host.folder, "hosts"), `127.0.0.1 localhost\n${names}`);
    const overlays = OWN_FOLDERS.map((folder, i) => {
      const at = `${disk}/${i}`;
      return `mkdir -p ${at}/up ${at}/work
mount -t overlay -o lowerdir=${folder},upperdir=${at}/up,workdir=${at}/work overlay ${folder}`;
    });
    const script = [
      "set -e",
      `hostname ${host.name}`,
      `mount -t tmpfs tmpfs ${disk}`,
      ...overlays,
      "mount -t tmpfs tmpfs /run",
      `cp ${join(host.folder, "hosts")} /etc/hosts`,
      "rm -rf /etc/cni /opt/cni /var/lib/weave /etc/docker",
      "mkdir -p /etc/docker /run/lock",
      `echo '{"storage-driver": "vfs"}' > /etc/docker/daemon.json`,
      `echo ready; exec sleep infinity`,
    ].join("\n");
    const init = Bun.spawn(
      [
        // Not by `ip netns exec`: its /sys has no control groups, which dockerd wants to see.
        ...["nsenter", `--net=/run/netns/${host.netns}`],
        ...["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", script],
      ],
      { stdout: "pipe", stderr: "inherit" },
    );
    this.#init.push(init);
    const { value } = await init.stdout.getReader().read();
    if (!value) throw new Error(`${host.name} does not boot`);
    const entered = (...command: string[]) => [
      ...["nsenter", `--target=${init.pid}`, "--mount", "--uts", "--net"],
      ...[
        "env",
        "--chdir=/root",
        "-i",
        "HOME=/root",
        "TERM=dumb",
        "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      ],
      ...command,
    ];
    await must(entered("sh", "-c", "rm -rf /root/weave"));
    await must(entered("cp", join(DIST, "weave"), "/root/weave"));
    return {
      name: host.name,
      host,
      entered,
      shell: (command, timeoutMs = 60_000) =>
        exec(entered("bash", "-euo", "pipefail", "-c", command), { timeoutMs }),
    };
  }

  host(i: number): BareHost {
    const host = this.hosts[i - 1];
    if (!host) throw new Error(`there is no host ${i}`);
    return host;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Containers outlive their dockerd.
    const remove = "docker ps -aq 2> /dev/null | xargs -r docker rm -f";
    for (const { entered } of this.hosts) await exec(entered("sh", "-c", remove));
    this.network.disposeSync();
    for (const init of this.#init) {
      init.kill("SIGKILL");
      await init.exited;
    }
  }
}

/** dockerd with its own bridge, and containers of these names of an image alpine (a tar), as a newcomer has them. */
export async function startDocker(host: BareHost, image: string, names: readonly string[]): Promise<void> {
  Bun.spawn(host.entered("dockerd"), { stdout: "ignore", stderr: "ignore" });
  await eventually(
    "dockerd answers",
    () => host.shell("docker version"),
    ({ code }) => code === 0,
    30_000,
  );
  await must(host.entered("docker", "import", image, "alpine"));
  for (const name of names)
    await must(host.entered("docker", "run", "-d", "--name", name, "alpine", "/bin/sleep", "3600"));
}
