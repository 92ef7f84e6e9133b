// weave attach, detach: a container, by its id or name at Docker or podman, its network namespace or a process in it.
import { formatCidr } from "../../lib/address/ipv4.ts";
import { type ApiClient, apiClient, holders } from "../../lib/api/client.ts";
import { attach as attachContainer, detachAddresses } from "../../lib/host/attach.ts";
import { attachedContainers } from "../../lib/host/containers.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { type Netns, netnsPath } from "../../lib/sys/netns.ts";
import { netnsInode } from "../../lib/sys/netnsinode.ts";
import { JSON_OPTION } from "../answer.ts";
import { type Command, UsageError } from "../arguments.ts";
import { requireRoot } from "../main.ts";
import { acquire, answerAddresses, lookup, release } from "./addresses.ts";
import { addName, ipsOf, removeName, whereThereIsDns } from "./names.ts";
import { target, WHERE } from "./target.ts";

/** The name of our link in a container. */
const LINK = "ethwe";

export const attach: Command = {
  name: "attach",
  group: "Containers",
  description: "Attach a container to the network",
  positionals: "[ADDRESS…] [CONTAINER]",
  positionalsComplete: "containers",
  details: [
    "CONTAINER is the name or ID of a container of Docker or podman. With --netns or --pid it is the ID to file the addresses under.",
    "ADDRESS is 10.32.0.5/12, 10.32.0.5 (in the default subnet), net:10.34.0.0/16 for a free one of that subnet, or net:default, the default.",
  ],
  options: {
    ...WHERE,
    "multicast-route": {
      type: "boolean",
      default: true,
      description: "Route multicast by the network",
    },
    ...JSON_OPTION,
    "without-dns": { type: "boolean", default: false, description: "Do not name the container in DNS" },
  },
  examples: [
    { command: "weave attach web", does: "Attach container web, with a free address" },
    { command: "weave attach 10.32.0.5/12 --netns /run/netns/blue", does: "Attach any network namespace" },
  ],
  async run(args) {
    requireRoot();
    const { addresses, where, id, kind, fqdn } = await target(args);
    if (/^\d+\.\d+\.\d+|[\s/:,]/.test(id)) {
      throw new UsageError(`"${id}" is neither the id of a container nor an address such as 10.32.0.5/12`);
    }
    const api = apiClient();
    await refuseSharedId(api, id, where);
    const cidrs = await acquire(api, id, addresses, kind, args);
    try {
      attachContainer({
        netns: where,
        containerId: id,
        ifName: LINK,
        addresses: cidrs,
        routes: [],
        multicastRoute: args.options["multicast-route"] !== false,
        extend: true,
      });
    } catch (error) {
      await release(api, id, cidrs);
      throw error;
    }
    if (fqdn !== undefined && !args.options["without-dns"]) {
      await whereThereIsDns(() => addName(api, id, fqdn, ipsOf(cidrs)));
    }
    answerAddresses(args, id, cidrs);
  },
};

export const detach: Command = {
  name: "detach",
  group: "Containers",
  description: "Take a container off the network",
  positionals: "[ADDRESS…] [CONTAINER]",
  positionalsComplete: "containers",
  options: { ...WHERE, ...JSON_OPTION },
  async run(args) {
    requireRoot();
    const { addresses, where, id, fqdn } = await target(args);
    const api = apiClient();
    const cidrs = await lookup(api, id, addresses);
    detachAddresses(where, LINK, cidrs);
    if (fqdn !== undefined) await whereThereIsDns(() => removeName(api, id, fqdn, ipsOf(cidrs)));
    await release(api, id, cidrs);
    answerAddresses(args, id, cidrs);
  },
};

/** Throws where a container in another namespace has the addresses of this id: two would get the same ones. */
async function refuseSharedId(api: ApiClient, id: string, where: Netns): Promise<void> {
  const held = (await holders(api)).get(id) ?? [];
  if (held.length === 0) return;
  const here = netnsInode(netnsPath(where));
  using nl = new NetlinkSocket(NETLINK_ROUTE);
  const other = attachedContainers(nl).find(
    ({ netns, addresses }) =>
      addresses.some((cidr) => held.includes(formatCidr(cidr))) && netnsInode(netns) !== here,
  );
  if (!other) return;
  throw new Error(
    `cannot attach "${id}": the container in ${other.netns} is attached by that id; give this one another ('weave attach ID --netns PATH')`,
  );
}
