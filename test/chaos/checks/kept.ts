// What the router keeps of a host's kernel state, as far as traffic between containers does not show it: others take away only
// what is there.
import { type Model, numbers } from "../model.ts";
import type { World } from "../world.ts";

const LINKS = ["weave", "vxlan-6784", "sleeve-6783"];
const CHAINS = ["postrouting", "forward", "input"];

/** Return what is missing on hosts whose routers run. */
export async function missingState(world: World, model: Model): Promise<string[]> {
  const running = numbers(model).filter((host) => model.hosts[host - 1]?.router === "running");
  return (await Promise.all(running.map((host) => ofHost(world, host)))).flat();
}

async function ofHost(world: World, host: number): Promise<string[]> {
  const on = world.host(host);
  const [table, qdiscs] = await Promise.all([
    on.exec(["nft", "list", "table", "ip", "weave"]),
    on.exec(["tc", "qdisc", "show"]),
  ]);
  return missingIn(table.stdout, qdiscs.stdout).map((what) => `host ${host}: ${what} is missing`);
}

/** The same, in what nft says of the table, and tc of all qdiscs. */
export function missingIn(table: string, qdiscs: string): string[] {
  const hasRule = (chain: string) => new RegExp(`chain ${chain} \\{\\s+type .*\\n\\s+[^\\s}]`).test(table);
  return [
    ...CHAINS.filter((chain) => !hasRule(chain)).map((chain) => `chain ${chain} of table ip weave`),
    ...LINKS.filter((link) => !qdiscs.includes(`qdisc clsact ffff: dev ${link} `)).map(
      (link) => `traffic control of link ${link}`,
    ),
  ];
}
