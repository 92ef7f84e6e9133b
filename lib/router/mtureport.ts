// The MTU of the network for status, in words.
import type { MtuReport } from "../api/report.ts";
import type { PeerName } from "../mesh/name.ts";
import type { MeshRouter } from "../mesh/router.ts";
import type { NetworkMtu } from "../overlay/networkmtu/networkmtu.ts";

export function mtuReport(
  mtu: NetworkMtu,
  { peers, ourself }: Pick<MeshRouter, "peers" | "ourself">,
): MtuReport {
  const nameOf = (name: PeerName) =>
    name === ourself.name ? "this host" : peers.get(name)?.nickName || name;
  return { Network: mtu.mtu, Auto: !mtu.isFixed, By: limitText(mtu, nameOf) };
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
