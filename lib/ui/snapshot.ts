// The facts of a moment, from the same summaries as `weave status --json` and `weave top`.
import { type Names, topOf } from "../api/rates.ts";
import type { Report } from "../api/report.ts";
import { connectionsSummary, ownersSummary, peersSummary, statusSummary } from "../api/summary.ts";
import type { TrafficSample } from "../api/traffic.ts";
import type { Clock } from "../clock/clock.ts";
import type { PolicyView } from "../npc/policyview.ts";
import type {
  ConnectionFacts,
  ContainerFacts,
  Facts,
  HostFacts,
  OwnerFacts,
  PolicyFacts,
  RangeFacts,
} from "./facts.ts";
import type { Json } from "./mergepatch.ts";

/** What snapshots are taken of. */
export interface Sources {
  report(): Report;
  traffic(): TrafficSample;
  /** Ranges of the ring: where each begins ("10.32.0.0"), and how many of its addresses its owner says are free. */
  free(): ReadonlyMap<string, number>;
  /** Addresses of this host that were given back, and are reused last. */
  resting(): number;
  /** Containers as their runtime calls them, by ID. */
  names(ids: Iterable<string>): Names;
  /** What weave-npc said last; undefined where none answers. */
  policy(): PolicyView | undefined;
}

/** Rates are measured over this at least. */
const RATE_MS = 2_000;

/** Return a value without members that are null or undefined, at any depth. */
function known(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(known);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.entries(value).filter(([, member]) => member !== null && member !== undefined);
  return Object.fromEntries(members.map(([name, member]) => [name, known(member)]));
}

/** Returns what takes a snapshot; rates are of what went by since an earlier one. */
export function snapshots(sources: Sources, clock: Clock): () => Facts {
  let before: { readonly sample: TrafficSample; readonly at: number } | undefined;
  let latest: typeof before;
  return () => {
    const report = sources.report();
    const sample = sources.traffic();
    const at = clock.now();
    if (latest && at - latest.at >= RATE_MS) {
      before = latest;
      latest = undefined;
    }
    latest ??= { sample, at };
    const since = before ?? latest;
    const names = sources.names(sample.links.map(({ id }) => id).filter(Boolean));
    const { containers } = topOf(sample, since.sample, (at - since.at) / 1_000, names);
    const policy = sources.policy();
    return {
      ...(policy && { policy: known(policy) as PolicyFacts }),
      host: hostFacts(report),
      peers: peerFacts(report),
      connections: connectionFacts(report, clock.wall()),
      owners: ownerFacts(report),
      ranges: rangeFacts(report, sources.free()),
      resting: sources.resting(),
      containers: containerFacts(report, sample, containers),
    };
  };
}

function hostFacts(report: Report): HostFacts {
  const { ok, health, version, name, nickname, encryption, ipam, dns, problems, notes, ...rest } =
    statusSummary(report);
  const { interface: overlay } = rest;
  const shown = { ok, health, version, name, nickname, encryption, overlay, ipam, dns, problems, notes };
  return known(shown) as HostFacts;
}

function peerFacts(report: Report): Facts["peers"] {
  return Object.fromEntries(
    peersSummary(report).map(({ name, nickname, connections }) => [
      name,
      {
        nickname,
        links: Object.fromEntries(connections.map((each) => [each.name, each.established])),
      },
    ]),
  );
}

/** By peer where that is known, else by address; `now` is in ms since the epoch. */
function connectionFacts(report: Report, now: number): Facts["connections"] {
  return Object.fromEntries(
    connectionsSummary(report).map(({ lastHeardMs, receivedBytes, sentBytes, ...connection }) => {
      // It changes with each look; what does not say more is not sent.
      const heardAt = connection.silent && lastHeardMs !== null ? toSecond(now - lastHeardMs) : null;
      const { peer, state, address } = connection;
      // A lost peer may also be dialled.
      const key = `${peer?.name ?? ""} ${state === "lost" || state === "refused" ? state : ""} ${address}`;
      return [key, known({ ...connection, heardAt, receivedBytes, sentBytes }) as ConnectionFacts];
    }),
  );
}

const toSecond = (ms: number) => Math.round(ms / 1_000) * 1_000;

function ownerFacts(report: Report): Facts["owners"] {
  return Object.fromEntries(
    ownersSummary(report).map(({ name, ...owner }) => [name, known(owner) as OwnerFacts]),
  );
}

function rangeFacts({ IPAM }: Report, free: ReadonlyMap<string, number>): Facts["ranges"] {
  return Object.fromEntries(
    (IPAM?.Entries ?? []).map(({ Token, Size, Peer }) => [
      Token,
      known({ size: Size, owner: Peer, free: free.get(Token) }) as RangeFacts,
    ]),
  );
}

function containerFacts(
  { Containers, DNS }: Report,
  { links }: TrafficSample,
  rows: ReturnType<typeof topOf>["containers"],
): Facts["containers"] {
  const names = new Map<string, string[]>();
  for (const { Hostname, ContainerID, Tombstone } of DNS?.Entries ?? []) {
    if (Tombstone !== 0 || ContainerID === "") continue;
    const all = names.get(ContainerID) ?? [];
    if (!all.includes(Hostname)) names.set(ContainerID, [...all, Hostname]);
  }
  const portOf = new Map(links.map(({ id, interface: link, port }) => [`${id} ${link}`, port]));
  const traffic = new Map(rows.map((row) => [portOf.get(`${row.id} ${row.interface}`) ?? "", row]));
  return Object.fromEntries(
    Containers.map(({ ContainerID, Interface, Port, Mac, Addresses, Problem }) => {
      const row = traffic.get(Port);
      const facts: { [name: string]: Json | undefined } = {
        name: row?.name ?? ContainerID.slice(0, 12),
        id: ContainerID,
        interface: Interface,
        port: Port,
        mac: Mac,
        addresses: Addresses,
        problem: Problem,
        names: names.get(ContainerID) ?? [],
        receivedBytesPerS: row?.receivedBytesPerS ?? 0,
        sentBytesPerS: row?.sentBytesPerS ?? 0,
        receivedBytes: row?.receivedBytes ?? 0,
        sentBytes: row?.sentBytes ?? 0,
        dropped: (row?.receivedDropped ?? 0) + (row?.sentDropped ?? 0),
      };
      return [Port, known(facts) as ContainerFacts];
    }),
  );
}
