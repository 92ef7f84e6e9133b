// Names that were acknowledged are known wherever their host can be reached; those that were deleted are not.
import * as v from "valibot";
import { hasFault, isSkewed, type Model, numbers } from "../model.ts";
import { component } from "../reach.ts";
import type { World } from "../world.ts";

const Names = v.nullable(
  v.array(v.looseObject({ Hostname: v.string(), Addr: v.string(), Tombstone: v.number() })),
);

/** Return what is wrong with the names that routers know. */
export async function wrongNames(world: World, model: Model): Promise<string[]> {
  const running = numbers(model).filter((host) => model.hosts[host - 1]?.router === "running");
  const wrong = await Promise.all(running.map((host) => ofHost(world, model, host)));
  return wrong.flat();
}

async function ofHost(world: World, model: Model, host: number): Promise<string[]> {
  const entries = v.parse(Names, JSON.parse(await world.call(host)("GET", "/name"))) ?? [];
  const known = new Set(
    entries
      .filter((each) => each.Tombstone === 0)
      .map((each) => `${each.Hostname.toLowerCase()} ${each.Addr}`),
  );
  const reachable = component(model, host);
  // Gossip that was under way on a path that is cut is repeated by others after a minute only.
  const certain = !hasFault(model, "network") && !isSkewed(model, host);
  const named = model.containers.filter(({ name }) => name !== undefined);
  const wanted = new Set<string>();
  const wrong: string[] = [];
  for (const { name, address, host: at } of named) {
    const entry = `${name}.weave.local. ${address}`;
    wanted.add(entry);
    if (certain && reachable.has(at) && !isSkewed(model, at) && !known.has(entry))
      wrong.push(`host ${host} does not know ${entry} of host ${at}`);
  }
  // Elsewhere somebody may not have heard yet that it is gone.
  if (reachable.size < model.hosts.length || numbers(model).some((each) => isSkewed(model, each)))
    return wrong;
  for (const entry of known) if (!wanted.has(entry)) wrong.push(`host ${host} knows ${entry}, which is gone`);
  return wrong;
}
