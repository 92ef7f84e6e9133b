// Names in the report, with the field names of the original (weave: nameserver/status.go).
import { formatIPv4 } from "../address/ipv4.ts";
import { nameToNumber } from "../mesh/name.ts";
import { compareByName, type Entry } from "./entry.ts";
import type { Nameserver } from "./nameserver.ts";
import type { DnsServer } from "./server.ts";

export interface DnsReport {
  Domain: string;
  Upstream: string[] | null;
  Address: string;
  TTL: number;
  Entries:
    | {
        Hostname: string;
        Origin: string;
        ContainerID: string;
        Address: string;
        Version: number;
        Tombstone: number;
      }[]
    | null;
}

/** weaveDNS, as it is reported on and acted on. */
export interface DnsSources {
  readonly nameserver: Nameserver;
  readonly server: DnsServer;
  /** Other nameservers, as they are asked now. */
  upstream(): readonly string[];
  /** "address:port" for containers to ask at; undefined where none is answered at yet. */
  address(): string | undefined;
}

export function dnsReport({ nameserver, server, upstream }: DnsSources): DnsReport {
  const servers = [...upstream()];
  const entries = [...nameserver.entries.all()].sort(compareByName);
  return {
    Domain: server.config.domain,
    Upstream: servers.length > 0 ? servers : null,
    Address: server.addresses.join(", "),
    TTL: server.config.ttl,
    Entries:
      entries.length === 0
        ? null
        : entries.map((entry) => ({
            Hostname: entry.hostname,
            Origin: entry.origin,
            ContainerID: entry.containerId,
            Address: formatIPv4(entry.address),
            Version: entry.version,
            Tombstone: entry.tombstone,
          })),
  };
}

/** A name as "GET /name" lists it, with numbers as the original has them. */
export function nameJson(entry: Entry): object {
  return {
    ContainerID: entry.containerId,
    Origin: nameToNumber(entry.origin),
    Addr: formatIPv4(entry.address),
    Hostname: entry.hostname,
    Version: entry.version,
    Tombstone: entry.tombstone,
  };
}
