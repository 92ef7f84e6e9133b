// Requests of libnetwork's remote network driver and remote IPAM driver, as dockerd sends them (moby:
// daemon/libnetwork/drivers/remote/api, daemon/libnetwork/ipams/remote/api, docs/remote.md, docs/ipam.md).
import * as v from "valibot";
import { AddressError, type Cidr, parseCidr, parseIPv4, parseSubnet } from "../../address/ipv4.ts";
import { parseMac } from "../../address/mac.ts";
import { parsed } from "../../address/schema.ts";

/** Pools of a network, and addresses that a pool sets aside. */
const MAX_POOLS = 64;
const MAX_AUXILIARY = 256;

/** Options of IPAM requests (ipamapi.RequestAddressType, netlabel.Gateway, netlabel.MacAddress). */
const REQUEST_TYPE = "RequestAddressType";
const GATEWAY = "com.docker.network.gateway";
const MAC = "com.docker.network.endpoint.macaddress";
/** Options of `docker network create --opt` (netlabel.GenericData). */
const GENERIC = "com.docker.network.generic";

/** Hexadecimal, and in swarm mode of letters and digits. */
const Id = v.pipe(v.string(), v.regex(/^[0-9a-z]{1,64}$/, "not an ID"));
const Cidr4 = parsed(parseCidr);
const Text = v.pipe(v.string(), v.maxLength(256));
const orEmpty = <T>(parse: (text: string) => T) =>
  parsed((text): T | undefined => (text === "" ? undefined : parse(text)));
const Mac = orEmpty((text) => {
  parseMac(text);
  return text.toLowerCase();
});

const Pool = v.object({
  AddressSpace: v.optional(v.string(), ""),
  Pool: Cidr4,
  Gateway: v.optional(orEmpty(parseCidr)),
  AuxAddresses: v.nullish(v.pipe(v.record(Text, Text), v.maxEntries(MAX_AUXILIARY))),
});

const Options = v.nullish(v.record(Text, v.unknown()));

export const CreateNetwork = v.object({
  NetworkID: Id,
  Options,
  IPv4Data: v.nullish(v.pipe(v.array(Pool), v.maxLength(MAX_POOLS)), []),
  IPv6Data: v.nullish(v.pipe(v.array(v.unknown()), v.maxLength(MAX_POOLS)), []),
});

export const OfNetwork = v.object({ NetworkID: Id });
export const OfEndpoint = v.object({ NetworkID: Id, EndpointID: Id });

export const CreateEndpoint = v.object({
  NetworkID: Id,
  EndpointID: Id,
  Interface: v.nullish(
    v.object({
      Address: v.optional(orEmpty(parseCidr)),
      AddressIPv6: v.optional(v.string(), ""),
      MacAddress: v.optional(Mac),
    }),
  ),
});

const parsePool = (text: string): Cidr => {
  if (text.includes(":")) throw new AddressError(`${text}: IPv6 is not supported; leave out --ipv6`);
  return parseSubnet(text);
};

export const RequestPool = v.object({
  Pool: v.optional(orEmpty(parsePool)),
  SubPool: v.optional(orEmpty(parsePool)),
  V6: v.optional(v.boolean(), false),
});

export const OfPool = v.object({ PoolID: Text });

const Strings = v.nullish(v.record(Text, v.string()));

export const RequestAddress = v.object({
  PoolID: Text,
  Address: v.optional(orEmpty(parseIPv4)),
  Options: Strings,
});

export const ReleaseAddress = v.object({ PoolID: Text, Address: parsed(parseIPv4) });

/** Return the options of `docker network create --opt`. */
export function networkOptions(options: v.InferOutput<typeof Options>): Map<string, string> {
  const generic = v.safeParse(v.record(v.string(), v.unknown()), options?.[GENERIC]);
  if (!generic.success) return new Map();
  return new Map(
    Object.entries(generic.output).flatMap(([name, value]) =>
      typeof value === "string" ? [[name, value] as const] : [],
    ),
  );
}

/** Return whether an address is requested for the gateway of a network. */
export const isForGateway = (options: v.InferOutput<typeof Strings>): boolean =>
  options?.[REQUEST_TYPE] === GATEWAY;

/** Return the Ethernet address of the endpoint that an address is requested for; undefined for none. */
export function macOf(options: v.InferOutput<typeof Strings>): string | undefined {
  const mac = v.safeParse(Mac, options?.[MAC] ?? "");
  return mac.success ? mac.output : undefined;
}

/** A subnet, and the part of it that addresses are allocated from. */
export interface AddressPool {
  readonly subnet: Cidr;
  readonly range: Cidr;
}
