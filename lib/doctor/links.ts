// Links that carry frames between hosts: the bridge and its overlay port. A healthy router
// restores them within milliseconds; one that is stopped or hangs does not.
import { BRIDGE } from "../host/names.ts";
import { type Link, linkList } from "../netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { isVxlanLink } from "../overlay/datapath/links.ts";
import { type Finding, ok, problem } from "./finding.ts";

const CHECK = "links";

/** `running`: our router, whose port to other hosts is `port`; undefined where it does not tell. */
export function linkFindings(running: boolean, port: string | undefined): Finding[] {
  using route = new NetlinkSocket(NETLINK_ROUTE);
  return linkProblems(linkList(route), running, port);
}

export function linkProblems(links: readonly Link[], running: boolean, port: string | undefined): Finding[] {
  const bridge = links.find(({ name, kind }) => name === BRIDGE && kind === "bridge");
  // A host that is not part of the network.
  if (!bridge && !running) return [];
  const advice = running
    ? "the router does not restore it: see 'repairs' and 'weave logs'; 'weave stop' and 'weave launch' recreate it"
    : "'weave launch' recreates it";
  if (!bridge)
    return [problem(CHECK, `bridge ${BRIDGE} is missing: containers cannot reach each other`, advice)];
  const ports = links.filter((link) => (port === undefined ? isOverlayPort(link) : link.name === port));
  const wrong = [
    ...(bridge.up ? [] : [`bridge ${BRIDGE} is down: containers cannot reach each other`]),
    ...(ports.length > 0
      ? ports.flatMap((link) => wrongPort(link, bridge))
      : [`link ${port ?? "vxlan-6784"} is missing: containers cannot reach containers on other hosts`]),
  ];
  if (wrong.length > 0) return wrong.map((found) => problem(CHECK, found, advice));
  const names = [BRIDGE, ...ports.map(({ name }) => name)];
  return [ok(CHECK, `${names.join(" and ")} are up`)];
}

function wrongPort({ name, up, master }: Link, bridge: Link): string[] {
  return [
    ...(up ? [] : [`link ${name} is down: containers cannot reach containers on other hosts`]),
    ...(master === bridge.index
      ? []
      : [`link ${name} is off bridge ${BRIDGE}: containers cannot reach containers on other hosts`]),
  ];
}

/** The VXLAN link of the fast datapath, or the TAP link of sleeve where it is the bridge's port. */
function isOverlayPort(link: Link): boolean {
  const { name, kind, vxlan, master } = link;
  if (vxlan) return isVxlanLink(link);
  return kind === "tun" && name.startsWith("sleeve-") && master !== undefined;
}
