// From the bridge of one host to that of the other: the maps of the overlay, and the tunnel.

import { fastdpPort, overlayPort } from "../../overlay/ports.ts";
import type { Side } from "../side.ts";
import { destinationOf, type Evidence, fail, type Hop, ok, passes, type Target, type Tunnel } from "./hop.ts";

const MAX_REASON = 120;
const FIREWALL =
  "rules of iptables-legacy or ebtables, which cannot be traced: 'iptables-legacy -S', 'ebtables -L'";

export function betweenHops(evidence: Evidence): Hop[] {
  const { target } = evidence;
  if (target.kind === "here") return [];
  const { tunnel } = target;
  if (tunnel?.state === "established")
    return [forwardHop(evidence, target), tunnelHop(evidence, target, tunnel)];
  return [unconnected(target)];
}

type Peer = Target & { kind: "peer" };

function forwardHop(evidence: Evidence, { nickname, shortId }: Peer): Hop {
  const { here, near, nicknames } = evidence;
  const { forward } = near;
  const mac = near.end?.neighbour?.mac ?? "its Ethernet address";
  if (!forward)
    return fail(
      here,
      "forward",
      "the overlay's eBPF programs are missing",
      "'weave status' and 'weave logs' say why",
    );
  const { peer, hop } = forward;
  if (peer !== null && peer !== shortId && nicknames.has(shortId)) {
    const at = nicknames.get(peer) ?? `peer number ${peer}`;
    const found = `the eBPF map has ${mac} at ${at}, but ${destinationOf(evidence)} is at ${nickname}`;
    return fail(here, "forward", found, `a frame of ${destinationOf(evidence)} corrects it: ping from there`);
  }
  if (peer !== null && hop === null)
    return fail(here, "forward", `no way to ${nickname}`, "'weave status connections' says why");
  if (passes(evidence, near, "port", false) && !passes(evidence, near, "overlay", true)) {
    const found = "it comes in by the port of the bridge, and does not leave for other hosts";
    return fail(here, "forward", found, FIREWALL);
  }
  const way = hop === "sleeve" ? "by sleeve" : hop === null ? "" : `by VXLAN to ${hop}`;
  const found =
    peer === null ? "Ethernet address not known yet: to all hosts" : `${mac} -> ${nickname}, ${way}`;
  return ok(here, "forward", found);
}

/** No connection to the other host. */
function unconnected({ nickname, tunnel }: Peer): Hop {
  if (!tunnel) {
    const advice = "'weave status connections'; 'weave connect' with its address";
    return fail("", "tunnel", `host ${nickname} is not connected, nor reached through another one`, advice);
  }
  const found = `connection to ${tunnel.neighbour} is ${tunnel.state}: ${tunnel.reason ?? "no answer yet"}`;
  const ports = `let TCP and UDP port ${tunnel.port} pass between the hosts, and UDP ${fastdpPort(tunnel.port)} for speed`;
  return fail("", "tunnel", found, tunnel.remedy ?? ports);
}

function tunnelHop(evidence: Evidence, { nickname, unseen }: Peer, tunnel: Tunnel): Hop {
  const { near, far } = evidence;
  const { neighbour } = tunnel;
  if (
    unseen === undefined &&
    passes(evidence, near, "overlay", true) &&
    !passes(evidence, far, "overlay", false)
  ) {
    const found = `it leaves for ${neighbour} by ${tunnel.overlay}, and does not arrive at ${nickname}`;
    return fail("", "tunnel", found, lossAdvice(tunnel));
  }
  return ok("", "tunnel", tunnelText(tunnel, nickname));
}

const lossAdvice = ({ overlay, port }: Tunnel) =>
  `let UDP port ${overlayPort(overlay, port)} pass between the hosts; 'weave status connections'`;

function tunnelText({ overlay, neighbour, mtu, encrypted, reason }: Tunnel, nickname: string): string {
  const by = neighbour === nickname ? `to ${nickname}` : `to ${neighbour}, which passes it on to ${nickname}`;
  const size = mtu === null ? "" : `, MTU ${mtu}`;
  const secret = encrypted ? ", encrypted" : "";
  return `${overlay ?? "no overlay"} ${by}${size}${secret}${reason === null ? "" : `; not faster: ${cut(reason)}`}`;
}

/** The kernel's message may be long; status shows it in full. */
const cut = (reason: string) => (reason.length <= MAX_REASON ? reason : `${reason.slice(0, MAX_REASON)}…`);

/** Whether the probe reached the host of the destination. */
export function reachesFarHost(evidence: Evidence, far: Side): boolean {
  return evidence.target.kind === "here"
    ? passes(evidence, evidence.near, "port", false)
    : passes(evidence, far, "overlay", false);
}
