// The world of a chaos run: hosts on a switch, behind a network that can be made bad, each with a router, a policy controller
// and a small disk; an API server beside them; and containers. Nothing here decides anything.
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { type ApiClient, apiClient } from "../../lib/api/client.ts";
import { ApiServer, TOKEN } from "../support/apiserver.ts";
import { DIST, exec, type Host, Hosts, must } from "../support/hosts.ts";
import type { Treatment } from "../support/relay.ts";
import { compileClock, READ_ONLY } from "./clockshim.ts";
import { Mailbox } from "./mailbox.ts";
import type { Drop } from "./model.ts";
import { NAMESPACE, type Role } from "./policies.ts";

/** Where the API server listens, on the switch. */
const API = "10.99.0.200";
const DISK = "size=16m";
/** A file that fills a disk. */
export const FILLER = "filler";
const PASSWORD = "chaos-s3cr3t";
const CNI = { cniVersion: "1.0.0", name: "weave", type: "weave-net" };
/** Of a CNI call: a runtime gives up, too. */
const CNI_MS = 20_000;
const CALL_MS = 10_000;

export interface LaunchOptions {
  /** Of the peer; its own unless given. */
  readonly name?: string;
  readonly wrongPassword?: boolean;
}

export interface WorldOptions {
  /** How many, without the spare one. */
  readonly hosts: number;
  readonly encrypted: boolean;
  /** Folder of the executables of another version, which hosts may run instead of ours. */
  readonly old?: string | undefined;
}

export class World {
  readonly mailbox = new Mailbox();
  readonly api: ApiServer;
  /** Sets what the network does to frames of host 2. */
  #treat: (treatment: Treatment) => void = () => {};
  /** Containers at the time of a copy, by host. */
  readonly #copied = new Map<number, readonly string[]>();
  readonly #npcs = new Map<number, Bun.Subprocess>();
  /** Names of namespaces by container. */
  readonly #netns = new Map<string, string>();
  #clock = false;
  /** Hosts that run the other version. */
  readonly #old = new Set<number>();

  private constructor(
    readonly hosts: Hosts,
    readonly options: WorldOptions,
  ) {
    this.api = new ApiServer(`/run/netns/${hosts.hub}`, 6443, API);
  }

  static async create(name: string, options: WorldOptions): Promise<World> {
    const world = new World(await Hosts.create(name, options.hosts + 1), options);
    try {
      await world.#build();
      return world;
    } catch (error) {
      await world.dispose();
      throw error;
    }
  }

  async #build(): Promise<void> {
    const { hosts } = this.hosts;
    const clock = await compileClock(this.hosts.folder);
    if (clock) await this.#installClock(clock);
    const beside = await this.hosts.beside(API);
    // Its answers find their way through a narrow path by themselves.
    await must(["nsenter", `--net=${beside}`, "sysctl", "-qw", "net.ipv4.tcp_mtu_probing=1"]);
    this.api.start();
    this.api.apply({ kind: "Namespace", metadata: { name: NAMESPACE, labels: { name: NAMESPACE } } });
    writeFileSync(join(this.hosts.folder, "kubeconfig"), this.api.kubeconfig("token"));
    writeFileSync(join(this.hosts.folder, "token"), `${TOKEN}\n`);
    for (const host of hosts) {
      mkdirSync(this.disk(host));
      await must(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", this.disk(host)]);
    }
    this.#treat = await this.hosts.impair(this.hosts.host(2));
    await Promise.all(this.numbers.map((i) => this.launch(i)));
    await Promise.all(this.numbers.map((i) => this.host(i).weave("expose")));
    for (const i of this.numbers) this.startNpc(i);
  }

  /** Puts `weave` beside a router that sees another clock: launch hands the variable that does it to no daemon. */
  async #installClock(library: string): Promise<void> {
    for (const dist of this.#dists) {
      const bin = this.#bin(dist);
      mkdirSync(bin);
      const [weave, router] = [join(bin, "weave"), join(bin, "weave-router")];
      writeFileSync(weave, "");
      await must(["mount", "--bind", join(dist, "weave"), weave]);
      writeFileSync(router, `#!/bin/sh\nLD_PRELOAD=${library} exec ${join(dist, "weave-router")} "$@"\n`);
      chmodSync(router, 0o755);
    }
    this.#clock = true;
  }

  get #dists(): string[] {
    return this.options.old === undefined ? [DIST] : [DIST, this.options.old];
  }

  #bin(dist: string): string {
    return join(this.hosts.folder, dist === DIST ? "bin" : "oldbin");
  }

  /** Lets a host run the other version from its next launch on, or ours again. Throws where there is none. */
  exchange(i: number): "old" | "ours" {
    if (this.options.old === undefined) throw new Error("there is no other version: name it with --old");
    if (this.#old.delete(i)) return "ours";
    this.#old.add(i);
    return "old";
  }

  /** Numbers of all hosts but the spare one. */
  get numbers(): number[] {
    return Array.from({ length: this.options.hosts }, (_, i) => i + 1);
  }

  /** Number of a host that runs nothing by itself. */
  get spare(): number {
    return this.options.hosts + 1;
  }

  /** Name of the peer that a host is. */
  async peerName(i: number): Promise<string> {
    return (await this.host(i).report("{{.Router.Name}}")).trim();
  }

  host(i: number): Host {
    return this.hosts.host(i);
  }

  /** Folder of a host's state, a disk of its own. */
  disk(host: Host): string {
    return join(host.folder, "lib");
  }

  get canSetClocks(): boolean {
    return this.#clock;
  }

  /** Of addresses: small, so that it can be used up. */
  readonly range = "10.32.0.0/24";

  /** Names of peers that are gone for good. */
  readonly departed: string[] = [];

  /** Sets the wall clock of a host this many seconds off. */
  setClock(i: number, seconds: number): void {
    writeFileSync(this.#offset(i), String(seconds));
  }

  /** Makes a host's disk read-only, for files that are open, too; or no longer. */
  async setReadOnly(i: number, readOnly: boolean): Promise<void> {
    const disk = this.disk(this.host(i));
    if (readOnly) {
      writeFileSync(`${this.#offset(i)}${READ_ONLY}`, "");
      await must(["mount", "--bind", disk, disk]);
      await must(["mount", "-o", "remount,bind,ro", disk]);
    } else {
      await must(["umount", disk]);
      rmSync(`${this.#offset(i)}${READ_ONLY}`);
    }
  }

  #offset(i: number): string {
    return join(this.hosts.folder, `offset${i}`);
  }

  /** The control API of a host's router. */
  call(i: number): ApiClient {
    const api = apiClient(join(this.host(i).folder, "run/weave.sock"));
    return (method, path, options) => api(method, path, { timeoutMs: CALL_MS, ...options });
  }

  /** Launches the router of a host. */
  async launch(i: number, { name, wrongPassword }: LaunchOptions = {}): Promise<void> {
    const host = this.host(i);
    if (!existsSync(this.#offset(i))) this.setClock(i, 0);
    const others = this.numbers.filter((each) => each !== i).map((each) => this.host(each).ip);
    const own = ["--expect-npc", "--docker-api=", "--docker-bridge=", `--nickname=${host.name}`];
    const options = [
      ...(wrongPassword ? ["--password=wrong"] : this.options.encrypted ? [`--password=${PASSWORD}`] : []),
      ...(name === undefined ? [] : [`--name=${name}`]),
      `--ipalloc-init=consensus=${this.options.hosts}`,
      `--ipalloc-range=${this.range}`,
    ];
    const dist = this.#old.has(i) ? (this.options.old ?? DIST) : DIST;
    const weave = join(this.#clock ? this.#bin(dist) : dist, "weave");
    await host.must([weave, "launch", ...own, ...options, ...others], {
      env: { CLOCK_OFFSET_FILE: this.#offset(i) },
    });
  }

  /** Starts the policy controller of a host. */
  startNpc(i: number): void {
    const host = this.host(i);
    const log = Bun.file(join(host.folder, "npc.log"));
    const kubeconfig = join(this.hosts.folder, "kubeconfig");
    const npc = [join(DIST, "weave-npc"), "--node-name", host.name, "--kubeconfig", kubeconfig];
    // Appends: what one has said is there when the next one starts.
    const command = host.command("sh", "-c", `exec "$@" 2>> ${log.name}`, "sh", ...npc);
    const env = { ...process.env, ...host.env } as Record<string, string>;
    this.#npcs.set(i, Bun.spawn(command, { env, stdout: "ignore", stderr: "ignore" }));
  }

  /** Process id of a program of a host; undefined where it does not run. */
  pid(i: number, program: "router" | "npc"): number | undefined {
    if (program === "npc") {
      const npc = this.#npcs.get(i);
      return npc && npc.exitCode === null && npc.signalCode === null ? npc.pid : undefined;
    }
    try {
      const pid = Number(readFileSync(join(this.host(i).folder, "run/weave.pid"), "utf8"));
      return pid > 1 && existsSync(`/proc/${pid}`) ? pid : undefined;
    } catch {
      return undefined;
    }
  }

  async kill(i: number, program: "router" | "npc"): Promise<void> {
    if (program === "router") return this.host(i).killRouter();
    const npc = this.#npcs.get(i);
    npc?.kill("SIGKILL");
    await npc?.exited;
  }

  /** Sends a signal that does not end it. */
  signal(i: number, program: "router" | "npc", signal: "SIGSTOP" | "SIGCONT"): void {
    const pid = this.pid(i, program);
    if (pid === undefined) throw new Error(`host ${i} runs no ${program}`);
    process.kill(pid, signal);
  }

  /** Ends all that a host runs, and takes its kernel state away; `change` is done to its disk meanwhile. */
  async reboot(
    i: number,
    containers: readonly string[],
    change: (disk: string) => void = () => {},
  ): Promise<void> {
    const host = this.host(i);
    if (this.pid(i, "router") !== undefined) await host.killRouter();
    await this.kill(i, "npc");
    for (const id of containers) await this.forget(id);
    await this.hosts.reboot(host);
    change(this.disk(host));
  }

  /** Empties a disk. */
  wipe(disk: string): void {
    for (const file of readdirSync(disk)) rmSync(join(disk, file), { recursive: true });
  }

  /** Copies a host's disk, and what its runtime knows of containers, while nothing is written to it. */
  copyDisk(i: number, containers: readonly string[]): void {
    this.#copied.set(i, containers);
    const running = this.pid(i, "router") !== undefined;
    if (running) this.signal(i, "router", "SIGSTOP");
    const copy = this.#copy(i);
    rmSync(copy, { recursive: true, force: true });
    cpSync(this.disk(this.host(i)), copy, { recursive: true, filter: (path) => basename(path) !== FILLER });
    if (running) this.signal(i, "router", "SIGCONT");
  }

  /** Puts the copy in the place of what is on the disk; returns the containers that the runtime had then. */
  restoreDisk(i: number, disk: string): readonly string[] {
    this.wipe(disk);
    cpSync(this.#copy(i), disk, { recursive: true });
    return this.#copied.get(i) ?? [];
  }

  #copy(i: number): string {
    return join(this.hosts.folder, `copy${i}`);
  }

  /** Makes a container by the CNI plugin; returns its address. Throws, and leaves nothing, where the plugin fails. */
  async add(i: number, id: string, role: Role): Promise<string> {
    const path = await this.hosts.pod(id);
    this.#netns.set(id, path.split("/").at(-1) ?? "");
    const { code, stdout, stderr } = await this.#cni(i, "ADD", id, path);
    if (code !== 0) {
      await this.#cni(i, "DEL", id, path);
      await this.#removeNetns(id);
      throw new Error(`ADD of ${id} on host ${i}: exit code ${code}: ${stdout}${stderr}`);
    }
    const address: string = JSON.parse(stdout).ips[0].address.split("/")[0];
    this.mailbox.open(id, path, address);
    this.api.apply(this.#podObject(i, id, role, address));
    return address;
  }

  #podObject(i: number, id: string, role: Role, podIP: string) {
    const host = this.host(i);
    return {
      kind: "Pod",
      metadata: { namespace: NAMESPACE, name: id, uid: id, labels: { role } },
      spec: { nodeName: host.name, containers: [] },
      status: { phase: "Running", podIP, hostIP: host.ip },
    };
  }

  /** Gives a container a name in weave's domain. */
  async name(i: number, id: string, address: string, name: string): Promise<void> {
    const form = new URLSearchParams({ fqdn: `${name}.weave.local.` });
    await this.call(i)("PUT", `/name/${id}/${address}`, { form });
  }

  /** Ends a container by the CNI plugin; throws where that fails. */
  async remove(i: number, id: string): Promise<void> {
    const { code, stdout, stderr } = await this.#cni(i, "DEL", id, this.netns(id));
    await this.forget(id);
    if (code !== 0) throw new Error(`DEL of ${id} on host ${i}: exit code ${code}: ${stdout}${stderr}`);
  }

  /** Tells the plugin of a container that is gone, as a runtime does after a boot. Throws where that fails. */
  async clean(i: number, id: string): Promise<void> {
    const { code, stdout, stderr } = await this.#cni(i, "DEL", id, "");
    if (code !== 0)
      throw new Error(`DEL of ${id}, which is gone, on host ${i}: exit code ${code}: ${stdout}${stderr}`);
  }

  /** Takes a container away without telling anybody but the API server. */
  async forget(id: string): Promise<void> {
    this.mailbox.close(id);
    const pod = this.api.find("Pod", `${NAMESPACE}/${id}`);
    if (pod) this.api.delete(pod);
    await this.#removeNetns(id);
  }

  /** Path of a container's namespace. */
  netns(id: string): string {
    return `/run/netns/${this.#netns.get(id)}`;
  }

  async #removeNetns(id: string): Promise<void> {
    const name = this.#netns.get(id);
    this.#netns.delete(id);
    if (name) await this.hosts.removePod(name);
  }

  #cni(i: number, command: string, id: string, path: string) {
    const env = { CNI_COMMAND: command, CNI_CONTAINERID: id, CNI_NETNS: path, CNI_IFNAME: "eth0" };
    return this.host(i).exec([join(DIST, "weave-net")], {
      stdin: JSON.stringify(CNI),
      env: { ...env, CNI_PATH: "/usr/lib/cni" },
      timeoutMs: CNI_MS,
    });
  }

  /** Drops frames between hosts on the switch. */
  async drop(drops: readonly Drop[]): Promise<void> {
    const rules = drops.map(({ from, to, permille }) => {
      const some = permille >= 1000 ? "" : `numgen random mod 1000 < ${permille} `;
      // Host 2 is behind the bad network.
      const port = (i: number) => (i === 2 ? "far2" : `h${i}`);
      return `iifname ${port(from)} oifname ${port(to)} ${some}drop`;
    });
    const chain = `chain forward {\ntype filter hook forward priority 0;\n${rules.join("\n")}\n}`;
    const ruleset = `table bridge chaos\ndelete table bridge chaos\ntable bridge chaos {\n${chain}\n}\n`;
    await must(["ip", "netns", "exec", this.hosts.hub, "nft", "-f", "-"], { stdin: ruleset });
  }

  /** Makes the network of host 2 a bad one. */
  treat(treatment: Treatment): void {
    this.#treat(treatment);
  }

  async dispose(): Promise<void> {
    this.mailbox.closeAll();
    await this.api.stop();
    for (const npc of this.#npcs.values()) {
      npc.kill("SIGKILL");
      await npc.exited;
    }
    for (const host of this.hosts.hosts) {
      if (existsSync(join(host.folder, "run/weave.pid"))) await host.killRouter();
      // A read-only disk is one over the other.
      for (let i = 0; i < 2; i++) await exec(["umount", "-l", this.disk(host)]);
    }
    if (this.#clock)
      for (const dist of this.#dists) await exec(["umount", "-l", join(this.#bin(dist), "weave")]);
    this.hosts.disposeSync();
  }
}
