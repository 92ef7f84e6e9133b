// weave expose, hide: the host's own addresses on the network.
import { formatCidr } from "../../lib/address/ipv4.ts";
import { apiClient } from "../../lib/api/client.ts";
import { formatAddresses } from "../../lib/host/attach.ts";
import { EXPOSE_ID } from "../../lib/host/names.ts";
import { type Command, UsageError } from "../main.ts";
import { acquire, lookup, release, takeAddresses } from "./addresses.ts";
import { addName, FQDN, ipsOf, removeName, whereThereIsDns } from "./names.ts";

export const expose: Command = {
  name: "expose",
  description: "give this host an address on the network",
  positionals: "[ADDRESSES…]",
  options: {
    ...FQDN,
    masquerade: { type: "boolean", default: true, negativeDescription: "keep source addresses as they are" },
    "without-masquerade": {
      type: "boolean",
      default: false,
      description: "the same, as the original has it",
    },
  },
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
  description: "take an address of this host off the network",
  positionals: "[ADDRESSES…]",
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
