// weave expose, hide: the host's own addresses on the network.
import { type Cidr, formatCidr } from "../../lib/address/ipv4.ts";
import { type ApiClient, ApiError, apiClient, holders } from "../../lib/api/client.ts";
import { bridgeAddresses, findBridge } from "../../lib/host/bridge.ts";
import { EXPOSE_ID } from "../../lib/host/names.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { reasonOf } from "../../lib/sys/reason.ts";
import { JSON_OPTION, remark } from "../answer.ts";
import { type Command, UsageError } from "../arguments.ts";
import { WAIT_OPTION } from "../granting.ts";
import { progressClient } from "../waiting.ts";
import {
  acquire,
  answerAddresses,
  lookup,
  RELEASED_ADDRESSES,
  release,
  splitAddresses,
} from "./addresses.ts";
import { addName, FQDN, ipsOf, newName, remarkIgnored, removeName, whereThereIsDns } from "./names.ts";

const EXPOSE_ADDRESSES =
  "ADDRESS is 10.32.0.5/12, 10.32.0.5 (in the default subnet), net:10.34.0.0/16 for a free one of that subnet, or net:default, the default.";

/** Status for an address that is not exposed. */
const NOT_EXPOSED = 400;

export const expose: Command = {
  name: "expose",
  group: "Network",
  description: "Give this host an address on the network",
  positionals: "[ADDRESS…]",
  details: [EXPOSE_ADDRESSES, "The address stays exposed, after a reboot too, until 'weave hide'."],
  options: {
    ...FQDN,
    masquerade: {
      type: "boolean",
      default: true,
      description: "Masquerade traffic between the network and the outside; off keeps source addresses",
    },
    "without-masquerade": { type: "boolean", default: false, description: "Same as --no-masquerade" },
    ...WAIT_OPTION,
    ...JSON_OPTION,
  },
  examples: [
    { command: "weave expose", does: "Take a free address" },
    { command: "weave expose 10.32.0.99/12 -h gateway.weave.local", does: "Take this one, and name it" },
  ],
  async run(args) {
    const { options, positionals } = args;
    const { addresses, rest } = splitAddresses(positionals);
    if (rest.length > 0) throw new UsageError(`"${rest[0]}" is not an address`);
    const fqdn = newName(options);
    const api = apiClient();
    const held = (await holders(api)).get(EXPOSE_ID) ?? [];
    const { cidrs, fresh } = await acquire(api, { id: EXPOSE_ID, kind: "other", held }, addresses, args);
    const skip = options["without-masquerade"] || options["masquerade"] === false ? "?skipNAT=true" : "";
    try {
      for (const cidr of cidrs) await api("POST", `/expose/${formatCidr(cidr)}${skip}`);
      if (fqdn !== undefined)
        remarkIgnored(args, "weave expose", fqdn, await addName(api, EXPOSE_ID, fqdn, ipsOf(cidrs)));
    } catch (error) {
      const left = await takeBack(api, fresh);
      throw left.length === 0
        ? error
        : new Error(`${reasonOf(error)}; and then: ${left.join("; ")}`, { cause: error });
    }
    answerAddresses(args, EXPOSE_ID, cidrs);
  },
};

/** Return the addresses that the bridge of this host has. */
function exposedCidrs(): Cidr[] {
  using nl = new NetlinkSocket(NETLINK_ROUTE);
  const bridge = findBridge(nl, undefined);
  return bridge ? bridgeAddresses(nl, bridge) : [];
}

/** Undo new exposures and their names; return the errors. */
async function takeBack(api: ApiClient, cidrs: readonly Cidr[]): Promise<string[]> {
  const failures: string[] = [];
  for (const cidr of cidrs) {
    const steps = [
      () => whereThereIsDns(() => removeName(api, EXPOSE_ID, undefined, ipsOf([cidr]))),
      () => api("DELETE", `/expose/${formatCidr(cidr)}`),
    ];
    for (const step of steps) {
      await step().catch((error) => {
        if (!(error instanceof ApiError && error.status === NOT_EXPOSED)) failures.push(reasonOf(error));
      });
    }
  }
  if (failures.length === 0) await release(api, EXPOSE_ID, cidrs);
  return failures;
}

export const hide: Command = {
  name: "hide",
  group: "Network",
  description: "Take an address of this host off the network",
  examples: [
    { command: "weave hide", does: "Remove this host's addresses in the default subnet" },
    { command: "weave hide 10.32.0.99/12", does: "Remove this one" },
  ],
  positionals: "[ADDRESS…]",
  details: [RELEASED_ADDRESSES],
  options: JSON_OPTION,
  async run(args) {
    const { positionals } = args;
    const { addresses, rest } = splitAddresses(positionals);
    if (rest.length > 0) throw new UsageError(`"${rest[0]}" is not an address`);
    const api = progressClient(args);
    const cidrs = await lookup(api, EXPOSE_ID, addresses, exposedCidrs());
    if (cidrs.length === 0) {
      const where = positionals.length > 0 ? "there" : "in the default subnet";
      remark(args, `weave hide: no address of this host is exposed ${where}; see 'weave ps weave:expose'`);
    }
    const hidden: Cidr[] = [];
    for (const cidr of cidrs) {
      try {
        await api("DELETE", `/expose/${formatCidr(cidr)}`);
        hidden.push(cidr);
      } catch (error) {
        // Hidden before, or by a hide that failed half way.
        if (!(error instanceof ApiError && error.status === NOT_EXPOSED)) throw error;
        remark(args, `weave hide: ${error.message}; 'weave ps weave:expose' lists what is`);
      }
    }
    // One that is exposed with another prefix length, too, keeps its names; the router does not release it.
    const left = new Set(exposedCidrs().map(({ address }) => address));
    const gone = cidrs.filter(({ address }) => !left.has(address));
    await whereThereIsDns(() => removeName(api, EXPOSE_ID, undefined, ipsOf(gone)));
    await release(api, EXPOSE_ID, gone);
    answerAddresses(args, EXPOSE_ID, hidden);
  },
};
