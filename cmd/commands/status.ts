// weave status, report, ps, version.
import { formatCidr } from "../../lib/address/ipv4.ts";
import { ApiError, apiClient, holders } from "../../lib/api/client.ts";
import { findContainer } from "../../lib/container/runtime.ts";
import { bridgeAddresses, requireBridge } from "../../lib/host/bridge.ts";
import { attachedContainers } from "../../lib/host/containers.ts";
import { EXPOSE_ID } from "../../lib/host/names.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { VERSION } from "../../lib/version.ts";
import { type Command, requireRoot, UsageError } from "../main.ts";
import { runtimeSockets } from "./target.ts";

const NPC_STATUS = "http://127.0.0.1:6781/status";
const NPC_TIMEOUT_MS = 1_000;

const PARTS = ["targets", "connections", "peers", "dns", "ipam"];

export const status: Command = {
  name: "status",
  description: `how things are; of ${PARTS.join(", ")} in detail`,
  positionals: `[${PARTS.join("|")}]`,
  async run({ positionals: [part, ...rest] }) {
    if (rest.length > 0 || (part !== undefined && !PARTS.includes(part))) {
      throw new UsageError(`invalid 'weave status' sub-command: ${[part, ...rest].join(" ")}`);
    }
    const text = await apiClient()("GET", part === undefined ? "/status" : `/status/${part}`);
    process.stdout.write(part === undefined ? `\n${text}\n` : text);
    if (part === undefined) process.stdout.write(await policyStatus());
  },
};

/** What weave-npc says of itself; empty where none runs here. */
async function policyStatus(): Promise<string> {
  try {
    const response = await fetch(NPC_STATUS, { signal: AbortSignal.timeout(NPC_TIMEOUT_MS) });
    return response.ok ? `${await response.text()}\n` : "";
  } catch {
    return "";
  }
}

export const report: Command = {
  name: "report",
  description: "everything the status is made of, as JSON or in a format such as '{{.Router.Name}}'",
  options: {
    format: { type: "string", alias: "f", description: "paths in {{ }} between text", valueHint: "FORMAT" },
  },
  async run({ options }) {
    const format = options["format"];
    const text =
      typeof format === "string"
        ? await apiClient()("GET", `/report?format=${encodeURIComponent(format)}`)
        : await apiClient()("GET", "/report", { accept: "application/json" });
    console.log(text);
  },
};

export const ps: Command = {
  name: "ps",
  description: "what is attached: id, Ethernet address, addresses",
  positionals: "[IDS…]",
  async run({ positionals }) {
    requireRoot();
    const held = await holders(apiClient());
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    const holderOf = new Map(
      [...held].flatMap(([id, addresses]) => addresses.map((address) => [address, id])),
    );
    const rows = [
      { id: EXPOSE_ID, mac: requireBridge(nl).address ?? "", addresses: bridgeAddresses(nl) },
      ...attachedContainers(nl).map(({ netns, mac, addresses }) => {
        const id = addresses.map((cidr) => holderOf.get(formatCidr(cidr))).find(Boolean);
        return { id: id ?? netns, mac, addresses };
      }),
    ];
    const wanted = await Promise.all(positionals.map(idOf));
    for (const { id, mac, addresses } of rows) {
      if (wanted.length > 0 && !wanted.some((start) => id.startsWith(start))) continue;
      console.log([id.slice(0, 12), mac, ...addresses.map(formatCidr)].join(" "));
    }
  },
};

/** The id of a container that Docker or podman knows by this name, else the word itself. */
async function idOf(word: string): Promise<string> {
  return (await findContainer(runtimeSockets(), word))?.id ?? word;
}

export const version: Command = {
  name: "version",
  description: "versions of this command and of the running router",
  async run() {
    console.log(`weave ${VERSION}`);
    try {
      console.log(
        `weave-router ${await apiClient()("GET", `/report?format=${encodeURIComponent("{{.Version}}")}`)}`,
      );
    } catch (error) {
      if (error instanceof ApiError) throw error;
    }
  },
};
