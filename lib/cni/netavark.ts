// The plugin API of netavark, podman's network stack (netavark: plugin-API.md, src/network/types.rs), in terms of CNI: setup is
// an ADD, teardown a DEL. Pure.
import * as v from "valibot";
import { cidrContains, formatCidr, formatIPv4, parseIPv4 } from "../address/ipv4.ts";
import { parsed } from "../address/schema.ts";
import { parseAllocationSubnet } from "../address/subnet.ts";
import { MAX_HOST_PORTS } from "../host/hostports/mapping.ts";
import { LINK_NAME_MAX } from "../netlink/link/message.ts";

/** Version of the API. */
export const API_VERSION = "1.0.0";
/** podman allocates no addresses of a network with this. */
const NO_IPAM = { driver: "none" };
/** Where the network's subnet is kept: podman refuses `subnets` that a link of the host has. */
const SUBNET = "subnet";
const MAX_ALIASES = 256;

const Text = v.pipe(v.string(), v.maxLength(256));
const Strings = v.nullish(v.record(Text, v.string()));
const Name = v.pipe(v.string(), v.regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,200}$/, "not a name of a network"));

/** A network; what is not named here is left as it is. */
const Network = v.looseObject({
  name: Name,
  driver: Text,
  internal: v.optional(v.boolean(), false),
  ipv6_enabled: v.optional(v.boolean(), false),
  options: Strings,
  ipam_options: Strings,
  subnets: v.nullish(
    v.array(
      v.looseObject({
        subnet: v.string(),
        gateway: v.nullish(v.string()),
        lease_range: v.nullish(v.unknown()),
      }),
    ),
  ),
});

const Port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535));
const PortMapping = v.object({
  container_port: Port,
  host_port: Port,
  host_ip: v.optional(v.string(), ""),
  /** Several with commas between them. */
  protocol: v.optional(v.string(), "tcp"),
  /** Ports from these on. */
  range: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MAX_HOST_PORTS)), 1),
});

const ExecToRemove = v.object({
  container_id: v.pipe(
    v.string(),
    v.regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/, "not the ID of a container"),
  ),
  container_name: v.optional(Text, ""),
  network: Network,
  network_options: v.object({
    interface_name: v.pipe(v.string(), v.regex(/^[^/:\s]+$/), v.maxLength(LINK_NAME_MAX)),
  }),
});

const Exec = v.object({
  ...ExecToRemove.entries,
  port_mappings: v.nullish(v.pipe(v.array(PortMapping), v.maxLength(MAX_HOST_PORTS))),
  network_options: v.object({
    ...ExecToRemove.entries.network_options.entries,
    aliases: v.nullish(v.pipe(v.array(Text), v.maxLength(MAX_ALIASES))),
    static_ips: v.nullish(v.array(parsed(parseIPv4))),
    static_mac: v.nullish(v.string()),
  }),
});

type NetavarkExec = v.InferOutput<typeof Exec>;

function read<S extends v.GenericSchema>(schema: S, text: string, what: string): v.InferOutput<S> {
  const found = v.safeParse(v.pipe(v.string(), v.parseJson(), schema), text);
  if (found.success) return found.output;
  const [issue] = found.issues;
  const path = issue.path?.map(({ key }) => String(key)).join(".");
  throw new Error(`${what} on standard input is invalid: ${path ? `${path}: ` : ""}${issue.message}`);
}

/** Return the network that podman is to save for this one. Throws an Error for what is not supported. */
export function createdNetwork(text: string): object {
  const network = read(Network, text, "the network");
  const { options, ipam_options: ipam, subnets } = network;
  if (network.ipv6_enabled) throw new Error("IPv6 is not supported; create the network without --ipv6");
  if (ipam?.["driver"] !== undefined && !["host-local", "none"].includes(ipam["driver"]))
    throw new Error(`--ipam-driver ${ipam["driver"]} is not supported: the router allocates addresses`);
  const [first, second] = subnets ?? [];
  if (second) throw new Error("a network has one --subnet; create another network");
  if (first?.gateway)
    throw new Error("--gateway is not supported: 'weave expose' gives this host an address");
  if (first?.lease_range) throw new Error("--ip-range is not supported; use a smaller --subnet");
  for (const name of Object.keys(options ?? {}))
    if (name !== SUBNET) throw new Error(`unknown option ${name}; the only one is ${SUBNET}`);
  const subnet = first?.subnet ?? options?.[SUBNET];
  return {
    ...network,
    subnets: [],
    dns_enabled: false,
    ipam_options: NO_IPAM,
    options: subnet === undefined ? {} : { [SUBNET]: formatCidr(parseAllocationSubnet(subnet)) },
  };
}

/** What a container is to get. */
export interface NetavarkCall {
  readonly exec: NetavarkExec;
  /** Variables and configuration of CNI. */
  readonly variables: Record<string, string>;
  readonly input: string;
}

/** Return setup or teardown of a container in the namespace at `netns` as a call of CNI. Throws an Error likewise. */
export function cniCall(command: "ADD" | "DEL", netns: string, text: string): NetavarkCall {
  // What a setup was refused for must not keep the container from being removed.
  const exec: NetavarkExec = read(command === "ADD" ? Exec : ExecToRemove, text, "the container");
  const { network, network_options: wanted } = exec;
  const given = network.options?.[SUBNET];
  const subnet = given === undefined ? undefined : parseAllocationSubnet(given);
  const ips = wanted.static_ips ?? [];
  const outside = subnet && ips.find((ip) => !cidrContains(subnet, ip));
  if (command === "ADD" && subnet && outside !== undefined)
    throw new Error(`--ip ${formatIPv4(outside)} is not in the subnet ${formatCidr(subnet)} of the network`);
  return {
    exec,
    variables: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: exec.container_id,
      CNI_NETNS: netns,
      CNI_IFNAME: wanted.interface_name,
    },
    input: JSON.stringify({
      cniVersion: "1.0.0",
      // CNI may have a network of the same name, and collect what is left of it.
      name: `netavark.${network.name}`,
      type: "weave-net",
      ipam: {
        ...(subnet && { subnet: formatCidr(subnet) }),
        ...(network.internal && { routes: [] }),
      },
      runtimeConfig: {
        portMappings: portMappings(exec),
        ips: ips.map((ip) => formatIPv4(ip) + (subnet ? `/${subnet.prefix}` : "")),
        ...(wanted.static_mac && { mac: wanted.static_mac }),
      },
    }),
  };
}

/** Return the published ports as CNI has them, one an entry. */
function portMappings({ port_mappings: mappings }: NetavarkExec): object[] {
  const ports = (mappings ?? []).flatMap(({ container_port, host_port, host_ip: hostIP, protocol, range }) =>
    (protocol || "tcp").split(",").flatMap((each) =>
      Array.from({ length: Math.max(1, range) }, (_, i) => ({
        ...{ hostPort: host_port + i, containerPort: container_port + i, protocol: each.trim(), hostIP },
      })),
    ),
  );
  if (ports.length > MAX_HOST_PORTS) throw new Error(`more than ${MAX_HOST_PORTS} published ports`);
  return ports;
}

const Result = v.object({
  interfaces: v.array(
    v.object({ name: v.string(), mac: v.optional(v.string(), ""), sandbox: v.optional(v.string()) }),
  ),
  ips: v.array(v.object({ address: v.string(), gateway: v.optional(v.string()) })),
});

/** Where and for which domain a container asks for names. */
export interface DnsOfContainer {
  readonly servers: readonly string[];
  readonly search: readonly string[];
}

/** Return the status block of a container for the result of an ADD. */
export function statusBlock(output: string, { exec }: NetavarkCall, dns: DnsOfContainer): object {
  const { interfaces, ips } = v.parse(Result, JSON.parse(output));
  const inner = interfaces.find(({ sandbox }) => sandbox !== undefined);
  return {
    dns_search_domains: dns.search,
    dns_server_ips: dns.servers,
    interfaces: {
      [exec.network_options.interface_name]: {
        mac_address: inner?.mac ?? "",
        subnets: ips.map(({ address, gateway }) => ({ ipnet: address, ...(gateway && { gateway }) })),
      },
    },
  };
}

/** Return the addresses of the result of an ADD, without prefix lengths. */
export const addressesOf = (output: string): string[] =>
  v.parse(Result, JSON.parse(output)).ips.map(({ address }) => address.split("/")[0] ?? "");

/** Return whether this host is the gateway of the result of an ADD. */
export const hasGateway = (output: string): boolean =>
  v.parse(Result, JSON.parse(output)).ips.some(({ gateway }) => gateway !== undefined);
