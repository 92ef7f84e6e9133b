// weave attach, detach: a container, by its id or name at Docker or podman, its network namespace or a process in it.
import { type Cidr, formatIPv4 } from "../../lib/address/ipv4.ts";
import { type ApiClient, ApiError, apiClient } from "../../lib/api/client.ts";
import { attach as attachContainer, detachAddresses, formatAddresses } from "../../lib/host/attach.ts";
import { type Command, requireRoot } from "../main.ts";
import { acquire, lookup, release } from "./addresses.ts";
import { addName, removeName } from "./names.ts";
import { type Target, target, WHERE } from "./target.ts";

/** The name of our link in a container. */
const LINK = "ethwe";

export const attach: Command = {
  name: "attach",
  description: "attach a container to the network, by its id or name, or any by --netns or --pid",
  positionals: "[ADDRESSES…] [CONTAINER]",
  options: {
    ...WHERE,
    "multicast-route": {
      type: "boolean",
      default: true,
      negativeDescription: "leave multicast to the routes there are",
    },
    "without-dns": { type: "boolean", default: false, description: "give the container no name" },
  },
  async run(args) {
    requireRoot();
    const container = await target(args);
    const { addresses, where, id, kind } = container;
    const api = apiClient();
    const cidrs = await acquire(api, id, addresses, kind);
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
    if (!args.options["without-dns"]) await withName(api, container, cidrs, addName);
    console.log(formatAddresses(cidrs));
  },
};

/** Does something with the name of a container, where it has one and there is a DNS. */
async function withName(
  api: ApiClient,
  { id, fqdn }: Target,
  cidrs: readonly Cidr[],
  act: typeof addName,
): Promise<void> {
  if (fqdn === undefined) return;
  const ips = cidrs.map(({ address }) => formatIPv4(address));
  try {
    await act(api, id, fqdn, ips);
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 404)) throw error;
  }
}

export const detach: Command = {
  name: "detach",
  description: "take a container, or some of its addresses, off the network",
  positionals: "[ADDRESSES…] [CONTAINER]",
  options: WHERE,
  async run(args) {
    requireRoot();
    const container = await target(args);
    const { addresses, where, id } = container;
    const api = apiClient();
    const cidrs = await lookup(api, id, addresses);
    detachAddresses(where, LINK, cidrs);
    await withName(api, container, cidrs, removeName);
    await release(api, id, cidrs);
    console.log(formatAddresses(cidrs));
  },
};
