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
  /** Names that exist. */
  Names?: number;
  /** Those of this peer. */
  OwnNames?: number;
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
  const { entries } = nameserver;
  // Peers can make the list long, and few readers of a report need it.
  let list: DnsReport["Entries"] | undefined;
  return {
    Domain: server.config.domain,
    Upstream: servers.length > 0 ? servers : null,
    Address: server.addresses.join(", "),
    TTL: server.config.ttl,
    Names: entries.living,
    OwnNames: entries.livingOf(nameserver.config.ourName),
    get Entries() {
      list ??= listOf(entries.all());
      return list;
    },
  };
}

function listOf(entries: Iterable<Entry>): DnsReport["Entries"] {
  const sorted = [...entries].sort(compareByName);
  if (sorted.length === 0) return null;
  return sorted.map((entry) => ({
    Hostname: entry.hostname,
    Origin: entry.origin,
    ContainerID: entry.containerId,
    Address: formatIPv4(entry.address),
    Version: entry.version,
    Tombstone: entry.tombstone,
  }));
}

/** Return how many names exist; those of a report that does not say it, from its list. */
export const nameCount = (report: DnsReport): number => report.Names ?? livingNames(report).length;

/** Return how many names of the peer itself exist; those of a report that does not say it, from its list. */
export const ownNameCount = (report: DnsReport, own: string): number =>
  report.OwnNames ?? livingNames(report).filter(({ Origin }) => Origin === own).length;

/** Return the names of a report that exist. */
export const livingNames = ({ Entries }: Pick<DnsReport, "Entries">) =>
  (Entries ?? []).filter(({ Tombstone }) => Tombstone === 0);

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
