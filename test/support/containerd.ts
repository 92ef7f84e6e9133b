// containerd on a host of a test, asked by its CRI socket as a kubelet does.
import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Client, credentials, loadPackageDefinition, type ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import * as v from "valibot";
import { textOf } from "../../lib/sys/textfile.ts";
import { eventually, type Host, must } from "./hosts.ts";
import { busyboxImage, unmountBelow } from "./runtimes.ts";

const IMAGE = "localhost/pause:test";
/** Longer than any call may take, of many at once on a busy machine: a hung router must not hang the runtime. */
const DEADLINE_MS = 120_000;

interface SandboxPort {
  /** TCP 0, UDP 1 */
  readonly protocol: number;
  readonly container_port: number;
  readonly host_port: number;
  readonly host_ip?: string;
}

const Ran = v.object({ pod_sandbox_id: v.string() });
const Status = v.object({ status: v.object({ state: v.number(), network: v.object({ ip: v.string() }) }) });
const List = v.object({ items: v.array(v.object({ id: v.string() })) });

type Method = (
  request: object,
  options: { deadline: number },
  done: (error: ServiceError | null, answer: unknown) => void,
) => void;
type Service = new (address: string, access: ReturnType<typeof credentials.createInsecure>) => Client;

/** The archive of an image whose process answers over HTTP, at /cgi-bin/who, with its host name. */
async function pauseImage(host: Host): Promise<string> {
  const folder = join(host.folder, "pause");
  const [root, archive] = [join(folder, "root"), join(folder, "image.tar")];
  mkdirSync(join(root, "www/cgi-bin"), { recursive: true });
  await must(["tar", "-C", root, "-xf", await busyboxImage(host.folder)]);
  symlinkSync("busybox", join(root, "bin/hostname"));
  const who = "#!/bin/sh\nprintf '\\r\\n'\nhostname\n";
  writeFileSync(join(root, "www/cgi-bin/who"), who, { mode: 0o755 });
  const layer = join(folder, "layer.tar");
  await must(["tar", "-C", root, "-cf", layer, "."]);
  const hash = new Bun.CryptoHasher("sha256").update(await Bun.file(layer).bytes()).digest("hex");
  const config = {
    architecture: "amd64",
    os: "linux",
    config: { Entrypoint: ["/bin/httpd", "-f", "-p", "80", "-h", "/www"] },
    rootfs: { type: "layers", diff_ids: [`sha256:${hash}`] },
  };
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  const manifest = [{ Config: "config.json", RepoTags: [IMAGE], Layers: ["layer.tar"] }];
  writeFileSync(join(folder, "manifest.json"), JSON.stringify(manifest));
  await must(["tar", "-C", folder, "-cf", archive, "manifest.json", "config.json", "layer.tar"]);
  return archive;
}

/** Processes that run from images below a folder. */
function sandboxProcesses(folder: string): number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter(
      (pid) =>
        pid > 1 && /^\d+ \d+ \S+ (\S+) \/ /m.exec(textOf(`/proc/${pid}/mountinfo`))?.[1]?.startsWith(folder),
    );
}

export class Containerd {
  readonly #socket: string;
  readonly #config: string;
  #process: Bun.Subprocess | undefined;
  #client: Client | undefined;

  private constructor(private readonly host: Host) {
    this.#socket = join(host.folder, "containerd.sock");
    this.#config = join(host.folder, "containerd.toml");
  }

  /** Start it, with the plugin and the configuration that `weave setup` installs. */
  static async start(host: Host): Promise<Containerd> {
    await host.weave("setup", "--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir);
    symlinkSync("/usr/lib/cni/loopback", join(host.binDir, "loopback"));
    const made = new Containerd(host);
    const path = (name: string) => JSON.stringify(join(host.folder, "containerd", name));
    const cri = 'plugins."io.containerd.grpc.v1.cri"';
    writeFileSync(
      made.#config,
      `version = 2
root = ${path("root")}
state = ${path("state")}
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = ${JSON.stringify(made.#socket)}
[${cri}]
sandbox_image = "${IMAGE}"
netns_mounts_under_state_dir = true
restrict_oom_score_adj = true
[${cri}.containerd]
snapshotter = "native"
[${cri}.cni]
bin_dir = ${JSON.stringify(host.binDir)}
conf_dir = ${JSON.stringify(host.confDir)}
`,
    );
    await made.run();
    const archive = await pauseImage(host);
    await must(["ctr", "--address", made.#socket, "-n", "k8s.io", "images", "import", archive]);
    return made;
  }

  /** Run the daemon (again), until it answers. */
  async run(): Promise<void> {
    // `ip netns exec` mounts a /sys of its own, without the control groups that runc wants to see.
    this.#process = Bun.spawn(
      ["nsenter", `--net=/run/netns/${this.host.netns}`, "containerd", "--config", this.#config],
      {
        env: { ...process.env, ...this.host.env },
        stdout: "ignore",
        stderr: Bun.file(join(this.host.folder, "containerd.log")),
      },
    );
    const definition = loadPackageDefinition(
      loadSync(join(import.meta.dir, "cri.proto"), { keepCase: true, defaults: true }),
    ) as unknown as { runtime: { v1: { RuntimeService: Service } } };
    this.#client?.close();
    this.#client = new definition.runtime.v1.RuntimeService(
      `unix://${this.#socket}`,
      credentials.createInsecure(),
    );
    await eventually(
      "containerd answers",
      () => this.#call("Status", {}).then(String, String),
      (answer) => answer === "[object Object]",
    );
  }

  /** End the daemon as suddenly as can be; sandboxes go on. */
  async kill(): Promise<void> {
    this.#process?.kill("SIGKILL");
    await this.#process?.exited;
  }

  /** Run a sandbox that answers HTTP on port 80; resolves with its id. Rejects with the reason. */
  async runSandbox(name: string, ports: readonly SandboxPort[] = []): Promise<string> {
    const config = {
      metadata: { name, uid: `uid-of-${name}`, namespace: "default", attempt: 0 },
      hostname: name,
      log_directory: join(this.host.folder, "logs"),
      port_mappings: ports,
    };
    return v.parse(Ran, await this.#call("RunPodSandbox", { config })).pod_sandbox_id;
  }

  async address(id: string): Promise<string> {
    return v.parse(Status, await this.#call("PodSandboxStatus", { pod_sandbox_id: id })).status.network.ip;
  }

  /** Stop a sandbox, which calls DEL; again for one that has stopped. */
  async stop(id: string): Promise<void> {
    await this.#call("StopPodSandbox", { pod_sandbox_id: id });
  }

  /** Remove a sandbox, after another DEL. */
  async remove(id: string): Promise<void> {
    await this.#call("RemovePodSandbox", { pod_sandbox_id: id });
  }

  async sandboxes(): Promise<string[]> {
    return v.parse(List, await this.#call("ListPodSandbox", {})).items.map(({ id }) => id);
  }

  async end(): Promise<void> {
    for (const id of await this.sandboxes().catch(() => [])) {
      await this.stop(id).catch(() => {});
      await this.remove(id).catch(() => {});
    }
    this.#client?.close();
    this.#process?.kill();
    await this.#process?.exited;
    // Sandboxes of a daemon that could not be asked any more.
    for (const pid of sandboxProcesses(this.host.folder)) process.kill(pid, "SIGKILL");
    await unmountBelow(this.host.folder);
    rmSync(this.#socket, { force: true });
  }

  #call(method: string, request: object): Promise<unknown> {
    const client = this.#client as unknown as Record<string, Method>;
    const deadline = Date.now() + DEADLINE_MS;
    return new Promise((resolve, reject) =>
      client[method]?.call(client, request, { deadline }, (error, answer) =>
        error ? reject(new Error(error.details)) : resolve(answer),
      ),
    );
  }
}
