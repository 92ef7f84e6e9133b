// Peers in the report: how a connection does, who was lost, who is refused, and what of that is a problem.
import { type Clock, dateOf } from "../clock/clock.ts";
import type { LocalConnection } from "../mesh/connection.ts";
import type { PeerName } from "../mesh/name.ts";
import type { RefusedPeer } from "../mesh/refusals.ts";
import type { RefusedHandshake } from "../mesh/refusedhandshakes.ts";
import type { MeshRouter } from "../mesh/router.ts";
import { troubleReport } from "../sys/trouble.ts";
import type { ConnectionReport, ProblemReport, RouterReport } from "./report.ts";
import { type TargetReport, targetState } from "./targets.ts";

/** How a connection does at this moment. Bytes are those of frames, with their Ethernet headers. */
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
  /** Other peers still lead to it, and are heard. */
  Reachable: boolean;
  /** A part of the address range is its own. */
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
  const { since, heardMs, silent, framesMs, roundTripMs, received, sent } = connection.vitals();
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
  };
}

/** `owners` are the names of peers that own a part of the range. */
export function lostReports(mesh: MeshRouter, owners: ReadonlySet<string>): LostReport[] {
  const { clock, lost, routes } = mesh;
  const isReachable = (name: PeerName) => {
    const via = routes.unicastAll.get(name);
    return via !== undefined && mesh.connections.get(via)?.vitals().silent === false;
  };
  return lost.recent().map(({ name, nickName, address, outbound, at, reason }) => ({
    Name: name,
    NickName: nickName,
    Address: address,
    Outbound: outbound,
    At: dateOf(clock, at).toISOString(),
    Reason: reason,
    Remedy: `start its router again, or 'weave rmpeer ${name}' if it is gone for good`,
    Reachable: isReachable(name),
    OwnsAddresses: owners.has(name),
  }));
}

export function refusedReports({ clock, refusals, refusedHandshakes }: MeshRouter): RefusedReport[] {
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

/** More hosts than these that are refused without a name are only counted: strangers can be many. */
const MAX_STRANGERS = 5;

/** What is wrong with peers, the worst first. */
export function peerProblems(mesh: MeshRouter, router: RouterReport): ProblemReport[] {
  const problem = (Found: string, Advice: string) => ({ Check: "peers", Found, Advice });
  const told = [...mesh.collisions.problems(mesh.ourself.name), ...mesh.refusals.problems()];
  // A name that two hosts have is told by the collision.
  const { Connections, Lost = [], Refused = [] } = router;
  const strangers = Refused.filter(({ Peer, Cause }) => Peer === null && Cause !== "name");
  const more = strangers.length - MAX_STRANGERS;
  return [
    ...Connections.flatMap(silence),
    ...Lost.filter(isMissed).map(({ Name, NickName, Address, At, Reason, Remedy }) =>
      problem(
        `peer ${Name}(${NickName}) at ${Address} was lost at ${At.replace(/\.\d+/, "")}: ${Reason}`,
        Remedy,
      ),
    ),
    ...unreached(mesh, router).map(missing),
    ...told.map(({ found, advice }) => problem(found, advice)),
    ...strangers
      .slice(0, MAX_STRANGERS)
      .map(({ Address, Reason, Remedy, Since }) =>
        problem(`the host at ${Address} is refused since ${Since.replace(/\.\d+/, "")}: ${Reason}`, Remedy),
      ),
    ...(more > 0 ? [problem(`${more} more hosts are refused`, "'weave status connections' lists them")] : []),
  ];
}

/** Named peers that are not reached, but for those of which more is known. */
function unreached(mesh: MeshRouter, { Lost = [], Refused = [] }: RouterReport): TargetReport[] {
  const told = new Set([
    ...Lost.filter(isMissed).map(({ Address }) => Address),
    ...Refused.filter(({ Outbound }) => Outbound).map(({ Address }) => Address),
  ]);
  const targets = mesh.maker.namedTargets().map(targetState);
  return targets.filter(
    ({ State, Address }) => State === "unresolved" || (State === "failed" && !told.has(Address)),
  );
}

function missing({ Target, Address, Reason, Advice }: TargetReport): ProblemReport {
  const at = Address === "" ? "" : ` at ${Address}`;
  return {
    Check: "connections",
    Found: `named peer ${Target}${at} cannot be reached: ${Reason}`,
    Advice,
  };
}

/** It is a member of the network that nobody reaches. */
const isMissed = ({ Reachable, OwnsAddresses }: LostReport) => !Reachable && OwnsAddresses;

function silence({ Peer, Address, Vitals }: ConnectionReport): ProblemReport[] {
  if (!Vitals?.Silent || !Peer) return [];
  const seconds = Math.floor(Vitals.LastHeardMs / 1_000);
  const frames =
    Vitals.LastFrameMs !== null && Vitals.LastFrameMs < Vitals.LastHeardMs
      ? "; its kernel still forwards frames of its containers"
      : "";
  const Found = `peer ${Peer.Name}(${Peer.NickName}) at ${Address} is silent for ${seconds} s${frames}`;
  return [
    {
      Check: "peers",
      Found,
      Advice: "its router hangs, or the path to its host is cut: 'weave doctor' there",
    },
  ];
}
