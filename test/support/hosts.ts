// "Hosts" on one machine: network namespaces with an address each, on a bridge in a namespace of its own. Everything
// made here is taken away again by `dispose`, whatever happened in between; also when the process is interrupted.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { type ApiClient, apiClient } from "../../lib/api/client.ts";
import { connectionsSummary } from "../../lib/api/summary.ts";
import type { Treatment } from "./relay.ts";

export const DIST = join(import.meta.dir, "../../dist");

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export async function exec(
  command: readonly string[],
  options: { env?: Record<string, string>; stdin?: string; timeoutMs?: number; cwd?: string } = {},
): Promise<Output> {
  const child = Bun.spawn([...command], {
    env: { ...process.env, ...options.env } as Record<string, string>,
    stdin: options.stdin === undefined ? "ignore" : new TextEncoder().encode(options.stdin),
    stdout: "pipe",
    stderr: "pipe",
    timeout: options.timeoutMs ?? 60_000,
    ...(options.cwd !== undefined && { cwd: options.cwd }),
  });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, stdout, stderr };
}

/** Runs a program that has to succeed; returns its standard output. */
export async function must(
  command: readonly string[],
  options: Parameters<typeof exec>[1] = {},
): Promise<string> {
  const { code, stdout, stderr } = await exec(command, options);
  if (code !== 0) throw new Error(`${command.join(" ")}: exit code ${code}\n${stdout}${stderr}`);
  return stdout;
}

/** Runs lines of ip(8), in a namespace where one is named, by one process: it costs more than what it does for a line. */
export async function ipLines(netns: string | undefined, ...lines: readonly string[]): Promise<void> {
  const command = ["ip", ...(netns === undefined ? [] : ["-n", netns]), "-batch", "-"];
  const { code, stderr } = await exec(command, { stdin: lines.join("\n") });
  if (code !== 0) throw new Error(`${command.join(" ")}: exit code ${code}\n${lines.join("\n")}\n${stderr}`);
}

/** Makes a veth where the `ip` command line says, its other end as eth0 in a namespace (by name); MTU in bytes. */
export async function addVeth(
  ip: readonly string[],
  name: string,
  netns: string,
  mtu: number,
): Promise<void> {
  const size = ["mtu", String(mtu)];
  const peer = ["peer", "name", "eth0", ...size, "netns", netns];
  await must([...ip, "link", "add", name, ...size, "type", "veth", ...peer]);
}

/** One host: a namespace, an address, folders of its own for weave's files. */
export class Host {
  constructor(
    readonly name: string,
    readonly ip: string,
    readonly netns: string,
    readonly folder: string,
  ) {}

  get env(): Record<string, string> {
    return {
      WEAVE_RUN_DIR: join(this.folder, "run"),
      WEAVE_STATE_DIR: join(this.folder, "lib"),
      WEAVE_PASSWORD: "",
    };
  }

  get binDir(): string {
    return join(this.folder, "cni/bin");
  }

  get confDir(): string {
    return join(this.folder, "cni/net.d");
  }

  /** A command line that runs in the host's namespace. */
  command(...command: string[]): string[] {
    return ["ip", "netns", "exec", this.netns, ...command];
  }

  exec(command: readonly string[], options: Parameters<typeof exec>[1] = {}): Promise<Output> {
    return exec(this.command(...command), { ...options, env: { ...this.env, ...options.env } });
  }

  must(command: readonly string[], options: Parameters<typeof exec>[1] = {}): Promise<string> {
    return must(this.command(...command), { ...options, env: { ...this.env, ...options.env } });
  }

  /** Runs the compiled `weave`, which has to succeed. */
  weave(...args: string[]): Promise<string> {
    return this.must([join(DIST, "weave"), ...args, ...(args[0] === "reset" ? this.#installed : [])]);
  }

  /** Where setup installs on this host; by default, reset would look in the folders of the machine. */
  get #installed(): string[] {
    const cni = ["--cni-bin-dir", this.binDir, "--cni-conf-dir", this.confDir];
    const podman = [
      "--oci-hooks",
      join(this.folder, "hooks.d"),
      "--netavark-dir",
      join(this.folder, "netavark"),
    ];
    return [
      ...cni,
      ...podman,
      "--systemd-dir",
      join(this.folder, "units"),
      "--systemd-env",
      join(this.folder, "env"),
    ];
  }

  /** What `weave status [PART]` shows, asked of the router itself: a probe that is repeated starts no program. */
  status(part = ""): Promise<string> {
    return this.#api("GET", part === "" ? "/status" : `/status/${part}`);
  }

  /** What `weave status connections --json` shows, asked likewise. */
  async connections(): Promise<ReturnType<typeof connectionsSummary>> {
    return connectionsSummary(JSON.parse(await this.#api("GET", "/report", { accept: "application/json" })));
  }

  /** What `weave report -f FORMAT` shows, asked likewise. */
  report(format: string): Promise<string> {
    return this.#api("GET", `/report?format=${encodeURIComponent(format)}`);
  }

  /** Path of the control API. */
  get socket(): string {
    return join(this.folder, "run/weave.sock");
  }

  get #api(): ApiClient {
    return apiClient(this.socket);
  }

  /** Runs the CNI plugin as a runtime does. */
  cni(
    command: string,
    config: object | string,
    call: { id?: string; netns?: string; ifName?: string; env?: Record<string, string> } = {},
  ): Promise<Output> {
    return this.exec([join(DIST, "weave-net")], {
      stdin: typeof config === "string" ? config : JSON.stringify(config),
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: call.id ?? "",
        CNI_NETNS: call.netns ?? "",
        CNI_IFNAME: call.ifName ?? "eth0",
        CNI_PATH: "/usr/lib/cni",
        ...call.env,
      },
    });
  }

  /** Process id of the router. */
  get pid(): number {
    const pid = Number(readFileSync(join(this.folder, "run/weave.pid"), "utf8"));
    // A signal to 0 goes to the test runner itself.
    if (!(pid > 0)) throw new Error("no router has written its pid");
    return pid;
  }

  /** Ends the router as suddenly as can be; resolves when it is gone. */
  async killRouter(): Promise<void> {
    // One that was stopped has left the number of a process that has ended.
    kill(this.pid);
    const lock = ["flock", "-n", join(this.folder, "run/weave.pid"), "true"];
    await eventually(
      "the router is gone",
      async () => (await exec(lock)).code,
      (code) => code === 0,
    );
  }

  get log(): string {
    const file = join(this.folder, "run/weave.log");
    return existsSync(file) ? readFileSync(file, "utf8") : "";
  }

  /** Wait until the router's log says this: an effect may be seen before its line is written. */
  async logged(what: string | RegExp): Promise<void> {
    await eventually(
      `the log of ${this.name} says ${what}`,
      () => this.log,
      (log) => (typeof what === "string" ? log.includes(what) : what.test(log)),
    );
  }
}

/** Hosts on one switch, and the namespaces of their pods. */
export class Hosts {
  readonly hosts: Host[] = [];
  readonly folder = mkdtempSync(join(tmpdir(), "weave-"));
  readonly #prefix: string;
  readonly #namespaces: string[] = [];
  /** Bridges of hosts behind a bad network. */
  readonly #bridges = new Map<number, string>();
  readonly #onSignal = () => {
    this.disposeSync();
    process.exit(130);
  };

  private constructor(name: string) {
    this.#prefix = `${name}${process.pid}`;
  }

  /** Makes `count` hosts with addresses 10.99.0.1 and on; `mtu` is that of the network between them. */
  static async create(name: string, count: number, mtu = 1500): Promise<Hosts> {
    const hosts = new Hosts(name);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, hosts.#onSignal);
    try {
      await hosts.#build(count, mtu);
      return hosts;
    } catch (error) {
      hosts.disposeSync();
      throw error;
    }
  }

  async #build(count: number, mtu: number): Promise<void> {
    const numbers = Array.from({ length: count }, (_, i) => i + 1);
    const [hub = "", ...namespaces] = await this.#addNamespaces("switch", ...numbers.map((i) => `host${i}`));
    await ipLines(
      hub,
      "link add br0 type bridge",
      `link set br0 up mtu ${mtu}`,
      "link set lo up",
      ...namespaces.flatMap((netns, i) => this.#portLines(i + 1, netns, mtu)),
    );
    for (const [i, netns] of namespaces.entries()) {
      const ip = `10.99.0.${i + 1}`;
      await ipLines(netns, ...hostLines(ip));
      const host = new Host(`host${i + 1}`, ip, netns, join(this.folder, `host${i + 1}`));
      mkdirSync(host.binDir, { recursive: true });
      mkdirSync(host.confDir, { recursive: true });
      this.hosts.push(host);
    }
  }

  /** Name of the namespace of the switch; the port of host 1 is h1. */
  get hub(): string {
    return `${this.#prefix}-switch`;
  }

  /** Lines that connect host `i` to the switch, whose namespace they are for. */
  #portLines(i: number, netns: string, mtu: number): string[] {
    return [
      `link add h${i} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${netns}`,
      `link set h${i} up master ${this.#bridges.get(i) ?? "br0"}`,
    ];
  }

  /** Ends all that runs on a host, as suddenly as can be, and gives it a new kernel state; what is on disk stays. */
  async reboot(host: Host, mtu = 1500): Promise<void> {
    const i = this.hosts.indexOf(host) + 1;
    if (existsSync(join(host.folder, "run/weave.pid"))) await host.killRouter();
    for (const pid of pidsIn(host.netns)) kill(pid);
    // A connection that cannot say good-bye keeps its namespace for minutes, and what is in it.
    await exec(["ip", "-n", host.netns, "link", "del", "eth0"]);
    await must(["ip", "netns", "del", host.netns]);
    rmSync(join(host.folder, "run"), { recursive: true, force: true });
    await eventually(
      "the links of the host are gone",
      () => exec(["ip", "-n", `${this.#prefix}-switch`, "link", "show", `h${i}`]),
      ({ code }) => code !== 0,
    );
    await must(["ip", "netns", "add", host.netns]);
    await ipLines(this.hub, ...this.#portLines(i, host.netns, mtu));
    await ipLines(host.netns, ...hostLines(host.ip));
  }

  /** Makes namespaces of these names, which get a prefix. */
  async #addNamespaces(...names: readonly string[]): Promise<string[]> {
    const namespaces = names.map((name) => `${this.#prefix}-${name}`);
    this.#namespaces.push(...namespaces);
    await ipLines(undefined, ...namespaces.map((netns) => `netns add ${netns}`));
    return namespaces;
  }

  /** Wait until all hosts are connected with all others by this overlay ("a|b": either), and each has heard it. */
  async meshed(overlay = "fastdp"): Promise<void> {
    const others = this.hosts.length - 1;
    const carried = new RegExp(`established.* (?:${overlay}) `);
    for (const host of this.hosts)
      await eventually(
        `${host.name} is connected`,
        () => host.status("connections"),
        (text) => text.split("\n").filter((line) => carried.test(line)).length === others,
      );
    const known = `Peers: ${others + 1} (with ${(others + 1) * others} established connections)`;
    for (const host of this.hosts)
      await eventually(
        `${host.name} has heard of all connections`,
        () => host.status(),
        (text) => text.includes(known),
      );
  }

  /** The host of this number, from 1. */
  host(i: number): Host {
    const host = this.hosts[i - 1];
    if (!host) throw new Error(`there is no host ${i}`);
    return host;
  }

  /** Removes a namespace that `pod` has made, with all processes in it. */
  async removePod(netns: string): Promise<void> {
    for (const pid of pidsIn(netns)) kill(pid);
    await must(["ip", "netns", "del", netns]);
    this.#namespaces.splice(this.#namespaces.indexOf(netns), 1);
  }

  /** An empty network namespace for a pod; returns its path. */
  async pod(name: string): Promise<string> {
    const [netns = ""] = await this.#addNamespaces(name);
    await must(["ip", "-n", netns, "link", "set", "lo", "up"]);
    return `/run/netns/${netns}`;
  }

  /** Gives a host another link to the switch, with an address ("a.b.c.d/len"). */
  async addLink(host: Host, link: string, cidr: string): Promise<void> {
    const hub = `${this.#prefix}-switch`;
    const name = `${link}-${host.name.replace("host", "")}`;
    await ipLines(
      hub,
      `link add ${name} type veth peer name ${link} netns ${host.netns}`,
      `link set ${name} up master br0`,
    );
    await ipLines(host.netns, `addr add ${cidr} dev ${link}`, `link set ${link} up`);
  }

  /** Sets the MTU of the switch's port to a host: larger frames to it are dropped without a word. */
  async narrow(host: Host, mtu: number): Promise<void> {
    const name = host.name.replace("host", "h");
    await must(["ip", "-n", `${this.#prefix}-switch`, "link", "set", name, "mtu", String(mtu)]);
  }

  /** Cuts hosts off from each other, both ways (or lets them talk again). */
  async cut(a: Host, b: Host, cut = true): Promise<void> {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      const route = ["ip", "-n", from.netns, "route", cut ? "add" : "del", "blackhole", to.ip];
      await must(route);
    }
  }

  /** Gives a place beside the hosts an address that they all reach; returns the path of its namespace. */
  async beside(address: string): Promise<string> {
    const hub = `${this.#prefix}-switch`;
    await must(["ip", "-n", hub, "addr", "add", `${address}/24`, "dev", "br0"]);
    return `/run/netns/${hub}`;
  }

  /** Puts a bad network between a host and all others; what it does is set, and set anew, by the function returned. */
  async impair(host: Host): Promise<(treatment: Treatment) => void> {
    const hub = `${this.#prefix}-switch`;
    const name = host.name.replace("host", "");
    const [near, far] = [`near${name}`, `far${name}`];
    const relay = Bun.spawn(
      ["ip", "netns", "exec", hub, process.execPath, join(import.meta.dir, "relay.ts"), near, far],
      { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
    );
    await relay.stdout.getReader().read();
    const ip = (...args: string[]) => must(["ip", "-n", hub, ...args]);
    await ip("link", "add", `bad${name}`, "type", "bridge");
    await ip("link", "set", `bad${name}`, "up");
    this.#bridges.set(Number(name), `bad${name}`);
    for (const [link, bridge] of [
      [near, `bad${name}`],
      [far, "br0"],
      [`h${name}`, `bad${name}`],
    ] as const) {
      await ip("link", "set", link, "up", "master", bridge);
    }
    return (treatment) => {
      relay.stdin.write(`${JSON.stringify(treatment)}\n`);
      relay.stdin.flush();
    };
  }

  disposeSync(): void {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
      process.removeListener(signal, this.#onSignal);
    for (const host of this.hosts) endRouter(host);
    for (const netns of this.#namespaces) for (const pid of pidsIn(netns)) kill(pid);
    const lines = this.#namespaces.map((netns) => `netns del ${netns}`).join("\n");
    if (lines !== "") Bun.spawnSync(["ip", "-force", "-batch", "-"], { stdin: Buffer.from(lines) });
    this.#namespaces.length = 0;
    rmSync(this.folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.disposeSync();
  }
}

/** Lines that give a host its address, for its namespace. */
const hostLines = (ip: string) => [`addr add ${ip}/24 dev eth0`, "link set eth0 up", "link set lo up"];

/** Processes in a namespace of that name, none if it is gone. */
function pidsIn(netns: string): number[] {
  const inode = inodeOf(`/run/netns/${netns}`);
  if (inode === undefined) return [];
  const pids = readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0);
  return pids.filter((pid) => inodeOf(`/proc/${pid}/ns/net`) === inode);
}

/** The number of a namespace; undefined where there is none, or no more. */
function inodeOf(path: string): bigint | undefined {
  try {
    return statSync(path, { bigint: true }).ino;
  } catch {
    return undefined;
  }
}

function endRouter(host: Host): void {
  const file = join(host.folder, "run/weave.pid");
  if (existsSync(file)) kill(Number(readFileSync(file, "utf8")));
}

function kill(pid: number): void {
  try {
    if (pid > 1) process.kill(pid, "SIGKILL");
  } catch {
    // It has ended already.
  }
}

/**
 * How long is waited where nothing else is said. What takes longer by its nature says so. The load, which the bound grows
 * with, is a mean of the last minute: it says little of a machine that has just become busy.
 */
const PATIENCE_MS = 30_000;

/** A bound on a quiet machine, as a bound on this one: a machine with more to do than processors is slower by that. */
const patience = (ms: number) => ms * Math.max(1, (loadavg()[0] ?? 1) / availableParallelism());

/**
 * A look is often a program, and one after the other would keep a processor busy: the longer it takes already, the longer
 * until the next.
 */
const FIRST_LOOK_MS = 25;
const LONGEST_LOOK_MS = 300;

/** Tries until it holds; throws after `timeoutMs` (of a quiet machine) with what was last seen. */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T> | T,
  holds: (seen: T) => boolean,
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  const start = Date.now();
  for (;;) {
    const seen = await probe();
    if (holds(seen)) return seen;
    const waited = Date.now() - start;
    if (waited > patience(timeoutMs))
      throw new Error(
        `${what}: not within ${waited / 1000} s, ${timeoutMs / 1000} s on a quiet machine; last seen: ${String(seen)}`,
      );
    await Bun.sleep(Math.min(Math.max(FIRST_LOOK_MS, waited / 8), LONGEST_LOOK_MS));
  }
}
