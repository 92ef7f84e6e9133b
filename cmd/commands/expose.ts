// weave expose, hide: the host's own addresses on the network.
import { formatCidr } from "../../lib/address/ipv4.ts";
import { apiClient } from "../../lib/api/client.ts";
import { formatAddresses } from "../../lib/host/attach.ts";
import { EXPOSE_ID } from "../../lib/host/names.ts";
import { type Command, UsageError } from "../arguments.ts";
import { acquire, lookup, release, takeAddresses } from "./addresses.ts";
import { addName, FQDN, ipsOf, removeName, whereThereIsDns } from "./names.ts";

const EXPOSE_ADDRESSES =
  "ADDRESS is 10.32.0.5/12, net:10.34.0.0/16 for a free address of that subnet, or net:default (the default).";

export const expose: Command = {
  name: "expose",
  group: "Network",
  description: "Give this host an address on the network",
  positionals: "[ADDRESS…]",
  details: [EXPOSE_ADDRESSES],
  options: {
    ...FQDN,
    masquerade: {
      type: "boolean",
      default: true,
      description: "Masquerade traffic between the network and the outside; off keeps source addresses",
    },
    "without-masquerade": { type: "boolean", default: false, description: "Same as --no-masquerade" },
  },
  examples: [
    { command: "weave expose", does: "Take a free address" },
    { command: "weave expose 10.32.0.99/12 -h gateway.weave.local", does: "Take this one, and name it" },
  ],
  async run({ options, positionals }) {
    const { addresses, rest } = takeAddresses(positionals);
    if (rest.length > 0) throw new UsageError(`"${rest[0]}" is no address`);
    const api = apiClient();
    const cidrs = await acquire(api, EXPOSE_ID, addresses, "other");
    const skip = options["without-masquerade"] || options["masquerade"] === false ? "?skipNAT=true" : "";
    for (const cidr of cidrs) await api("POST", `/expose/${formatCidr(cidr)}${skip}`);
    const fqdn = options["hostname"];
    if (typeof fqdn === "string") await addName(api, EXPOSE_ID, fqdn, ipsOf(cidrs));
    console.log(formatAddresses(cidrs));
  },
};

export const hide: Command = {
  name: "hide",
  group: "Network",
  description: "Take an address of this host off the network",
  positionals: "[ADDRESS…]",
  details: [EXPOSE_ADDRESSES],
  async run({ positionals }) {
    const { addresses, rest } = takeAddresses(positionals);
    if (rest.length > 0) throw new UsageError(`"${rest[0]}" is no address`);
    const api = apiClient();
    const cidrs = await lookup(api, EXPOSE_ID, addresses);
    for (const cidr of cidrs) await api("DELETE", `/expose/${formatCidr(cidr)}`);
    await whereThereIsDns(() => removeName(api, EXPOSE_ID, undefined, ipsOf(cidrs)));
    await release(api, EXPOSE_ID, cidrs);
    console.log(formatAddresses(cidrs));
  },
};
