// What to answer to a question: from the names of the network, or by asking somebody else (weave: nameserver/dns.go).
// Pure.
import type { Answer, Question } from "dns-packet";
import { AddressError, formatIPv4, type IPv4, parseIPv4 } from "../address/ipv4.ts";
import { RCODE, type Reply } from "./message.ts";
import { isInDomain } from "./name.ts";

const REVERSE = "in-addr.arpa.";
/** What is asked of a zone, not of a host: of no use for a name without its domain. */
const ZONE_TYPES: readonly string[] = ["NS", "SOA", "DS", "DNSKEY"];
/** Whole zones are given to nobody, and take more than one message. */
const TRANSFERS: readonly string[] = ["AXFR", "IXFR"];

export interface ResolveConfig {
  /** Fully qualified, with the dot at its end. */
  readonly domain: string;
  /** Seconds that our answers may be remembered. */
  readonly ttl: number;
}

/** The names of the network. */
export interface Names {
  /** Another number after each change of what is found. */
  readonly version: number;
  lookup(hostname: string): readonly IPv4[];
  reverse(address: IPv4): string | undefined;
  /** True where a name of the network lies below this one. */
  isParent(hostname: string): boolean;
}

/**
 * The reply to a question; "forward" where it is not ours to answer. Addresses come in random order: `random` gives
 * numbers of [0, 1).
 */
export function resolve(
  question: Question,
  names: Names,
  config: ResolveConfig,
  random: () => number,
): Reply | "forward" {
  // Other classes than IN query the server itself ("version.bind" of CH): an upstream's answer would be wrong.
  if (TRANSFERS.includes(question.type) || (question.class ?? "IN") !== "IN")
    return { ...reply([], RCODE.refused), authoritative: false };
  const name = question.name === "." ? "." : `${question.name.replace(/\.$/, "")}.`;
  const labels = name.split(".").length - 1;
  if (isInDomain(name, config.domain)) return local(name, question, names, config, random);
  if (isInDomain(name, REVERSE)) return reverse(name, question, names, config);
  // A name of one label alone may be one of ours, or one of the local network's, or a top-level domain.
  const short = labels === 1 && name !== "." && !ZONE_TYPES.includes(question.type);
  if (short && names.lookup(name + config.domain).length > 0) {
    return local(name + config.domain, question, names, config, random);
  }
  return "forward";
}

function local(
  hostname: string,
  question: Question,
  names: Names,
  config: ResolveConfig,
  random: () => number,
): Reply {
  const { name, type } = question;
  const { domain, ttl } = config;
  const apex = hostname.toLowerCase() === domain.toLowerCase();
  const addresses = names.lookup(hostname);
  if (apex && type === "SOA") return reply([startOfAuthority(config)]);
  // A name that exists has no records of other types than A: an empty answer (RFC 4074), and a SOA so that this may be
  // remembered (RFC 2308).
  const none = { authorities: [startOfAuthority(config)] };
  if (addresses.length === 0) {
    // A name that others are below of exists, even if it has no records itself (RFC 8020).
    const exists = apex || names.isParent(hostname);
    return { ...reply([], exists ? RCODE.ok : RCODE.nameError), ...none };
  }
  if (type !== "A" && (type as string) !== "ANY") return { ...reply([]), ...none };
  const answers = addresses.map((address): Answer => ({ type: "A", name, ttl, data: formatIPv4(address) }));
  return reply(shuffled(answers, random));
}

function reverse(name: string, question: Question, names: Names, { ttl }: ResolveConfig): Reply | "forward" {
  if (question.type !== "PTR") return "forward";
  const address = reversed(name.slice(0, -1 - REVERSE.length));
  const hostname = address === undefined ? undefined : names.reverse(address);
  if (hostname === undefined) return "forward";
  return reply([{ type: "PTR", name: question.name, ttl, data: hostname.replace(/\.$/, "") }]);
}

/** "4.3.2.1" is 1.2.3.4; undefined for what is no address. */
function reversed(text: string): IPv4 | undefined {
  try {
    return parseIPv4(text.split(".").reverse().join("."));
  } catch (error) {
    if (error instanceof AddressError) return undefined;
    throw error;
  }
}

function reply(answers: readonly Answer[], rcode: Reply["rcode"] = RCODE.ok): Reply {
  return { rcode, authoritative: true, answers };
}

function startOfAuthority({ domain, ttl }: ResolveConfig): Answer {
  const name = domain.replace(/\.$/, "");
  const times = { serial: 1, refresh: 3600, retry: 600, expire: 86_400, minimum: ttl };
  return { type: "SOA", name, ttl, data: { mname: name, rname: `hostmaster.${name}`, ...times } };
}

function shuffled<T>(list: readonly T[], random: () => number): T[] {
  const result = [...list];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [result[j] as T, result[i] as T];
  }
  return result;
}
