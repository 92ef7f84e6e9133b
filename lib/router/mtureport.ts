// The MTU of the network for status, in words.
import type { MtuReport } from "../api/report.ts";
import type { PeerName } from "../mesh/name.ts";
import type { MeshRouter } from "../mesh/router.ts";
import type { NetworkMtu } from "../overlay/networkmtu/networkmtu.ts";
import type { ProblemReport } from "../sys/trouble.ts";

type Names = Pick<MeshRouter, "peers" | "ourself">;

export function mtuReport(mtu: NetworkMtu, { peers, ourself }: Names): MtuReport {
  const nameOf = (name: PeerName) =>
    name === ourself.name ? "this host" : peers.get(name)?.nickName || name;
  return { Network: mtu.mtu, Auto: !mtu.isFixed, By: limitText(mtu, nameOf) };
}

/** Hosts that were launched with different --mtu, as a problem: nothing tells senders what the others carry. */
export function mtuProblems(
  { conflict }: Pick<NetworkMtu, "conflict">,
  { peers, ourself }: Names,
): ProblemReport[] {
  if (!conflict) return [];
  const { larger, smaller } = conflict;
  const nameOf = (name: PeerName) =>
    name === ourself.name ? "this host" : `peer ${peers.get(name)?.toString() ?? name}`;
  const Found =
    `${nameOf(larger.peer)} has --mtu ${larger.mtu}, ${nameOf(smaller.peer)} --mtu ${smaller.mtu}: ` +
    `packets over ${smaller.mtu} bytes between their containers are lost`;
  return [{ Check: "mtu", Found, Advice: "launch all hosts with the same --mtu, or without it" }];
}

function limitText(
  { mtu, isFixed, limit: { peer, to, why, mtu: least } }: NetworkMtu,
  nameOf: (peer: PeerName) => string,
): string {
  if (isFixed) return "by --mtu";
  const rises = least > mtu ? `; ${least} soon` : "";
  if (why === "option") return `--mtu of ${nameOf(peer)}${rises}`;
  if (why === "no part") return `${nameOf(peer)} runs Weave Net 2.x or an older version${rises}`;
  if (to === undefined) return `no path of ${nameOf(peer)} has been measured${rises}`;
  return `the path from ${nameOf(peer)} to ${nameOf(to)}${rises}`;
}
