// What a kubelet does with the pod of our DaemonSet, as far as that goes by the manifest: its containers run from the
// image's files, in a mount and a process namespace each, with the folders and the few devices of a container, the
// environment, the commands and the capabilities that the manifest says; and are asked by its probes.
import { closeSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { detached } from "../../lib/log/unexpected.ts";
import { eventually, exec, type Host, type Output } from "./hosts.ts";

const Probe = v.object({ httpGet: v.object({ host: v.string(), path: v.string(), port: v.number() }) });
const Container = v.object({
  name: v.string(),
  image: v.string(),
  command: v.array(v.string()),
  env: v.optional(
    v.array(
      v.object({
        name: v.string(),
        value: v.optional(v.string()),
        valueFrom: v.optional(
          v.object({
            fieldRef: v.optional(v.object({ fieldPath: v.literal("spec.nodeName") })),
            secretKeyRef: v.optional(v.object({ name: v.string(), key: v.string() })),
          }),
        ),
      }),
    ),
    [],
  ),
  securityContext: v.object({
    privileged: v.optional(v.boolean(), false),
    readOnlyRootFilesystem: v.optional(v.boolean(), false),
    allowPrivilegeEscalation: v.optional(v.boolean(), true),
    capabilities: v.optional(v.object({ drop: v.tuple([v.literal("ALL")]), add: v.array(v.string()) })),
  }),
  volumeMounts: v.optional(
    v.array(
      v.object({
        name: v.string(),
        mountPath: v.string(),
        readOnly: v.optional(v.boolean(), false),
        mountPropagation: v.optional(v.literal("HostToContainer")),
      }),
    ),
    [],
  ),
  readinessProbe: v.optional(Probe),
  livenessProbe: v.optional(Probe),
});
type Container = v.InferOutput<typeof Container>;

const DaemonSet = v.object({
  kind: v.literal("DaemonSet"),
  spec: v.object({
    template: v.object({
      spec: v.object({
        hostNetwork: v.literal(true),
        initContainers: v.array(Container),
        containers: v.array(Container),
        volumes: v.array(
          v.object({
            name: v.string(),
            hostPath: v.object({ path: v.string(), type: v.picklist(["DirectoryOrCreate", "FileOrCreate"]) }),
          }),
        ),
      }),
    }),
  }),
});

/** What containers of all nodes have in common. */
export interface Cluster {
  /** What `weave manifest kubernetes` has printed. */
  readonly manifest: string;
  /** The files of the image. */
  readonly image: string;
  /** Folder with the token and the CA of the service account. */
  readonly account: string;
  readonly server: { readonly host: string; readonly port: number };
  readonly secrets?: Record<string, string>;
}

interface Running {
  readonly container: Container;
  readonly child: Bun.Subprocess;
  log: string;
}

/** The pod of one node; the node has the name of its host. */
export class Kubelet {
  readonly #spec: v.InferOutput<typeof DaemonSet>["spec"]["template"]["spec"];
  readonly #running = new Map<string, Running>();

  constructor(
    private readonly cluster: Cluster,
    readonly host: Host,
  ) {
    const { items } = Bun.YAML.parse(cluster.manifest) as { items: { kind: string }[] };
    this.#spec = v.parse(
      DaemonSet,
      items.find(({ kind }) => kind === "DaemonSet"),
    ).spec.template.spec;
  }

  /** What a container has written. */
  log(name: string): string {
    return this.#running.get(name)?.log ?? "";
  }

  /** Starts the pod: init containers one after the other, then the rest. */
  async start(): Promise<void> {
    for (const container of this.#spec.initContainers) {
      const running = this.#run(container);
      if ((await running.child.exited) !== 0)
        throw new Error(`${this.host.name}: ${container.name} failed: ${running.log}`);
    }
    for (const container of this.#spec.containers) this.#running.set(container.name, this.#run(container));
  }

  /** Waits until all its probes say yes. */
  async ready(): Promise<void> {
    for (const { name, readinessProbe, livenessProbe } of this.#spec.containers) {
      for (const probe of [readinessProbe, livenessProbe]) {
        if (!probe) continue;
        const { host, path, port } = probe.httpGet;
        await eventually(
          `${this.host.name}: ${name} answers ${path}`,
          async () => {
            const url = `http://${host}:${port}${path}`;
            const { stdout } = await this.host.exec([
              "curl",
              "-s",
              "-m",
              "2",
              "-w",
              "%{http_code}",
              "-o",
              "/dev/null",
              url,
            ]);
            return stdout === "200" ? "ready" : `${stdout}; its log: ${this.log(name)}`;
          },
          (text) => text === "ready",
          60_000,
        );
      }
    }
  }

  /** Ends the pod as a kubelet does: SIGTERM, and that is enough. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    for (const running of this.#running.values()) {
      const pid = firstProcess(running.child.pid);
      if (pid !== undefined) process.kill(pid, signal);
    }
    for (const { child } of this.#running.values()) await child.exited;
    this.#running.clear();
  }

  /** Runs a command in a container, as `kubectl exec` does. */
  exec(name: string, ...command: string[]): Promise<Output> {
    const running = this.#running.get(name);
    const pid = running && firstProcess(running.child.pid);
    if (pid === undefined) throw new Error(`${name} does not run on ${this.host.name}`);
    return exec(["nsenter", "-t", String(pid), "-m", "-n", "-p", "-r", "-w", ...command]);
  }

  #run(container: Container): Running {
    const { image } = this.cluster;
    const lines = [
      "set -e",
      `mount --bind ${image} ${image}`,
      `mkdir -p ${image}/proc ${image}/sys ${image}/dev`,
      `mount -t proc proc ${image}/proc`,
      `mount -t sysfs sysfs ${image}/sys`,
      ...(container.securityContext.privileged ? [`mount --rbind /dev ${image}/dev`] : unprivileged(image)),
      ...container.volumeMounts.flatMap((mount) => this.#mount(mount)),
      ...this.#bind(this.cluster.account, "/var/run/secrets/kubernetes.io/serviceaccount", true),
      ...(container.securityContext.readOnlyRootFilesystem ? [`mount -o remount,bind,ro ${image}`] : []),
      `exec /usr/bin/env -i ${this.#environment(container).map(quoted).join(" ")} ${capabilities(container)} chroot ${image} ${container.command.map(quoted).join(" ")}`,
    ];
    const child = Bun.spawn(
      this.host.command(
        ...["unshare", "--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child"],
        // Its mount and mkdir are no programs of their own.
        ...["busybox", "sh", "-c", lines.join("\n")],
      ),
      { stdout: "pipe", stderr: "pipe", stdin: "ignore" },
    );
    const running: Running = { container, child, log: "" };
    for (const stream of [child.stdout, child.stderr]) {
      const read = async () => {
        for await (const chunk of stream) running.log += new TextDecoder().decode(chunk);
      };
      detached("log of a container", read());
    }
    return running;
  }

  #mount({ name, mountPath, readOnly, mountPropagation }: Container["volumeMounts"][number]): string[] {
    const volume = this.#spec.volumes.find((each) => each.name === name);
    if (!volume) throw new Error(`the manifest has no volume ${name}`);
    const { path, type } = volume.hostPath;
    // What the kernel has is there for all hosts.
    const shared = ["/run/netns", "/lib/modules", "/proc/sys/net", "/dev/net"].includes(path);
    const from = shared ? path : join(this.host.folder, "root", path);
    if (type === "DirectoryOrCreate") mkdirSync(from, { recursive: true });
    else {
      mkdirSync(dirname(from), { recursive: true });
      closeSync(openSync(from, "a"));
    }
    return this.#bind(from, mountPath, readOnly, mountPropagation !== undefined);
  }

  #bind(from: string, at: string, readOnly: boolean, follow = false): string[] {
    const target = join(this.cluster.image, at);
    return [
      statSync(from).isDirectory() ? `mkdir -p ${target}` : `mkdir -p ${dirname(target)}; touch ${target}`,
      `mount ${follow ? "--rbind" : "--bind"} ${from} ${target}`,
      ...(readOnly && !follow ? [`mount -o remount,bind,ro ${target}`] : []),
    ];
  }

  #environment({ env }: Container): string[] {
    const { server, secrets } = this.cluster;
    const own = env.map(({ name, value, valueFrom }) => {
      const secret = valueFrom?.secretKeyRef;
      return `${name}=${valueFrom?.fieldRef ? this.host.name : secret ? secrets?.[`${secret.name}/${secret.key}`] : value}`;
    });
    const given = [`KUBERNETES_SERVICE_HOST=${server.host}`, `KUBERNETES_SERVICE_PORT=${server.port}`];
    return ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", ...given, ...own];
  }
}

/** What a runtime gives containers that are not privileged: few devices, and settings of the kernel to read. */
function unprivileged(image: string): string[] {
  const devices = ["null", "zero", "full", "random", "urandom"];
  return [
    `mount -t tmpfs dev ${image}/dev`,
    ...devices.map((name) => `touch ${image}/dev/${name}; mount --bind /dev/${name} ${image}/dev/${name}`),
    ...["proc/sys", "sys"].flatMap((path) => [
      `mount --bind ${image}/${path} ${image}/${path}`,
      `mount -o remount,bind,ro ${image}/${path}`,
    ]),
  ];
}

/** setpriv(1) takes away all capabilities but those that the container has (and that to get into its files). */
function capabilities({ securityContext }: Container): string {
  if (securityContext.privileged) return "";
  const kept = ["SYS_CHROOT", ...(securityContext.capabilities?.add ?? [])].map(
    (name) => `+${name.toLowerCase()}`,
  );
  const escalation = securityContext.allowPrivilegeEscalation ? "" : " --no-new-privs";
  return `setpriv${escalation} --bounding-set=-all,${kept.join(",")} --inh-caps=-all`;
}

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** The process that a container began with, by the process that has made its namespaces. */
function firstProcess(parent: number): number | undefined {
  try {
    const children = readFileSync(`/proc/${parent}/task/${parent}/children`, "utf8").trim().split(" ");
    return Number(children[0]) || undefined;
  } catch {
    return undefined;
  }
}
