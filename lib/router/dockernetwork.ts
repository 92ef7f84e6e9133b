// Docker's networks in a router: the network and IPAM driver on Docker's plugin sockets, with the allocator, the names and
// the kernel of this host.
import { formatIPv4, type IPv4, parseCidr } from "../address/ipv4.ts";
import { runDirectory } from "../api/paths.ts";
import { endpointsOf, networkedContainer } from "../container/networks.ts";
import { type DockerEndpoint, dockerBooks } from "../container/plugin/books.ts";
import { type DockerIpam, holderOfMac, IpamDriver } from "../container/plugin/ipamdriver.ts";
import { type DockerLinks, NetworkDriver } from "../container/plugin/networkdriver.ts";
import { pluginAnswerer, pluginMethods } from "../container/plugin/protocol.ts";
import type { Nameserver } from "../dns/nameserver.ts";
import { EXPOSE_ID } from "../host/names.ts";
import type { Allocator } from "../ipam/allocator.ts";
import { CancelledError, IpamError } from "../ipam/errors.ts";
import { guarded } from "../log/unexpected.ts";
import type { Addresses } from "./addresses.ts";
import type { RouterContext } from "./context.ts";
import { DockerEndpoints } from "./dockerendpoints.ts";
import { adoptEndpoint, dockersHolder, ENDPOINT } from "./dockerleases.ts";
import { hasDocker, PLUGIN_NAMES, PluginSocket } from "./pluginsocket.ts";
import type { ContainerPorts } from "./ports.ts";

/** Serve Docker's networks where Docker is; the result follows its containers. */
export function startDockerNetwork(
  context: RouterContext,
  ports: ContainerPorts,
  { allocator, work }: Pick<Addresses, "allocator" | "work">,
  nameserver: Nameserver | undefined,
): DockerEndpoints {
  const { options, clock, scope, store, damaged, files } = context;
  const log = context.log.with({ component: "docker" });
  const books = dockerBooks(store, damaged);
  guarded("addresses of Docker's endpoints", () => {
    for (const [id, { address }] of books.endpoints.all())
      if (address !== null) adoptEndpoint(allocator, id, parseCidr(address).address);
  });
  const cniWork = ports.forgetOnDetach(work);
  const release = async (address: IPv4) => {
    const holder = dockersHolder(allocator, address);
    if (holder === undefined) return;
    await allocator.free(holder, address).catch((error) => {
      if (!(error instanceof IpamError)) throw error;
    });
  };
  const links: DockerLinks = {
    add: (id, mac, address) => work.addEndpoint({ id, mac, addresses: address ? [address] : [] }),
    async remove({ inner, alias }) {
      await cniWork.detach({ netns: undefined, ifName: inner, alias });
    },
    hold(id, mac, { address }) {
      if (allocator.lifecycle.holderOf(address) === holderOfMac(mac))
        allocator.transfer(address, id, ENDPOINT);
    },
    left({ container, address }) {
      if (container !== null && address !== null)
        nameserver?.delete({ containerId: container, address: parseCidr(address).address });
    },
    now: () => clock.wall(),
  };
  const network = new NetworkDriver(links, books, log);
  const ipam = new IpamDriver(dockerIpam(context, allocator, release), books);
  const answer = pluginAnswerer(pluginMethods(network, ipam), log);
  const wanted = options["docker-plugin"];
  // Several routers on one machine, each with folders of its own, cannot all have Docker's.
  const isWanted = () => wanted ?? (runDirectory() === "/run/weave" && hasDocker());
  for (const name of PLUGIN_NAMES) {
    const socket = scope.use("the Docker plugin", new PluginSocket(name, isWanted, answer, log));
    files.keep(socket);
  }
  files.look();
  const sockets = options["docker-api"];
  return scope.use(
    "endpoints of Docker",
    new DockerEndpoints({
      clock,
      log,
      books,
      find: (id) => networkedContainer(sockets, id),
      list: () => endpointsOf(sockets, PLUGIN_NAMES),
      hold(address, container, attachment) {
        if (dockersHolder(allocator, address) !== undefined)
          allocator.transfer(address, container, attachment);
      },
      assign: (alias, owner) => ports.assign(alias, owner),
      tune: (outer) => work.tuneEndpoint(outer),
      name: (hostname, container, address) => nameserver?.add(hostname, container, address),
      async remove(id, endpoint: DockerEndpoint) {
        links.left(endpoint);
        await network.deleteEndpoint({ NetworkID: endpoint.network, EndpointID: id });
        if (endpoint.address !== null) await release(parseCidr(endpoint.address).address);
      },
      domain: nameserver?.config.domain,
    }),
  );
}

function dockerIpam(
  { options }: RouterContext,
  allocator: Allocator,
  release: DockerIpam["release"],
): DockerIpam {
  /** Say what was waited for, where a request was given up. */
  const orWhy = async <T>(holder: string, request: Promise<T>): Promise<T> => {
    const waits = () => allocator.waits(holder)[0];
    let why: string | undefined;
    const look = setInterval(() => {
      why = waits() ?? why;
    }, 500);
    try {
      return await request;
    } catch (error) {
      if (!(error instanceof CancelledError)) throw error;
      throw new Error(`no address: ${why ?? "the request was cancelled"}`, { cause: error });
    } finally {
      clearInterval(look);
    }
  };
  return {
    range: options.allocates ? options.range : undefined,
    defaultSubnet: options.defaultSubnet,
    allocate: (holder, { prefix }, range, signal) =>
      orWhy(
        holder,
        allocator.allocate(holder, range, { isContainer: true, prefix, failWhenExhausted: true, signal }),
      ),
    claim: (holder, cidr, signal) =>
      orWhy(holder, allocator.claim(holder, cidr, { isContainer: true, signal })),
    release,
    reserve(address) {
      const holder = allocator.lifecycle.holderOf(address);
      if (holder !== undefined && holder !== EXPOSE_ID)
        throw new Error(`${formatIPv4(address)} is in use by ${holder}`);
      allocator.reserve(address);
    },
    unreserve: (address) => allocator.reserve(address, false),
  };
}
