// weave launch --mesos: options of a router on an agent of a Mesos cluster, from the environment of its task and the
// name of its host; and the CNI configuration for the agent's isolator.
import { lookup } from "node:dns/promises";
import { mkdirSync } from "node:fs";
import { hostname } from "node:os";
import { neighbours } from "../lib/deploy/mesos.ts";
import { refuseOverlap } from "../lib/host/overlap.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../lib/netlink/socket.ts";
import { parseOptions } from "../lib/router/options.ts";
import { reasonOf } from "../lib/sys/reason.ts";
import { UsageError } from "./arguments.ts";
import { type CniFolders, installCni } from "./cnifolders.ts";
import { warn } from "./output/output.ts";

/** Variables of the task's environment that set options; the command line goes first. */
const VARIABLES = { IPALLOC_RANGE: "ipalloc-range", IPALLOC_INIT: "ipalloc-init", CONN_LIMIT: "conn-limit" };

type Environment = Readonly<Record<string, string | undefined>>;

/** Set this host up; return the options of its router. Throw UsageError, OptionError or AgentNameError. */
export async function prepareAgent(
  given: Record<string, unknown>,
  peers: readonly string[],
  env: Environment,
  folders: CniFolders,
  say: (line: string) => void,
): Promise<{ options: Record<string, unknown>; peers: string[] }> {
  const options = { ...given };
  for (const [variable, option] of Object.entries(VARIABLES)) {
    if (options[option] === undefined && env[variable]) options[option] = env[variable];
  }
  const prefix = env["HOST_PREFIX"] ?? "";
  if (prefix === "") throw new UsageError("--mesos needs HOST_PREFIX, the prefix of the names of all agents");
  if (options["ipalloc-range"] === undefined)
    throw new UsageError("--mesos needs IPALLOC_RANGE, a range that no host uses");
  const beside = neighbours(hostname(), prefix);
  const { range, name } = parseOptions(options, peers);
  {
    using route = new NetlinkSocket(NETLINK_ROUTE);
    refuseOverlap(route, range, name);
  }
  for (const folder of [folders.bin, folders.conf]) mkdirSync(folder, { recursive: true });
  for (const line of installCni(folders, true)) say(line);
  return { options, peers: [...peers, ...(await resolvable(beside))] };
}

/** Return the hosts that resolve: the first and the last agent have one neighbour. */
async function resolvable(hosts: readonly string[]): Promise<string[]> {
  const found = await Promise.all(
    hosts.map(async (host) => {
      try {
        await lookup(host, { family: 4 });
        return [host];
      } catch (error) {
        warn(`weave launch: no agent "${host}" (${reasonOf(error)}); it connects to this host once it runs`);
        return [];
      }
    }),
  );
  return found.flat();
}
