// No address twice, nothing acknowledged lost, nothing held that nobody asked for.
import { holders } from "../../../lib/api/client.ts";
import { containersOf, type Model, numbers } from "../model.ts";
import type { World } from "../world.ts";

const EXPOSED = "weave:expose";

/** Return what is wrong with the addresses of hosts whose routers run. */
export async function wrongAddresses(world: World, model: Model): Promise<string[]> {
  const running = numbers(model).filter((host) => model.hosts[host - 1]?.router === "running");
  const wrong = await Promise.all(running.map((host) => ofHost(world, model, host)));
  return [...wrong.flat(), ...doubled(model)];
}

async function ofHost(world: World, model: Model, host: number): Promise<string[]> {
  const held = await holders(world.call(host));
  const wrong: string[] = [];
  const holdings = model.holdings.filter((each) => each.host === host);
  for (const { id, address } of [...containersOf(model, host), ...holdings]) {
    const has = (held.get(id) ?? []).map((cidr) => cidr.replace(/\/.*/, ""));
    if (has.join() !== address)
      wrong.push(`host ${host}: ${id} was given ${address} and has ${has.join() || "none"}`);
    held.delete(id);
  }
  const others = model.containers.filter((each) => each.host !== host);
  for (const [id, cidrs] of held) {
    for (const cidr of cidrs) {
      const twice = others.find(({ address }) => cidr.startsWith(`${address}/`));
      if (twice) wrong.push(`host ${host}: ${id} has ${cidr}, and so has ${twice.id} on host ${twice.host}`);
    }
    if (id !== EXPOSED) wrong.push(`host ${host}: ${id}, which is gone, still holds ${cidrs.join()}`);
  }
  return wrong;
}

function doubled({ containers, holdings }: Model): string[] {
  const by = Map.groupBy([...containers, ...holdings], ({ address }) => address);
  return [...by]
    .filter(([, holding]) => holding.length > 1)
    .map(
      ([address, holding]) =>
        `${address} was given to ${holding.map(({ id, host }) => `${id} on host ${host}`).join(" and ")}`,
    );
}
