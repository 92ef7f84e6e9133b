// The network configuration on standard input, checked: https://www.cni.dev/docs/spec/#section-1-network-configuration-format

import * as v from "valibot";
import { parseCidr, parseIPv4 } from "../address/ipv4.ts";
import { parsed } from "../address/schema.ts";
import { parseAllocationSubnet } from "../address/subnet.ts";
import { MAX_HOST_PORTS } from "../host/hostports/mapping.ts";
import { BRIDGE } from "../host/names.ts";
import { parseSender } from "../host/ports/binding.ts";
import { LINK_NAME_MAX } from "../netlink/link/message.ts";
import { reasonOf } from "../sys/reason.ts";
import { CniError, CODE } from "./error.ts";
import { MAX_CONFIG_BYTES } from "./input.ts";

export const SUPPORTED_VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
/** Version of a configuration without cniVersion. */
const UNSAID_VERSION = "0.1.0";

/** A number of 32 bits, as the kernel has it. */
const Word = v.pipe(
  v.number(),
  v.integer("not a whole number"),
  v.minValue(0, "negative"),
  v.maxValue(2 ** 32 - 1, "more than 32 bits"),
);
const Octet = v.pipe(Word, v.maxValue(255, "more than 255"));

/** A route; all but destination and gateway since CNI 1.1. */
const Route = v.object({
  dst: parsed(parseCidr),
  gw: v.optional(parsed(parseIPv4)),
  mtu: v.optional(Word),
  advmss: v.optional(Word),
  priority: v.optional(Word),
  table: v.optional(Word),
  scope: v.optional(Octet),
});

/** Addresses that a runtime may ask for. */
const MAX_WANTED = 16;

const Dns = v.object({
  nameservers: v.optional(v.array(v.string())),
  domain: v.optional(v.string()),
  search: v.optional(v.array(v.string())),
  options: v.optional(v.array(v.string())),
});

const Ipam = v.object({
  /** The IPAM plugin; by default the router. */
  type: v.optional(v.pipe(v.string(), v.regex(/^[^/]*$/, "a plugin's name has no '/'")), ""),
  subnet: v.optional(parsed(parseAllocationSubnet)),
  gateway: v.optional(parsed(parseIPv4)),
  /** Absent: a default route. An empty list: no route. */
  routes: v.optional(v.nullable(v.array(Route))),
});

const Port = v.pipe(
  v.number(),
  v.integer("not a whole number"),
  v.minValue(1, "should be 1 to 65535"),
  v.maxValue(65_535, "should be 1 to 65535"),
);

/** Keys as CNI has them; containerd and Nomad write the names of their structures ("HostPort"), as Go reads keys of any case. */
const KEYS: ReadonlyMap<string, string> = new Map(
  ["hostPort", "containerPort", "protocol", "hostIP"].map((key) => [key.toLowerCase(), key]),
);
const ofAnyCase = (entry: unknown): unknown =>
  typeof entry === "object" && entry !== null
    ? Object.fromEntries(
        Object.entries(entry).map(([key, value]) => [KEYS.get(key.toLowerCase()) ?? key, value]),
      )
    : entry;

const PortMappingFields = v.object({
  hostPort: Port,
  containerPort: Port,
  protocol: v.optional(
    v.pipe(
      v.string(),
      v.transform((text) => text.toLowerCase() || "tcp"),
      v.picklist(["tcp", "udp", "sctp"], "should be tcp, udp or sctp"),
    ),
    "tcp",
  ),
  hostIP: v.optional(v.string(), ""),
});

const PortMapping = v.pipe(v.unknown(), v.transform(ofAnyCase), PortMappingFields);

/** What the runtime adds for the capabilities that a configuration declares; see CONVENTIONS.md of CNI. */
const RuntimeConfig = v.object({
  portMappings: v.nullish(v.pipe(v.array(PortMapping), v.maxLength(MAX_HOST_PORTS, "too many")), []),
  ips: v.nullish(v.pipe(v.array(v.string()), v.maxLength(MAX_WANTED, "too many")), []),
  mac: v.nullish(v.string()),
});

/** The same by users, beside CNI_ARGS. */
const Args = v.object({
  cni: v.nullish(
    v.object({
      ips: v.nullish(v.pipe(v.array(v.string()), v.maxLength(MAX_WANTED, "too many")), []),
      mac: v.nullish(v.string()),
    }),
  ),
});

/** Each takes an entry of a kernel map for each container. */
const MAX_ALLOWED = 60;

/** The attachments that a GC keeps. Required: a missing list, taken as an empty one, would release addresses in use. */
const VALID = "cni.dev/valid-attachments";

const Config = v.object({
  cniVersion: v.optional(v.string(), UNSAID_VERSION),
  name: v.optional(v.pipe(v.string(), v.regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/, "not a valid network name"))),
  type: v.optional(v.string()),
  bridge: v.optional(
    v.pipe(v.string(), v.minLength(1, "is empty"), v.maxLength(LINK_NAME_MAX, "too long for a link's name")),
    BRIDGE,
  ),
  mtu: v.optional(
    v.pipe(
      v.number(),
      v.integer("not a whole number"),
      v.minValue(0, "negative"),
      v.maxValue(65_535, "more than 65535"),
    ),
    0,
  ),
  /** Further source addresses for containers: IP addresses, subnets, Ethernet addresses. */
  allowedAddresses: v.optional(
    v.pipe(v.array(parsed(parseSender)), v.maxLength(MAX_ALLOWED, `more than ${MAX_ALLOWED}`)),
    [],
  ),
  hairpinMode: v.optional(v.boolean(), true),
  isGateway: v.optional(v.boolean(), false),
  ipMasq: v.optional(v.boolean(), false),
  ipam: v.optional(Ipam, {}),
  dns: v.optional(Dns),
  runtimeConfig: v.nullish(RuntimeConfig, {}),
  args: v.nullish(Args, {}),
  prevResult: v.optional(v.record(v.string(), v.unknown())),
  /** Go writes an empty list as null. */
  [VALID]: v.nullish(v.array(v.object({ containerID: v.string(), ifname: v.string() }))),
});

export type CniConfig = v.InferOutput<typeof Config> & { readonly name: string };

/**
 * What users ask for, for a container. A DEL reads none of it: an ADD that was refused for it is followed by a DEL, which the
 * runtime repeats until it succeeds.
 */
const WISHES: readonly string[] = ["runtimeConfig", "args"];

/** What was read last for a DEL, and for the others: the router reads one for each call, mostly the same. */
const last = new Map<boolean, { readonly text: string; readonly config: CniConfig }>();

/** Read a configuration (undefined: it was too long) for a command. Throws CniError. */
export function parseConfig(text: string | undefined, command = ""): CniConfig {
  if (text === undefined || text.length > MAX_CONFIG_BYTES)
    throw new CniError(CODE.decode, "network configuration longer than 1 MiB");
  const isDel = command === "DEL";
  const known = last.get(isDel);
  const config = known?.text === text ? known.config : readConfig(text, isDel);
  last.set(isDel, { text, config });
  if (command === "GC" && config[VALID] === undefined) throw required(VALID, " by GC");
  return config;
}

const required = (key: "name" | typeof VALID, what: string) =>
  new CniError(CODE.invalidConfig, `network configuration: ${key}: required${what}, but not set`);

function readConfig(text: string, isDel: boolean): CniConfig {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    const reason = reasonOf(error);
    throw new CniError(CODE.decode, `failed to load netconf: ${reason}`, "", { cause: error });
  }
  if (Array.isArray(json))
    throw new CniError(CODE.invalidConfig, "network configuration: a list, not an object");
  const result = v.safeParse(Config, isDel ? withoutWishes(json) : json);
  if (!result.success) {
    const [issue] = result.issues;
    const path = issue.path?.map((part) => String(part.key)).join(".");
    throw new CniError(
      CODE.invalidConfig,
      `network configuration: ${path ? `${path}: ` : ""}${issue.message}`,
    );
  }
  const { name, ...config } = result.output;
  if (config.isGateway)
    throw new CniError(CODE.unsupportedField, "isGateway: Gateway functionality not supported");
  if (config.ipMasq)
    throw new CniError(CODE.unsupportedField, "ipMasq: IP Masquerading functionality not supported");
  if (name === undefined) throw required("name", "");
  return { ...config, name };
}

function withoutWishes(json: unknown): unknown {
  if (typeof json !== "object" || json === null) return json;
  return Object.fromEntries(Object.entries(json).filter(([key]) => !WISHES.includes(key)));
}

/** Return the cniVersion to answer in; throws CniError for an unsupported one. */
export function checkVersion(version: string): string {
  if ((SUPPORTED_VERSIONS as readonly string[]).includes(version)) return version;
  throw new CniError(
    CODE.incompatibleVersion,
    `incompatible CNI versions: config is "${version}", plugin supports ${SUPPORTED_VERSIONS.join(", ")}`,
  );
}
