// Sockets on which dockerd finds the network plugin, by their names: there where Docker is, and as soon as it is.
import { existsSync, lstatSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Log } from "../log/log.ts";
import { HTTP_SERVER } from "../sys/httpserver.ts";
import { makeOwnFolder } from "../sys/ownfile.ts";
import { hasUnixListener } from "../sys/unixlistener.ts";

/** Folder in which dockerd looks for plugins (moby: pkg/plugins/discovery_unix.go). */
const FOLDER = "/run/docker/plugins";
/** Names of the drivers. The original's networks on hosts without a cluster store are of "weavemesh". */
export const PLUGIN_NAMES = ["weave", "weavemesh"];
/** What a host with Docker has: a running dockerd, or its state. */
const SIGNS = ["/run/docker.sock", "/run/docker.pid", "/var/lib/docker"];
/** Bytes of a request. */
const MAX_BODY = 1024 * 1024;

/** Return whether this host has Docker. */
export const hasDocker = (): boolean => SIGNS.some((path) => existsSync(path));

/** One socket, for OwnFiles. */
export class PluginSocket {
  readonly path: string;
  #server: Bun.Server<undefined> | undefined;
  #stopped = false;

  constructor(
    name: string,
    /** Whether there is to be a socket now. */
    private readonly isWanted: () => boolean,
    private readonly answer: (request: Request) => Promise<Response>,
    private readonly log: Log,
    folder = FOLDER,
  ) {
    this.path = join(folder, `${name}.sock`);
  }

  get what(): string {
    return `the Docker plugin's socket ${this.path}`;
  }

  /** Throws where the socket cannot be made. */
  restore(): boolean {
    // The router's files are looked at until the last part has ended.
    if (this.#stopped) return false;
    const isThere = lstatSync(this.path, { throwIfNoEntry: false })?.isSocket() ?? false;
    if (this.#server ? isThere : !this.isWanted()) return false;
    const before = this.#server;
    if (isThere && hasUnixListener(this.path))
      throw new Error(`cannot serve Docker at ${this.path}: another program does; end it`);
    before?.stop().catch(() => {});
    makeOwnFolder(join(this.path, ".."));
    rmSync(this.path, { force: true });
    this.#server = this.#serve();
    if (!before) this.log.info("serving Docker's networks", { socket: this.path });
    return before !== undefined;
  }

  /** For root only, from the start: it attaches containers. */
  #serve(): Bun.Server<undefined> {
    const before = process.umask(0o177);
    try {
      return Bun.serve({
        ...HTTP_SERVER,
        unix: this.path,
        maxRequestBodySize: MAX_BODY,
        // As for the control socket: an address may take a while to come from other hosts.
        idleTimeout: 0 as never,
        fetch: this.answer,
      });
    } finally {
      process.umask(before);
    }
  }

  stop(): void {
    this.#stopped = true;
    if (!this.#server) return;
    this.#server.stop(true).catch(() => {});
    rmSync(this.path, { force: true });
  }
}
