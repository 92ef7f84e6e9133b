// weave ps.
import * as v from "valibot";
import { formatCidr } from "../../lib/address/ipv4.ts";
import { apiClient, holders } from "../../lib/api/client.ts";
import { Attached } from "../../lib/api/shapes.ts";
import { findContainer } from "../../lib/container/runtime.ts";
import { bridgeAddresses, requireBridge } from "../../lib/host/bridge.ts";
import { attachedContainers } from "../../lib/host/containers.ts";
import { EXPOSE_ID } from "../../lib/host/names.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { netnsInode } from "../../lib/sys/netnsinode.ts";
import { answer, JSON_OPTION, remark } from "../answer.ts";
import type { Command } from "../arguments.ts";
import { requireRoot } from "../main.ts";
import { runtimeSockets } from "./target.ts";

/** Part of the report: links of containers. */
const Kept = v.array(
  v.object({
    ContainerID: v.string(),
    Interface: v.string(),
    Netns: v.string(),
    Mac: v.string(),
    Addresses: v.array(v.string()),
    Problem: v.optional(v.string()),
  }),
);

export const ps: Command = {
  name: "ps",
  group: "Containers",
  description: "List attached containers: ID, MAC address, addresses",
  positionals: "[CONTAINER…]",
  positionalsComplete: "containers",
  details: [
    "CONTAINER is a name, an ID or the beginning of one, and is shown in place of the ID. weave:expose is the host itself.",
    "If the link of a container has a problem, its line ends with # and the problem.",
  ],
  examples: [
    { command: "weave ps", does: "List all" },
    { command: "weave ps weave:expose", does: "Show the addresses of this host on the network" },
  ],
  options: JSON_OPTION,
  async run(args) {
    requireRoot();
    const api = apiClient();
    const held = await holders(api);
    const format = encodeURIComponent("{{json .Containers}}");
    const kept = v.parse(Kept, JSON.parse(await api("GET", `/report?format=${format}`)));
    const wrong = new Map(
      kept
        .filter(({ Problem }) => Problem !== undefined)
        .map((each) => [`${netnsInode(each.Netns)} ${each.Interface}`, each]),
    );
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    const holderOf = new Map(
      [...held].flatMap(([id, addresses]) => addresses.map((address) => [address, id])),
    );
    const present = attachedContainers(nl).map(({ netns, inode, link, mac, addresses, owner }) => {
      const key = `${inode} ${link.name}`;
      const problem = wrong.get(key)?.Problem;
      wrong.delete(key);
      const id = addresses.map((cidr) => holderOf.get(formatCidr(cidr))).find(Boolean);
      return { id: id ?? owner?.containerId ?? netns, mac, addresses: addresses.map(formatCidr), problem };
    });
    const rows = [
      {
        id: EXPOSE_ID,
        mac: requireBridge(nl).address ?? "",
        addresses: bridgeAddresses(nl).map(formatCidr),
        problem: undefined,
      },
      ...present,
      // Those whose link is gone.
      ...[...wrong.values()].map(({ ContainerID, Netns, Mac, Addresses, Problem }) => ({
        id: ContainerID || Netns,
        mac: Mac,
        addresses: Addresses,
        problem: Problem,
      })),
    ];
    const wanted = await Promise.all(args.positionals.map(async (word) => ({ word, id: await idOf(word) })));
    const nameOf = (id: string) => wanted.find((each) => id.startsWith(each.id))?.word;
    const shown = rows
      .filter(({ id }) => wanted.length === 0 || nameOf(id) !== undefined)
      .map(({ problem, ...row }) => ({ ...row, ...(problem !== undefined && { problem }) }));
    const lines = shown.map(({ id, mac, addresses, problem }) => {
      const mark = problem === undefined ? [] : [`# ${problem}`];
      return [nameOf(id) ?? id.slice(0, 12), mac, ...addresses, ...mark].join(" ");
    });
    for (const { word, id } of wanted)
      if (!rows.some((row) => row.id.startsWith(id)))
        remark(args, `weave ps: no container "${word}" is attached; 'weave ps' lists all`);
    answer(args, Attached, shown, lines.join("\n"));
  },
};

/** The id of a container that Docker or podman knows by this name, else the word itself. */
async function idOf(word: string): Promise<string> {
  return (await findContainer(runtimeSockets(), word))?.id ?? word;
}
