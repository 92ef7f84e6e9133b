// Problems with peers, for status and doctor.
import type { ProblemReport } from "../../sys/trouble.ts";
import type { LocalConnection } from "../connection.ts";
import type { MeshRouter } from "../router.ts";
import { connectionTrouble } from "../trouble.ts";
import { type LostReport, vitalsReport } from "./peers.ts";
import type { MeshReport } from "./report.ts";
import { type TargetReport, targetState } from "./targets.ts";

/** Refused hosts without a name that are listed; further ones are counted. */
const MAX_STRANGERS = 5;

/** Overlays that have not worked for so long after the handshake do not work. */
const OVERLAY_MS = 10_000;

const problem = (Found: string, Advice: string, Address?: string): ProblemReport => ({
  ...{ Check: "peers", Found, Advice },
  ...(Address && { Address }),
});

/** Return the problems with peers, the worst first. */
export function peerProblems(mesh: MeshRouter, router: MeshReport): ProblemReport[] {
  const collisions = mesh.admission.collisions.problems(mesh.ourself.name);
  // The collision reports a name that two hosts have.
  const { Lost = [], Refused = [] } = router;
  const strangers = Refused.filter(({ Peer, Cause }) => Peer === null && Cause !== "name");
  const more = strangers.length - MAX_STRANGERS;
  return [
    ...[...mesh.maker.connections].flatMap((connection) => silence(mesh, connection)),
    ...[...mesh.maker.connections].flatMap((connection) => withoutOverlay(mesh, connection)),
    ...Lost.filter(isMissed).map(({ Name, NickName, Address, At, Reason, Remedy }) =>
      problem(
        `peer ${Name}(${NickName}) at ${Address} was lost at ${At.replace(/\.\d+/, "")}: ${Reason}`,
        Remedy,
        Address,
      ),
    ),
    ...unreached(mesh, router).map(missing),
    ...collisions.map(({ found, advice }) => problem(found, advice)),
    ...mesh.admission.refusals
      .problems()
      .map(({ found, advice, address }) => problem(found, advice, address)),
    ...strangers
      .slice(0, MAX_STRANGERS)
      .map(({ Address, Reason, Remedy, Since }) =>
        problem(
          `the host at ${Address} is refused since ${Since.replace(/\.\d+/, "")}: ${Reason}`,
          Remedy,
          Address,
        ),
      ),
    ...(more > 0 ? [problem(`${more} more hosts are refused`, "'weave status connections' lists them")] : []),
  ];
}

/** Named peers that are not reached, except those with a more specific problem. */
function unreached(mesh: MeshRouter, { Lost = [], Refused = [] }: MeshReport): TargetReport[] {
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
    ...(Address && { Address }),
  };
}

/** Return whether a lost peer owns addresses and no route leads to it. */
const isMissed = ({ Reachable, OwnsAddresses }: LostReport) => !Reachable && OwnsAddresses;

/** A peer that is connected, and that no frame gets to: neither directly nor by other peers. */
function withoutOverlay({ clock, routes }: MeshRouter, connection: LocalConnection): ProblemReport[] {
  const { established, agreedAt, knownRemote, address, remoteIp, outbound } = connection;
  if (established || agreedAt === undefined || clock.now() - agreedAt < OVERLAY_MS) return [];
  if (knownRemote === undefined || routes.unicast.has(knownRemote.name)) return [];
  const reason = connection.slowness()?.reason;
  const why = reason === undefined ? "" : `; ${reason}`;
  const { remedy } = connectionTrouble("forwarders", "", outbound ? address : remoteIp);
  return [
    problem(`no frames get to peer ${knownRemote} at ${address}: no overlay works${why}`, remedy, address),
  ];
}

function silence({ clock }: MeshRouter, connection: LocalConnection): ProblemReport[] {
  if (!connection.silent) return [];
  const Vitals = vitalsReport(clock, connection);
  const seconds = Math.floor(Vitals.LastHeardMs / 1_000);
  const frames =
    Vitals.LastFrameMs !== null && Vitals.LastFrameMs < Vitals.LastHeardMs
      ? "; its kernel still forwards frames of its containers"
      : "";
  const found = `peer ${connection.remote} at ${connection.address} is silent for ${seconds} s${frames}`;
  return [problem(found, "its router hangs, or the path to its host is cut: 'weave doctor' there")];
}
