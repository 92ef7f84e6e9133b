// Networks of Docker and the containers on them, by its HTTP API (https://docs.docker.com/engine/api/).
import { existsSync } from "node:fs";
import * as v from "valibot";
import { recordOf } from "../sys/record.ts";
import { firstAnswer, get } from "./runtime.ts";

/** A container's place on a network. */
interface ContainerEndpoint {
  readonly network: string;
  readonly endpoint: string;
  /** Names that the network knows it by, besides that of the container. */
  readonly aliases: readonly string[];
}

export interface NetworkedContainer {
  readonly id: string;
  readonly name: string;
  /** Its host name with its domain; undefined without a domain. */
  readonly fqdn: string | undefined;
  readonly isRunning: boolean;
  readonly endpoints: readonly ContainerEndpoint[];
}

const SHORT_ID = 12;

const Id = v.pipe(v.string(), v.regex(/^[0-9a-f]{12,64}$/));
const Inspected = v.object({
  Id,
  Name: v.string(),
  State: v.object({ Running: v.boolean() }),
  Config: v.object({
    Hostname: v.optional(v.string(), ""),
    Domainname: v.nullish(v.string(), ""),
  }),
  NetworkSettings: v.object({
    Networks: v.nullish(
      recordOf(
        v.object({
          EndpointID: v.optional(v.string(), ""),
          Aliases: v.nullish(v.array(v.string()), []),
        }),
      ),
      {},
    ),
  }),
});

/** Return a container with its endpoints; undefined if no runtime knows it. Rejects with ContainerError. */
export function networkedContainer(
  sockets: readonly string[],
  id: string,
): Promise<NetworkedContainer | undefined> {
  return firstAnswer(sockets, async (socket) => {
    const answer = await get(socket, `/containers/${encodeURIComponent(id)}/json`);
    const found = v.safeParse(Inspected, answer);
    if (!found.success) return undefined;
    const { Id: full, Name, State, Config, NetworkSettings } = found.output;
    const domain = Config.Domainname ?? "";
    return {
      id: full,
      name: Name.replace(/^\//, ""),
      fqdn: domain === "" ? undefined : `${Config.Hostname}.${domain}`,
      isRunning: State.Running,
      endpoints: Object.entries(NetworkSettings.Networks ?? {}).flatMap(
        ([network, { EndpointID, Aliases }]) =>
          // Docker and podman add the short ID; "db" may be the beginning of one, and is a name.
          EndpointID === ""
            ? []
            : [
                {
                  network,
                  endpoint: EndpointID,
                  aliases: (Aliases ?? []).filter((alias) => alias !== full.slice(0, SHORT_ID)),
                },
              ],
      ),
    };
  });
}

const Networks = v.array(v.object({ Id: v.string() }));
const Network = v.object({
  Containers: v.nullish(v.record(v.string(), v.object({ EndpointID: v.string() })), {}),
});

const Version = v.object({ Components: v.nullish(v.array(v.object({ Name: v.string() })), []) });

/** podman answers as Docker does, and knows nothing of Docker's networks. */
async function isPodman(socket: string): Promise<boolean> {
  const found = v.safeParse(Version, await get(socket, "/version"));
  return found.success && (found.output.Components ?? []).some(({ Name }) => Name === "Podman Engine");
}

/**
 * Return the running containers on networks of these drivers, and the IDs of their endpoints; undefined if no Docker tells
 * all of them, as while it is stopped and its containers run on (live-restore). Rejects with ContainerError.
 */
export async function endpointsOf(
  sockets: readonly string[],
  drivers: readonly string[],
): Promise<Map<string, string> | undefined> {
  const endpoints = new Map<string, string>();
  const filters = encodeURIComponent(JSON.stringify({ driver: drivers }));
  let isKnown = false;
  for (const socket of sockets.filter((path) => existsSync(path))) {
    if (await isPodman(socket)) continue;
    const listed = v.safeParse(Networks, await get(socket, `/networks?filters=${filters}`));
    if (!listed.success) return undefined;
    isKnown = true;
    for (const { Id: network } of listed.output) {
      const answer = await get(socket, `/networks/${encodeURIComponent(network)}`);
      // Removed meanwhile.
      if (answer === undefined) continue;
      const found = v.safeParse(Network, answer);
      if (!found.success) return undefined;
      for (const [container, { EndpointID }] of Object.entries(found.output.Containers ?? {}))
        endpoints.set(EndpointID, container);
    }
  }
  return isKnown ? endpoints : undefined;
}
