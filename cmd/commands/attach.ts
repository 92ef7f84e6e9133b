// weave attach, detach: a container, by its network namespace or a process in it.
import { basename } from "node:path";
import { apiClient } from "../../lib/api/client.ts";
import { attach as attachContainer, detachAddresses, formatAddresses } from "../../lib/host/attach.ts";
import type { Netns } from "../../lib/sys/netns.ts";
import { type Arguments, type Command, requireRoot, UsageError } from "../main.ts";
import { acquire, lookup, release, takeAddresses } from "./addresses.ts";

/** The name of our link in a container. */
const LINK = "ethwe";

const WHERE = {
  netns: { type: "string", description: "path of the container's network namespace", valueHint: "PATH" },
  pid: { type: "string", description: "a process in the container", valueHint: "PID" },
} as const;

function target({ options, positionals }: Arguments) {
  const { addresses, rest } = takeAddresses(positionals);
  const [id, extra] = rest;
  if (extra !== undefined) throw new UsageError(`"${extra}" is no address, and one id is enough`);
  const { netns, pid } = options;
  if ((netns === undefined) === (pid === undefined)) throw new UsageError("say --netns PATH or --pid PID");
  if (typeof pid === "string" && !/^[1-9]\d{0,9}$/.test(pid))
    throw new UsageError(`--pid "${pid}" is no process id`);
  const where: Netns = typeof pid === "string" ? Number(pid) : String(netns);
  return { addresses, where, id: id ?? (typeof where === "number" ? `pid-${where}` : basename(where)) };
}

export const attach: Command = {
  name: "attach",
  description: "attach a container to the network (under an id, for 'ps' and 'detach')",
  positionals: "[ADDRESSES…] [ID]",
  options: {
    ...WHERE,
    "multicast-route": {
      type: "boolean",
      default: true,
      negativeDescription: "leave multicast to the routes there are",
    },
  },
  async run(args) {
    requireRoot();
    const { addresses, where, id } = target(args);
    const api = apiClient();
    const cidrs = await acquire(api, id, addresses);
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
    console.log(formatAddresses(cidrs));
  },
};

export const detach: Command = {
  name: "detach",
  description: "take a container, or some of its addresses, off the network",
  positionals: "[ADDRESSES…] [ID]",
  options: WHERE,
  async run(args) {
    requireRoot();
    const { addresses, where, id } = target(args);
    const api = apiClient();
    const cidrs = await lookup(api, id, addresses);
    detachAddresses(where, LINK, cidrs);
    await release(api, id, cidrs);
    console.log(formatAddresses(cidrs));
  },
};
