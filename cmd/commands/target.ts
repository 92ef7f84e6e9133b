// The container that a command is about: one of Docker or podman by ID or name, or any by its network namespace or a
// process in it.
import { basename } from "node:path";
import type { WantedAddress } from "../../lib/address/wanted.ts";
import { type Container, findContainer, runningContainer, socketsOf } from "../../lib/container/runtime.ts";
import type { Netns } from "../../lib/sys/netns.ts";
import { type Arguments, UsageError } from "../arguments.ts";
import { type HolderKind, splitAddresses } from "./addresses.ts";

export const WHERE = {
  netns: {
    type: "string",
    description: "Network namespace of the container",
    valueHint: "PATH",
    completes: "files",
  },
  pid: { type: "string", description: "Process in the container", valueHint: "PID" },
} as const;

export interface Target {
  readonly id: string;
  readonly kind: HolderKind;
  readonly where: Netns;
  readonly fqdn: string | undefined;
  /** Facts from Docker or podman. */
  readonly container?: Container;
  readonly addresses: readonly WantedAddress[];
}

/** Namespace of a container that does not run. */
export const NOT_RUNNING = 0;

/** Where Docker's or podman's sockets are. */
export const runtimeSockets = () => socketsOf(process.env["DOCKER_HOST"] || undefined);

/**
 * Read "[ADDRESSES…] CONTAINER", or "[ADDRESSES…] [ID]" with --netns or --pid. A container that does not run is an error,
 * unless `mayBeStopped`: `where` is NOT_RUNNING then.
 */
export async function target({ options, positionals }: Arguments, mayBeStopped = false): Promise<Target> {
  const { addresses, rest } = splitAddresses(positionals);
  const [id, extra] = rest;
  if (extra !== undefined) throw new UsageError(`"${extra}" is not an address; name one container only`);
  const { netns, pid } = options;
  if (netns !== undefined && pid !== undefined) throw new UsageError("--netns or --pid, not both");
  if (typeof pid === "string") {
    if (!/^[1-9]\d{0,9}$/.test(pid)) throw new UsageError(`--pid "${pid}" is not a process ID`);
    return { id: id ?? `pid-${pid}`, kind: "container", where: Number(pid), fqdn: undefined, addresses };
  }
  if (netns === "") throw new UsageError("--netns is empty");
  if (typeof netns === "string") {
    if (!netns.includes("/"))
      throw new UsageError(
        `--netns "${netns}" is not a path; a namespace of 'ip netns' is at /run/netns/${netns}`,
      );
    return { id: id ?? idOf(netns), kind: "container", where: netns, fqdn: undefined, addresses };
  }
  if (id === undefined) throw new UsageError("name a container, or use --netns PATH or --pid PID");
  const container =
    (mayBeStopped && (await findContainer(runtimeSockets(), id))) ||
    (await runningContainer(runtimeSockets(), id));
  const { pid: where, fqdn } = container;
  return { id: container.id, kind: "runtime", where, fqdn, container, addresses };
}

/** The name of a namespace, or "pid-PID" for /proc/PID/ns/net, whose last part is the same for all. */
function idOf(netns: string): string {
  const [, pid] = /^\/proc\/(\d+)\/(?:task\/\d+\/)?ns\/net$/.exec(netns) ?? [];
  return pid === undefined ? basename(netns) : `pid-${pid}`;
}
