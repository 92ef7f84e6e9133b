// weave attach, detach: a container, by its id or name at Docker or podman, its network namespace or a process in it.
import { isIP } from "../../lib/address/family.ts";
import { type Cidr, formatCidr, formatIPv4 } from "../../lib/address/ipv4.ts";
import type { NotedAttachment } from "../../lib/api/bodies.ts";
import { type ApiClient, ApiError, apiClient, holders } from "../../lib/api/client.ts";
import { type ExtraHost, hostsText, rewriteHosts } from "../../lib/container/hosts.ts";
import type { Container } from "../../lib/container/runtime.ts";
import { attach as attachContainer } from "../../lib/host/attach.ts";
import { attachedContainers } from "../../lib/host/containers.ts";
import { detachAddresses } from "../../lib/host/detach.ts";
import { inspect } from "../../lib/host/inspect.ts";
import { LINK } from "../../lib/host/names.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { type Netns, NetnsError, netnsPath } from "../../lib/sys/netns.ts";
import { netnsInode } from "../../lib/sys/netnsinode.ts";
import { JSON_OPTION } from "../answer.ts";
import { type Arguments, type Command, UsageError } from "../arguments.ts";
import { WAIT_OPTION } from "../granting.ts";
import { requireRoot } from "../main.ts";
import { progressClient } from "../waiting.ts";
import { acquire, answerAddresses, lookup, RELEASED_ADDRESSES, release } from "./addresses.ts";
import { addName, ipsOf, removeName, whereThereIsDns } from "./names.ts";
import { NOT_RUNNING, target, WHERE } from "./target.ts";

export const attach: Command = {
  name: "attach",
  group: "Containers",
  description: "Attach a container to the network",
  positionals: "[ADDRESS…] [CONTAINER]",
  positionalsComplete: "containers",
  details: [
    "CONTAINER is the name or ID of a container of Docker or podman. With --netns or --pid, it is an ID of your choice, under which the addresses are kept.",
    "ADDRESS is 10.32.0.5/12, 10.32.0.5 (in the default subnet), net:10.34.0.0/16 for a free one of that subnet, or net:default, the default.",
    "A container of Docker or podman that is restarted is attached again with its addresses and names, until it is removed or detached.",
  ],
  options: {
    ...WHERE,
    "multicast-route": {
      type: "boolean",
      default: true,
      description: "Route multicast over the network",
    },
    ...WAIT_OPTION,
    ...JSON_OPTION,
    "rewrite-hosts": {
      type: "boolean",
      default: false,
      description: "Write the container's name and addresses into its /etc/hosts",
    },
    "add-host": {
      type: "string",
      description: "With --rewrite-hosts: add a name",
      valueHint: "NAME:IP",
      repeatable: true,
    },
    "without-dns": { type: "boolean", default: false, description: "Do not name the container in DNS" },
  },
  examples: [
    { command: "weave attach web", does: "Attach container web, with a free address" },
    { command: "weave attach 10.32.0.5/12 --netns /run/netns/blue", does: "Attach any network namespace" },
  ],
  async run(args) {
    requireRoot();
    const extra = extraHosts(args);
    const { addresses, where, id, kind, fqdn, container } = await target(args);
    const rewrite = args.options["rewrite-hosts"] ? hostsWriter(extra, container) : undefined;
    if (/^\d+\.\d+\.\d+|[\s/:,]/.test(id)) {
      throw new UsageError(`"${id}" is neither the id of a container nor an address such as 10.32.0.5/12`);
    }
    const api = apiClient();
    const held = (await holders(api)).get(id) ?? [];
    refuseSharedId(held, id, where);
    const { cidrs, fresh } = await acquire(api, { id, kind, held }, addresses, args);
    const multicastRoute = args.options["multicast-route"] !== false;
    try {
      rewrite?.(ipsOf(cidrs));
      attachContainer({
        netns: where,
        containerId: id,
        ifName: LINK,
        addresses: cidrs,
        routes: [],
        multicastRoute,
        extend: true,
      });
    } catch (error) {
      await release(api, id, fresh);
      throw error;
    }
    if (fqdn !== undefined && !args.options["without-dns"]) {
      await whereThereIsDns(() => addName(api, id, fqdn, ipsOf(cidrs)));
    }
    if (kind === "runtime") {
      const noted = cidrs.map((cidr, i) => ({ cidr: formatCidr(cidr), asked: addresses[i]?.kind !== "net" }));
      await note(api, id, { addresses: noted, multicastRoute });
    }
    answerAddresses(args, id, cidrs);
  },
};

/** Return the names of --add-host. Throw UsageError. */
function extraHosts({ options, lists }: Arguments): ExtraHost[] {
  const extra = (lists?.["add-host"] ?? []).map(extraHost);
  if (extra.length > 0 && !options["rewrite-hosts"])
    throw new UsageError("--add-host goes with --rewrite-hosts");
  return extra;
}

/** Return a writer of the container's /etc/hosts. */
function hostsWriter(
  extra: readonly ExtraHost[],
  container: Container | undefined,
): (ips: readonly string[]) => void {
  if (!container) throw new UsageError("--rewrite-hosts is for a container of Docker or podman");
  const { hostname, hostsPath, id } = container;
  if (hostsPath === undefined)
    throw new Error(`cannot rewrite /etc/hosts of container ${id.slice(0, 12)}: its runtime keeps none`);
  return (ips) => rewriteHosts(hostsPath, hostsText(hostname, ips, extra));
}

function extraHost(text: string): ExtraHost {
  const [, name = "", address = ""] = /^([\w.-]{1,253}):(.*)$/.exec(text) ?? [];
  if (isIP(address) === 0) throw new UsageError(`--add-host "${text}": should be NAME:IP`);
  return { name, address };
}

/** Make the router re-attach the container when it restarts; an older version cannot. */
async function note(api: ApiClient, id: string, attachment: NotedAttachment): Promise<void> {
  const body = JSON.stringify(attachment);
  await api("PUT", `/attachment/${encodeURIComponent(id)}`, { body }).catch(unlessOlder);
}

/** Stop re-attaching it with these addresses, or with any. */
async function forget(api: ApiClient, id: string, cidrs: readonly Cidr[] | undefined): Promise<void> {
  const form = new URLSearchParams();
  for (const { address } of cidrs ?? []) form.append("address", formatIPv4(address));
  if (cidrs?.length !== 0)
    await api("DELETE", `/attachment/${encodeURIComponent(id)}`, { form }).catch(unlessOlder);
}

/** Status of an unknown path. */
const NO_SUCH_PATH = 404;

function unlessOlder(error: unknown): void {
  if (!(error instanceof ApiError && error.status === NO_SUCH_PATH)) throw error;
}

export const detach: Command = {
  name: "detach",
  group: "Containers",
  description: "Take a container off the network",
  examples: [
    { command: "weave detach web", does: "Remove container web's addresses in the default subnet" },
    { command: "weave detach net:10.34.0.0/16 web", does: "Remove those in this subnet" },
    { command: "weave detach --netns /run/netns/blue", does: "Take any network namespace off" },
  ],
  positionals: "[ADDRESS…] [CONTAINER]",
  positionalsComplete: "containers",
  details: [RELEASED_ADDRESSES],
  options: { ...WHERE, ...JSON_OPTION },
  async run(args) {
    requireRoot();
    const { addresses, where, id, fqdn } = await target(args, true);
    const api = progressClient(args);
    const isStopped = where === NOT_RUNNING;
    const cidrs = await lookup(api, id, addresses, isStopped ? [] : addressesIn(where));
    // It may have lost its addresses since it was stopped.
    const isWhole = isStopped && args.positionals.length < 2;
    await forget(api, id, isWhole ? undefined : cidrs);
    if (!isStopped) detachAddresses(where, LINK, cidrs);
    if (fqdn !== undefined) await whereThereIsDns(() => removeName(api, id, fqdn, ipsOf(cidrs)));
    await release(api, id, cidrs);
    answerAddresses(args, id, cidrs);
  },
};

/** Return the addresses of a container's link; none where its namespace cannot be entered, which the detaching tells. */
function addressesIn(where: Netns): readonly Cidr[] {
  try {
    return inspect(where, LINK)?.addresses ?? [];
  } catch (error) {
    if (error instanceof NetnsError) return [];
    throw error;
  }
}

/** Throw if a container in another namespace holds the addresses of this ID. */
function refuseSharedId(held: readonly string[], id: string, where: Netns): void {
  if (held.length === 0) return;
  const here = netnsInode(netnsPath(where));
  using nl = new NetlinkSocket(NETLINK_ROUTE);
  const other = attachedContainers(nl).find(
    ({ netns, addresses }) =>
      addresses.some((cidr) => held.includes(formatCidr(cidr))) && netnsInode(netns) !== here,
  );
  if (!other) return;
  throw new Error(
    `cannot attach "${id}": the container in ${other.netns} is attached with that ID; use another one ('weave attach ID --netns PATH')`,
  );
}
