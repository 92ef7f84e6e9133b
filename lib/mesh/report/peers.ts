// Peers in the report: vitals of connections, lost peers and refused peers.
import { type Clock, dateOf } from "../../clock/clock.ts";
import { troubleReport } from "../../sys/trouble.ts";
import type { LocalConnection } from "../connection.ts";
import type { PeerName } from "../name.ts";
import type { RefusedPeer } from "../refusals.ts";
import type { RefusedHandshake } from "../refusedhandshakes.ts";
import type { MeshRouter } from "../router.ts";

/** Vitals of a connection. Bytes are those of frames, with their Ethernet headers. */
export interface VitalsReport {
  /** RFC 3339, when frames first got through; null before. */
  Since: string | null;
  /** ms since the peer's router was heard, by any path. */
  LastHeardMs: number;
  /** A heartbeat is missing: the peer is silent. */
  Silent: boolean;
  /** ms since a frame of the peer's containers came: its kernel forwards without its router. Null where none did. */
  LastFrameMs: number | null;
  /** Lowest of the control connection within 5 min; null where it is not known. */
  RoundTripMs: number | null;
  /** Null where frames are not counted. */
  ReceivedBytes: number | null;
  SentBytes: number | null;
  /** Of the last seconds. */
  ReceivedBytesPerS: number | null;
  SentBytesPerS: number | null;
  /** Bytes by overlay, of those that count them. */
  ByOverlay?: { Overlay: string; ReceivedBytes: number; SentBytes: number }[];
}

export interface LostReport {
  Name: string;
  NickName: string;
  Address: string;
  Outbound: boolean;
  /** RFC 3339. */
  At: string;
  Reason: string;
  Remedy: string;
  /** A route leads to it through other peers. */
  Reachable: boolean;
  /** It owns a part of the address range. */
  OwnsAddresses: boolean;
}

export interface RefusedReport {
  /** "ip:port" of a target, "ip" of a caller. */
  Address: string;
  /** This host dialled it. */
  Outbound: boolean;
  /** Null before it has proved who it is. */
  Peer: { Name: string; NickName: string } | null;
  /** "password", "password missing here", "password missing there", "version", "no router", "name", "range", "division" or "overlay". */
  Cause: string;
  Reason: string;
  Remedy: string;
  /** RFC 3339. */
  Since: string;
  Last: string;
  Attempts: number;
}

const orNull = <T>(value: T | undefined): T | null => value ?? null;

export function vitalsReport(clock: Clock, connection: LocalConnection): VitalsReport {
  const { since, heardMs, silent, framesMs, roundTripMs, received, sent, byOverlay } = connection.vitals();
  return {
    Since: since === undefined ? null : dateOf(clock, since).toISOString(),
    LastHeardMs: Math.round(heardMs),
    Silent: silent,
    LastFrameMs: orNull(framesMs),
    RoundTripMs: orNull(roundTripMs),
    ReceivedBytes: orNull(received?.bytes),
    SentBytes: orNull(sent?.bytes),
    ReceivedBytesPerS: orNull(received && Math.round(received.perSecond)),
    SentBytesPerS: orNull(sent && Math.round(sent.perSecond)),
    ByOverlay: byOverlay.map((traffic) => ({
      Overlay: traffic.overlay,
      ReceivedBytes: traffic.received,
      SentBytes: traffic.sent,
    })),
  };
}

/** `owners` are the names of peers that own a part of the range. */
export function lostReports(mesh: MeshRouter, owners: ReadonlySet<string>): LostReport[] {
  const { clock, lost, routes } = mesh;
  const isReachable = (name: PeerName) => {
    const via = routes.unicastAll.get(name);
    return via !== undefined && mesh.connections.get(via)?.silent === false;
  };
  return lost.recent().map(({ name, nickName, address, outbound, at, reason, remedy }) => ({
    Name: name,
    NickName: nickName,
    Address: address,
    Outbound: outbound,
    At: dateOf(clock, at).toISOString(),
    Reason: reason,
    Remedy: remedy ?? `start its router again, or 'weave rmpeer ${name}' if it is gone for good`,
    Reachable: isReachable(name),
    OwnsAddresses: owners.has(name),
  }));
}

export function refusedReports({ clock, admission }: MeshRouter): RefusedReport[] {
  const { refusals, refusedHandshakes } = admission;
  const iso = (at: number) => dateOf(clock, at).toISOString();
  const report = (
    { address, outbound, error, since, last, attempts }: RefusedPeer | RefusedHandshake,
    Peer: RefusedReport["Peer"],
  ): RefusedReport => ({
    Address: address,
    Outbound: outbound,
    Peer,
    ...troubleReport(error.trouble),
    Since: iso(since),
    Last: iso(last),
    Attempts: attempts,
  });
  return [
    ...refusals
      .standing()
      .map((refused) => report(refused, { Name: refused.name, NickName: refused.nickName })),
    ...refusedHandshakes.standing().map((refused) => report(refused, null)),
  ];
}
