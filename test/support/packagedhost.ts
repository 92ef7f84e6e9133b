// A host of its own file system: overlays over this machine's folders, in a mount namespace, where package managers install,
// upgrade and remove for real. All of it is gone with the processes in it.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, exec, type Host, must, type Output } from "./hosts.ts";

/** Folders that packages write to. */
const FOLDERS = ["usr", "etc", "var", "opt"];

/** What a run of weave may have left on this machine is not on the host. */
const mounts = (folder: string) => `set -e
mount -t tmpfs weave-test ${folder}
mkdir ${folder}/netns ${folder}/home
mount --bind /run/netns ${folder}/netns
for each in ${FOLDERS.join(" ")}; do
  mkdir -p ${folder}/$each/upper ${folder}/$each/work
  mount -t overlay overlay -o lowerdir=/$each,upperdir=${folder}/$each/upper,workdir=${folder}/$each/work /$each
done
rm -rf /var/lib/weave /etc/default/weave
# The index of manual pages, which their package makes anew after each change, is not our subject.
rm -f /var/lib/man-db/auto-update
mount -t tmpfs weave-test /run
mkdir -p /run/netns /opt/cni/bin /etc/cni/net.d
mount --bind ${folder}/netns /run/netns
echo $$ > ${folder}/ready
exec sleep infinity
`;

export class PackagedHost {
  private constructor(
    readonly host: Host,
    readonly folder: string,
    readonly pid: number,
  ) {}

  /** Give a host overlays; they end with the processes of its namespace. */
  static async create(host: Host): Promise<PackagedHost> {
    const folder = join(host.folder, "root");
    mkdirSync(folder, { recursive: true });
    const script = join(host.folder, "mounts.sh");
    writeFileSync(script, mounts(folder));
    const { pid } = Bun.spawn(host.command("unshare", "-m", "--propagation", "slave", "sh", script), {
      stdio: ["ignore", "ignore", "inherit"],
    });
    const packaged = new PackagedHost(host, folder, pid);
    await eventually(
      "the overlays are mounted",
      () => packaged.exec("test", "-s", join(folder, "ready")),
      ({ code }) => code === 0,
    );
    return packaged;
  }

  /** A command line that runs in the host's namespaces. */
  command(...command: string[]): string[] {
    return ["nsenter", "-t", String(this.pid), "-m", "-n", ...command];
  }

  exec(...command: string[]): Promise<Output> {
    return exec(this.command(...command), { env: this.#env });
  }

  must(...command: string[]): Promise<string> {
    return must(this.command(...command), { env: this.#env });
  }

  /** Debian's rpm has its database in the home folder. */
  get #env(): Record<string, string> {
    return { WEAVE_PASSWORD: "", HOME: join(this.folder, "home") };
  }

  /** Paths of files that were written over the machine's own, and are still there, sorted. */
  async written(): Promise<string[]> {
    const found = await this.must(
      ...[
        "find",
        ...FOLDERS.map((each) => join(this.folder, each, "upper")),
        "-type",
        "f",
        "-o",
        "-type",
        "l",
      ],
    );
    return found
      .split("\n")
      .filter(Boolean)
      .map((path) => path.slice(this.folder.length).replace("/upper/", "/"))
      .sort();
  }
}
