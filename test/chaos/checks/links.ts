// A veth for each container, and no other.
import { linkList } from "../../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../../lib/netlink/socket.ts";
import { inNetns } from "../../../lib/sys/netns.ts";
import { containersOf, type Model, numbers } from "../model.ts";
import type { World } from "../world.ts";

/** Return what is wrong with the links of hosts whose routers run. */
export async function wrongLinks(world: World, model: Model): Promise<string[]> {
  const running = numbers(model).filter((host) => model.hosts[host - 1]?.router === "running");
  return running.flatMap((host) => ofHost(world, model, host));
}

function linkNames(netns: string): string[] {
  return inNetns(netns, () => {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    return linkList(nl).map(({ name }) => name);
  });
}

function ofHost(world: World, model: Model, host: number): string[] {
  const names = linkNames(`/run/netns/${world.host(host).netns}`);
  const ours = names.filter((name) => name.startsWith("vethwe"));
  const wanted = containersOf(model, host).length;
  return ours.length === wanted
    ? []
    : [`host ${host}: ${ours.length} veths for ${wanted} containers: ${ours.join(" ")}`];
}
