// Hosts with a dockerd each that finds the plugin of the router on the same host: /run/docker is the host's own.
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { DIST, eventually, exec, type Host, must, type Output } from "./hosts.ts";
import { busyboxImage, unmountBelow } from "./runtimes.ts";

type Started = ReturnType<typeof Bun.spawn>;

export class DockerHost {
  #daemon: Started | undefined;

  private constructor(
    readonly host: Host,
    /** Keeps the mount namespace. */
    private readonly keeper: Started,
  ) {}

  /** A mount namespace with a /run/docker of its own; nothing runs yet. */
  static async create(host: Host): Promise<DockerHost> {
    mkdirSync("/run/docker/plugins", { recursive: true });
    mkdirSync(join(host.folder, "docker"), { recursive: true });
    const script =
      "mount -t tmpfs none /run/docker && mkdir /run/docker/plugins && echo ready && exec sleep infinity";
    const keeper = Bun.spawn(["unshare", "--mount", "--propagation=slave", "sh", "-c", script], {
      stdout: "pipe",
      stderr: "inherit",
    });
    await keeper.stdout.getReader().read();
    return new DockerHost(host, keeper);
  }

  get socket(): string {
    return join(this.host.folder, "docker/docker.sock");
  }

  #inside(...command: string[]): string[] {
    return ["nsenter", `--mount=/proc/${this.keeper.pid}/ns/mnt`, ...command];
  }

  /** Starts dockerd, and waits until it answers. */
  async startDocker(...options: string[]): Promise<void> {
    const folder = join(this.host.folder, "docker");
    const daemon = [
      "dockerd",
      `--host=unix://${this.socket}`,
      `--data-root=${join(folder, "data")}`,
      `--exec-root=${join(folder, "exec")}`,
      `--pidfile=${join(folder, "docker.pid")}`,
      "--storage-driver=vfs",
      ...options,
    ];
    this.#daemon = Bun.spawn(this.#inside(`--net=/run/netns/${this.host.netns}`, ...daemon), {
      stdout: "ignore",
      stderr: Bun.file(join(folder, "log")),
      env: process.env,
    });
    await eventually(
      "dockerd answers",
      async () => (await exec(this.#command("version"))).code,
      (code) => code === 0,
      30_000,
    );
  }

  #pluginSocket(name: string): string {
    return join("/proc", String(this.keeper.pid), "root", `run/docker/plugins/${name}.sock`);
  }

  /** Mode of the socket of a plugin. */
  pluginMode(name: string): number {
    return statSync(this.#pluginSocket(name)).mode & 0o777;
  }

  /** Calls a method of the plugin as dockerd does; returns its answer. */
  async plugin(method: string, body: object): Promise<string> {
    const unix = this.#pluginSocket("weave");
    const request = { method: "POST", body: JSON.stringify(body), unix };
    return (await fetch(`http://localhost/${method}`, request)).text();
  }

  /** Makes "busybox:test". */
  async image(): Promise<void> {
    await this.docker("import", await busyboxImage(this.host.folder), "busybox:test");
  }

  /** Ends dockerd: as an administrator does, or as suddenly as can be. */
  async endDocker(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    this.#daemon?.kill(signal);
    await this.#daemon?.exited;
    this.#daemon = undefined;
  }

  #command(...args: string[]): string[] {
    return ["docker", `--host=unix://${this.socket}`, ...args];
  }

  /** Runs docker, which has to succeed; returns what it prints. */
  async docker(...args: string[]): Promise<string> {
    return (await must(this.#command(...args))).trim();
  }

  tryDocker(...args: string[]): Promise<Output> {
    return exec(this.#command(...args));
  }

  /** Runs a container that waits; returns its ID. */
  run(name: string, ...options: string[]): Promise<string> {
    return this.docker("run", "-d", "--name", name, ...options, "busybox:test", "/bin/sleep", "3600");
  }

  /** Runs a command in a container. */
  inside(container: string, ...command: string[]): Promise<string> {
    return this.docker("exec", container, "/bin/busybox", ...command);
  }

  /** Runs the compiled `weave` on this host, with its /run/docker. */
  weave(...args: string[]): Promise<string> {
    const { host } = this;
    return must(this.#inside(...host.command(join(DIST, "weave"), ...args)), {
      env: { ...host.env, DOCKER_HOST: `unix://${this.socket}` },
    });
  }

  /** Removes containers, and ends dockerd and the mount namespace. */
  async end(): Promise<void> {
    if (this.#daemon) {
      const { stdout } = await exec(this.#command("ps", "-aq"));
      const ids = stdout.split("\n").filter(Boolean);
      if (ids.length > 0) await exec(this.#command("rm", "-f", ...ids));
      await this.endDocker();
    }
    this.keeper.kill("SIGKILL");
    await this.keeper.exited;
    await unmountBelow(this.host.folder);
  }
}
