// weave attach, detach: a container, by its id or name at Docker or podman, its network namespace or a process in it.
import { apiClient } from "../../lib/api/client.ts";
import { attach as attachContainer, detachAddresses, formatAddresses } from "../../lib/host/attach.ts";
import { type Command, requireRoot } from "../main.ts";
import { acquire, lookup, release } from "./addresses.ts";
import { addName, ipsOf, removeName, whereThereIsDns } from "./names.ts";
import { target, WHERE } from "./target.ts";

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
    const { addresses, where, id, kind, fqdn } = await target(args);
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
    if (fqdn !== undefined && !args.options["without-dns"]) {
      await whereThereIsDns(() => addName(api, id, fqdn, ipsOf(cidrs)));
    }
    console.log(formatAddresses(cidrs));
  },
};

export const detach: Command = {
  name: "detach",
  description: "take a container, or some of its addresses, off the network",
  positionals: "[ADDRESSES…] [CONTAINER]",
  options: WHERE,
  async run(args) {
    requireRoot();
    const { addresses, where, id, fqdn } = await target(args);
    const api = apiClient();
    const cidrs = await lookup(api, id, addresses);
    detachAddresses(where, LINK, cidrs);
    if (fqdn !== undefined) await whereThereIsDns(() => removeName(api, id, fqdn, ipsOf(cidrs)));
    await release(api, id, cidrs);
    console.log(formatAddresses(cidrs));
  },
};
