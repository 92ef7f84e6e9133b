// Inside the container that the probe comes from: its link, the route, ARP; and its port of the bridge.
import { cidrContains, parseCidr } from "../../address/ipv4.ts";
import { BRIDGE } from "../../host/names.ts";
import { destinationOf, type Evidence, fail, type Hop, leavesContainer, ok, passes } from "./hop.ts";

export function sourceHops(evidence: Evidence): Hop[] {
  const { near, here } = evidence;
  const end = near.end;
  if (!end) return [fail(here, "source", "the container has gone", "start it again; 'weave ps' lists all")];
  return [linkHop(evidence, end), routeHop(evidence, end), arpHop(evidence, end), portHop(evidence, end)];
}

type End = NonNullable<Evidence["near"]["end"]>;

function linkHop({ here }: Evidence, { inside }: End): Hop {
  const { name, up, mtu } = inside;
  if (!up)
    return fail(here, "link", `${name} is down in the container`, `in the container: ip link set ${name} up`);
  return ok(here, "link", `${name} is up, MTU ${mtu}`);
}

function routeHop(evidence: Evidence, { inside, route, neighbour }: End): Hop {
  const { here, refused, probe } = evidence;
  const to = destinationOf(evidence);
  if (!route) {
    const advice = `in the container: ip route; restart it, or: ip route add ${to} dev ${inside.name}`;
    return fail(here, "route", `no route to ${to} in the container`, advice);
  }
  const { link, gateway } = route;
  const via = gateway === null ? `by ${link}` : `by ${link}, gateway ${gateway}`;
  const remove = `in the container: ip route del ${to}${gateway === null ? "" : ` via ${gateway}`} dev ${link}`;
  if (link !== inside.name)
    return fail(here, "route", `${to} goes ${via}, not by ${inside.name}, its link of the network`, remove);
  const onLink = inside.addresses.some((cidr) => cidrContains(parseCidr(cidr), probe.destination));
  if (gateway !== null && (onLink || neighbour?.failed !== false))
    return fail(
      here,
      "route",
      `${to} goes to gateway ${gateway}${onLink ? ", but is on the link itself" : ", which does not answer"}`,
      remove,
    );
  if (refused !== undefined && !leavesContainer(evidence))
    return fail(
      here,
      "route",
      `the container's kernel refuses the probe: ${refused}`,
      "in the container: ip rule; ip route",
    );
  return ok(here, "route", `${to} ${via}`);
}

function arpHop(evidence: Evidence, { inside, route, neighbour }: End): Hop {
  const { here, far } = evidence;
  const to = route?.gateway ?? destinationOf(evidence);
  const real = route?.gateway === null ? far?.end?.inside.mac : undefined;
  if (neighbour && !neighbour.failed) {
    const { mac } = neighbour;
    if (real && mac !== real) {
      const found = `the ARP cache has ${mac} for ${to}, but its container has ${real}`;
      return fail(here, "arp", found, `in the container: ip neigh del ${to} dev ${inside.name}`);
    }
    return ok(here, "arp", `${to} is at ${mac}`);
  }
  if (leavesContainer(evidence)) return ok(here, "arp", `${to} has answered`);
  const advice = `the container that has ${to} has ended, or its host is cut off; 'weave ps' there`;
  return { ...fail(here, "arp", `${to} does not answer ARP`, advice), soft: true };
}

function portHop(evidence: Evidence, { inside, port, dropped }: End): Hop {
  const { here } = evidence;
  const { name, up, carrier, bridge, bound } = port;
  if (!up)
    return fail(here, "port", `${name}, the host's end of ${inside.name}, is down`, `ip link set ${name} up`);
  if (bridge !== BRIDGE) {
    const found = `${name} is ${bridge === null ? "on no bridge" : `on bridge ${bridge}`}, not on ${BRIDGE}`;
    return fail(here, "port", found, `ip link set ${name} master ${BRIDGE}`);
  }
  if (!carrier)
    return fail(here, "port", `${name} has no carrier`, `in the container: ip link set ${inside.name} up`);
  if (leavesContainer(evidence) && !passes(evidence, evidence.near, "port", false)) {
    const advice = "programs of traffic control are in the way: tc filter show, inside and on the host";
    return fail(here, "port", `what leaves ${inside.name} does not arrive at ${name}`, advice);
  }
  const refused = dropped.spoofed + dropped.protocol;
  if (refused > 0 && !passesPort(evidence)) {
    const found = `anti-spoofing at ${name} has dropped ${refused} frames: not from an address that is the container's`;
    return fail(here, "port", found, "'weave ps' lists its addresses; 'weave attach' adds one");
  }
  return ok(here, "port", `${name} is up, on bridge ${BRIDGE}${bound ? ", anti-spoofing on" : ""}`);
}

/** Whether anything got past the port. */
function passesPort(evidence: Evidence): boolean {
  const { near, far, target } = evidence;
  return target.kind === "here"
    ? passes(evidence, far, "port", true)
    : passes(evidence, near, "overlay", true);
}
