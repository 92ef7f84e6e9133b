// Host ports: connections to a port of this host go to a container's port.
import * as v from "valibot";
import { formatIPv4 } from "../../address/ipv4.ts";
import { AddressNumber } from "../../address/schema.ts";

/** Protocols, and their numbers (IANA). */
export const PROTOCOLS = { tcp: 6, udp: 17, sctp: 132 } as const;

const Port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535));

/** Host ports of one attachment. */
export const MAX_HOST_PORTS = 256;

export const HostPorts = v.pipe(
  v.array(
    v.object({
      protocol: v.picklist(["tcp", "udp", "sctp"]),
      /** The address of this host that it is for; absent for all. */
      hostIp: v.optional(AddressNumber),
      hostPort: Port,
      /** The container's. */
      address: AddressNumber,
      port: Port,
    }),
  ),
  v.maxLength(MAX_HOST_PORTS, `more than ${MAX_HOST_PORTS} host ports`),
);

export type HostPort = v.InferOutput<typeof HostPorts>[number];

/** Host ports of one attachment. */
export interface OwnedPorts {
  /** The alias of the host's end of its veth. */
  readonly owner: string;
  readonly ports: readonly HostPort[];
}

/** Return what a packet is looked up by: two host ports with the same one cannot both be. */
export function hostPortText({ protocol, hostIp, hostPort }: Omit<HostPort, "address" | "port">): string {
  return `${hostIp === undefined ? "" : `${formatIPv4(hostIp)}:`}${hostPort}/${protocol}`;
}

export function targetText({ address, port }: HostPort): string {
  return `${formatIPv4(address)}:${port}`;
}
