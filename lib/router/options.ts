// The options of a router, parsed and checked.

import * as v from "valibot";
import { listenAddress } from "../address/hostport.ts";
import {
  AddressError,
  type Cidr,
  cidrRange,
  formatCidr,
  parseCidr,
  parseSubnet,
  rangesOverlap,
} from "../address/ipv4.ts";
import { parsed } from "../address/schema.ts";
import { parseAllocationSubnet } from "../address/subnet.ts";
import { ContainerError, socketsOf } from "../container/runtime.ts";
import { DomainNameError, fullyQualified } from "../dns/name.ts";
import { LOG_FORMATS, LOG_LEVELS } from "../log/log.ts";
import { DEFAULT_CONNECTION_LIMIT } from "../mesh/config.ts";
import { peerFault } from "../mesh/dial/named.ts";
import { nameToBytes, type PeerName, parsePeerName, UNKNOWN_PEER } from "../mesh/name.ts";
import { DEFAULT_PORT } from "../mesh/port.ts";

export const DEFAULT_RANGE = "10.32.0.0/12";

/** Where the original serves status and metrics. */
export const DEFAULT_STATUS_ADDRESS = "127.0.0.1:6782";

/** An option has an invalid value; the message names both. */
export class OptionError extends Error {
  override readonly name = "OptionError";
  readonly failure = "usage" as const;
}

const port = v.pipe(
  v.string(),
  v.regex(/^\d{1,5}$/, "a port is a number"),
  v.transform(Number),
  v.minValue(1, "a port is 1 … 65535"),
  v.maxValue(65534, "a port is 1 … 65534 (the fast datapath takes the next one)"),
);

const integer = (min: number, max: number) =>
  v.pipe(
    v.string(),
    v.regex(/^\d+$/, "not a whole number"),
    v.transform(Number),
    v.minValue(min, `less than ${min}`),
    v.maxValue(max, `more than ${max}`),
  );

const notAnMtu = 'should be "auto" or a number of bytes, 576 … 65000';

/** Parse a duration as Go writes it ("5s", "1m30s", "500ms") into ms. */
function parseDuration(text: string): number {
  const units: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|[hms])/g)];
  const ms = parts.reduce((sum, [, count, unit = ""]) => sum + Number(count) * (units[unit] ?? 0), 0);
  if (parts.map(([part]) => part).join("") !== text || ms < 1 || ms > 3_600_000) {
    throw new AddressError("should be a duration of 1ms to 1h, such as 5s or 500ms");
  }
  return ms;
}

const list = <T>(parse: (text: string) => T) =>
  parsed((text) =>
    text
      .split(",")
      .filter((part) => part !== "")
      .map(parse),
  );

/** An address to listen on; undefined for "", which is none. */
const address = parsed((text) => {
  const found = listenAddress(text);
  if (!found && text !== "") throw new AddressError("should be IP:PORT or :PORT");
  return found;
});

/** Initial division of the range. */
type InitMode =
  | { readonly kind: "consensus"; readonly count: number | undefined }
  | { readonly kind: "seed"; readonly peers: readonly PeerName[] }
  | { readonly kind: "observer" };

function parseInit(text: string): InitMode {
  const [mode, parameter] = text.split(/=(.*)/s);
  if (mode === "observer" && parameter === undefined) return { kind: "observer" };
  if (mode === "consensus" && (parameter === undefined || /^[1-9]\d{0,3}$/.test(parameter))) {
    return { kind: "consensus", count: parameter === undefined ? undefined : Number(parameter) };
  }
  if (mode === "seed" && parameter) return { kind: "seed", peers: parameter.split(",").map(parsePeerName) };
  throw new AddressError("should be consensus, consensus=COUNT, seed=NAME,NAME,… or observer");
}

/** Parse the name of this peer, which is also the bridge's Ethernet address: Linux refuses group addresses and zero. */
function parseOwnName(text: string): PeerName {
  const name = parsePeerName(text);
  const [first = 0] = nameToBytes(name);
  if ((first & 1) !== 0 || name === UNKNOWN_PEER)
    throw new AddressError(
      "the bridge cannot have this address; use a unicast MAC, such as 5e:3a:00:00:00:01",
    );
  return name;
}

const subnet = parsed(parseAllocationSubnet);

/** Range of a router that allocates no addresses; no container can have one of it. */
const NO_RANGE: Cidr = { address: 0, prefix: 32 };

const rangeOrNone = parsed((text) => (text === "" ? NO_RANGE : parseAllocationSubnet(text)));

const Schema = v.object({
  name: v.optional(parsed(parseOwnName)),
  nickname: v.optional(
    v.pipe(v.string(), v.minLength(1, "is empty"), v.maxLength(255, "longer than 255 characters")),
  ),
  host: v.optional(v.pipe(v.string(), v.ipv4("not an IPv4 address"))),
  port: v.optional(port, String(DEFAULT_PORT)),
  password: v.optional(
    v.pipe(v.string(), v.minLength(1, "is empty; leave it out to run without encryption")),
  ),
  "trusted-subnets": v.optional(list(parseCidr), ""),
  "conn-limit": v.optional(integer(0, 4096), String(DEFAULT_CONNECTION_LIMIT)),
  discovery: v.optional(v.boolean(), true),
  fastdp: v.optional(v.boolean(), true),
  "flow-cache": v.optional(v.boolean(), true),
  "min-protocol-version": v.optional(integer(1, 2)),
  "ipalloc-range": v.optional(rangeOrNone),
  "ipalloc-default-subnet": v.optional(subnet),
  "ipalloc-init": v.optional(parsed(parseInit), "consensus"),
  dns: v.optional(v.boolean(), true),
  "dns-domain": v.optional(parsed(fullyQualified, DomainNameError), "weave.local."),
  "dns-listen-address": v.optional(address, ""),
  "docker-bridge": v.optional(
    v.pipe(v.string(), v.regex(/^[^\s/]{0,15}$/, "should be the name of a link: at most 15 characters")),
    "docker0",
  ),
  "dns-ttl": v.optional(integer(0, 604_800), "1"),
  "dns-fallback-timeout": v.optional(parsed(parseDuration), "5s"),
  "resolv-conf": v.optional(v.pipe(v.string(), v.minLength(1, "is empty")), "/etc/resolv.conf"),
  mtu: v.optional(v.union([v.literal("auto"), integer(576, 65_000)], notAnMtu), "auto"),
  "docker-api": v.optional(parsed(socketsOf, ContainerError)),
  "docker-plugin": v.optional(v.boolean()),
  "http-addr": v.optional(address, "127.0.0.1:6784"),
  "http-writes": v.optional(v.boolean(), false),
  "status-addr": v.optional(address, DEFAULT_STATUS_ADDRESS),
  "metrics-addr": v.optional(address, ""),
  "masq-local": v.optional(v.boolean(), true),
  "expect-npc": v.optional(v.boolean(), false),
  "anti-spoof": v.optional(v.boolean(), false),
  "log-level": v.optional(v.picklist(LOG_LEVELS, `should be one of ${LOG_LEVELS.join(", ")}`), "info"),
  "log-format": v.optional(v.picklist(LOG_FORMATS, `should be one of ${LOG_FORMATS.join(", ")}`), "text"),
  resume: v.optional(v.boolean(), false),
});

export type RouterOptions = v.InferOutput<typeof Schema> & {
  readonly "docker-api": readonly string[];
  readonly range: Cidr;
  /** False for an empty range: only addresses that somebody names are used. */
  readonly allocates: boolean;
  readonly defaultSubnet: Cidr;
  readonly peers: readonly string[];
};

/** Parse options of the command line and the environment. Throws OptionError. */
export function parseOptions(raw: Record<string, unknown>, peers: readonly string[]): RouterOptions {
  const result = v.safeParse(Schema, raw);
  if (!result.success) {
    const [issue] = result.issues;
    const key = String(issue.path?.[0]?.key ?? "");
    const value = JSON.stringify(raw[key]);
    // Some parsers name the value themselves.
    const isNamed = issue.message.includes(value) || issue.message.startsWith(`${raw[key]} `);
    throw new OptionError(`--${key}: ${isNamed ? "" : `${value}: `}${issue.message}`);
  }
  const options = result.output;
  for (const peer of peers) {
    const fault = peerFault(peer);
    if (fault !== undefined) throw new OptionError(fault);
  }
  if (options.resume && peers.length > 0) {
    throw new OptionError("--resume: uses the peers of the last launch; name no others");
  }
  const range = options["ipalloc-range"] ?? parseSubnet(DEFAULT_RANGE);
  const allocates = range !== NO_RANGE;
  for (const option of ["ipalloc-init", "ipalloc-default-subnet"]) {
    if (!allocates && raw[option] !== undefined)
      throw new OptionError(`--${option}: there is no range to allocate from; give --ipalloc-range one`);
  }
  const defaultSubnet = options["ipalloc-default-subnet"] ?? range;
  if (!rangesOverlap(cidrRange(range), cidrRange(defaultSubnet))) {
    throw new OptionError(
      `--ipalloc-default-subnet: ${formatCidr(defaultSubnet)} does not overlap with --ipalloc-range ${formatCidr(range)}`,
    );
  }
  return {
    ...options,
    "docker-api": options["docker-api"] ?? socketsOf(undefined),
    range,
    allocates,
    defaultSubnet,
    peers,
  };
}
