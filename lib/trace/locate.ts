// Which container of this host is meant, by what the router knows of addresses and names.
import { type ApiClient, holders } from "../api/client.ts";
import { findContainer } from "../container/runtime.ts";
import { EXPOSE_ID } from "../host/names.ts";

/** Shortest prefix of an ID that names a container. */
const MIN_ID = 3;
const TIMEOUT_MS = 3_000;

export interface Found {
  readonly id: string;
  /** "10.32.0.1". */
  readonly address: string;
}

/** Find a container by address, ID or prefix of one, or by its name in Docker or podman. Rejects as the client does. */
export async function locate(
  api: ApiClient,
  runtimes: readonly string[],
  name: string,
): Promise<Found | undefined> {
  const held = [...(await holders(api, { timeoutMs: TIMEOUT_MS }))]
    .filter(([id]) => id !== EXPOSE_ID)
    .map(([id, cidrs]) => ({ id, addresses: cidrs.map((cidr) => cidr.replace(/\/.*/, "")) }));
  const found = (holder: (typeof held)[number] | undefined, address = holder?.addresses[0]) =>
    holder && address !== undefined ? { id: holder.id, address } : undefined;
  const byAddress = held.find(({ addresses }) => addresses.includes(name));
  if (byAddress) return found(byAddress, name);
  const byId = (id: string) => held.find((each) => each.id === id);
  const starting = name.length < MIN_ID ? [] : held.filter(({ id }) => id.startsWith(name));
  const known = byId(name) ?? (starting.length === 1 ? starting[0] : undefined);
  if (known) return found(known);
  const container = await findContainer(runtimes, name).catch(() => undefined);
  return container && found(byId(container.id));
}
