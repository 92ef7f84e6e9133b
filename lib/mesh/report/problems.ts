// What is wrong with peers, as status and doctor show it.
import type { ProblemReport } from "../../sys/trouble.ts";
import type { MeshRouter } from "../router.ts";
import type { ConnectionReport } from "./connections.ts";
import type { LostReport } from "./peers.ts";
import type { MeshReport } from "./report.ts";
import { type TargetReport, targetState } from "./targets.ts";

/** More hosts than these that are refused without a name are only counted: strangers can be many. */
const MAX_STRANGERS = 5;

/** What is wrong with peers, the worst first. */
export function peerProblems(mesh: MeshRouter, router: MeshReport): ProblemReport[] {
  const problem = (Found: string, Advice: string, Address?: string): ProblemReport => ({
    ...{ Check: "peers", Found, Advice },
    ...(Address && { Address }),
  });
  const collisions = mesh.collisions.problems(mesh.ourself.name);
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
        Address,
      ),
    ),
    ...unreached(mesh, router).map(missing),
    ...collisions.map(({ found, advice }) => problem(found, advice)),
    ...mesh.refusals.problems().map(({ found, advice, address }) => problem(found, advice, address)),
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

/** Named peers that are not reached, but for those of which more is known. */
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
