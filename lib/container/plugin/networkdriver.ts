// The network driver: an endpoint is a link from the bridge, which dockerd moves into the container and gives its address.
// The way to the outside, and published ports, are docker_gwbridge's, which dockerd adds to a container by itself.

import type * as v from "valibot";
import { type Cidr, formatCidr } from "../../address/ipv4.ts";
import type { Log } from "../../log/log.ts";
import type { DockerBooks, DockerEndpoint } from "./books.ts";
import { requireRoom } from "./books.ts";
import {
  type CreateEndpoint,
  type CreateNetwork,
  networkOptions,
  type OfEndpoint,
  type OfNetwork,
} from "./messages.ts";

/** Option of a network: route multicast to it. */
const MULTICAST_OPTION = "works.weave.multicast";
const OWN_OPTIONS = "works.weave.";

/** Prefix of the names that links get in containers; dockerd adds a number. */
export const INSIDE = "ethwe";

/** Address space of Docker's own IPAM driver (defaultipam.DefaultAddressSpace). */
const DOCKERS_SPACE = "LocalDefault";

const MULTICAST = "224.0.0.0/4";
/** types.CONNECTED of libnetwork. */
const CONNECTED = 1;

/** An endpoint's link, in this host's namespace. */
interface EndpointLink {
  readonly outer: string;
  readonly inner: string;
  readonly alias: string;
  /** Ethernet address of the inner end. */
  readonly mac: string;
}

/** The kernel and the allocator, as the driver uses them. Rejections say what is wrong. */
export interface DockerLinks {
  /** Make the link of an endpoint; with an Ethernet address of our choice unless one is given. */
  add(id: string, mac: string | undefined, address: Cidr | undefined): Promise<EndpointLink>;
  /** Remove a link, if it is there. */
  remove(link: EndpointLink): Promise<void>;
  /** Let the endpoint hold the address that was allocated for its Ethernet address. */
  hold(id: string, mac: string, address: Cidr): void;
  /** The container leaves: forget its names for this address. */
  left(endpoint: DockerEndpoint): void;
  /** Milliseconds since the epoch. */
  now(): number;
}

export class NetworkDriver {
  constructor(
    private readonly links: DockerLinks,
    private readonly books: DockerBooks,
    private readonly log: Log,
  ) {}

  /**
   * Networks are local: each host creates its own of the same subnet, as the allocator is what they share. Global ones need
   * swarm mode, which takes plugins from images only.
   */
  capabilities(): object {
    return { Scope: "local", ConnectivityScope: "global", GwAllocChecker: true };
  }

  /** See IpamDriver.requestAddress(). */
  gatewayCheck(): object {
    return { SkipIPv4: true, SkipIPv6: true };
  }

  createNetwork(request: v.InferOutput<typeof CreateNetwork>): object {
    const { NetworkID, Options, IPv6Data } = request;
    if (IPv6Data.length > 0) throw new Error("IPv6 is not supported; create the network without --ipv6");
    let multicast = false;
    for (const [name, value] of networkOptions(Options)) {
      if (name === MULTICAST_OPTION) multicast = isOn(value);
      else if (name.startsWith(OWN_OPTIONS))
        throw new Error(`unknown option ${name}; the only one is ${MULTICAST_OPTION}`);
      else this.log.warning(`option ${name} of a Docker network has no effect`, { network: NetworkID });
    }
    if (!this.books.networks.get(NetworkID)) requireRoom(this.books, "networks");
    this.books.networks.set(NetworkID, { multicast });
    if (request.IPv4Data.some(({ AddressSpace }) => AddressSpace === DOCKERS_SPACE))
      this.log.warning(
        "Docker allocates the addresses of a network by itself, and another host may give the same again; create it with --ipam-driver weave",
        { network: NetworkID },
      );
    this.log.info("created a Docker network", {
      network: NetworkID,
      subnets: request.IPv4Data.map(({ Pool }) => formatCidr(Pool)),
    });
    return {};
  }

  async deleteNetwork({ NetworkID }: v.InferOutput<typeof OfNetwork>): Promise<object> {
    for (const [id, { network }] of this.books.endpoints.all())
      if (network === NetworkID) await this.deleteEndpoint({ NetworkID, EndpointID: id });
    this.books.networks.delete(NetworkID);
    this.log.info("deleted a Docker network", { network: NetworkID });
    return {};
  }

  async createEndpoint(request: v.InferOutput<typeof CreateEndpoint>): Promise<object> {
    const { NetworkID, EndpointID: id, Interface } = request;
    const { Address: address, MacAddress: given, AddressIPv6 = "" } = Interface ?? {};
    if (AddressIPv6 !== "") throw new Error("IPv6 is not supported");
    const made = this.books.endpoints.get(id);
    // A request that dockerd repeats.
    if (made) await this.links.remove(made);
    else requireRoom(this.books, "endpoints");
    const link = await this.links.add(id, given, address);
    try {
      this.books.endpoints.set(id, {
        network: NetworkID,
        address: address ? formatCidr(address) : null,
        ...link,
        container: null,
        madeAt: this.links.now(),
      });
      if (address) this.links.hold(id, link.mac, address);
    } catch (error) {
      this.books.endpoints.delete(id);
      await this.links.remove(link);
      throw error;
    }
    // What dockerd has said must not be answered.
    return { Interface: given === undefined ? { MacAddress: link.mac } : {} };
  }

  endpointInfo({ EndpointID }: v.InferOutput<typeof OfEndpoint>): object {
    const endpoint = this.books.endpoints.get(EndpointID);
    return { Value: endpoint ? { "works.weave.link": endpoint.outer } : {} };
  }

  async deleteEndpoint({ EndpointID: id }: v.InferOutput<typeof OfEndpoint>): Promise<object> {
    const endpoint = this.books.endpoints.get(id);
    // One that was removed already: dockerd asks again after an answer was lost.
    if (!endpoint) return {};
    await this.links.remove(endpoint);
    this.books.endpoints.delete(id);
    return {};
  }

  join({ NetworkID, EndpointID }: v.InferOutput<typeof OfEndpoint>): object {
    const endpoint = this.books.endpoints.get(EndpointID);
    if (!endpoint)
      throw new Error(
        `endpoint ${EndpointID.slice(0, 12)} is unknown, as after 'weave reset'; start the container again`,
      );
    const { multicast = false } = this.books.networks.get(NetworkID) ?? {};
    return {
      InterfaceName: { SrcName: endpoint.inner, DstPrefix: INSIDE },
      StaticRoutes: multicast ? [{ Destination: MULTICAST, RouteType: CONNECTED, NextHop: "" }] : [],
    };
  }

  leave({ EndpointID }: v.InferOutput<typeof OfEndpoint>): object {
    const endpoint = this.books.endpoints.get(EndpointID);
    if (endpoint) this.links.left(endpoint);
    return {};
  }
}

/** Return a boolean as Go's strconv.ParseBool() reads it; empty is true. Throws for other text. */
function isOn(value: string): boolean {
  if (["", "1", "t", "T", "true", "TRUE", "True"].includes(value)) return true;
  if (["0", "f", "F", "false", "FALSE", "False"].includes(value)) return false;
  throw new Error(`option ${MULTICAST_OPTION}: "${value}" is neither true nor false`);
}
