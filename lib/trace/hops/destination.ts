// At the host of the destination: its rules, the port of the bridge, and inside the container.
import { BRIDGE } from "../../host/names.ts";
import type { Side } from "../side.ts";
import { reachesFarHost } from "./between.ts";
import { destinationOf, type Evidence, fail, farHost, type Hop, leavesContainer, ok, passes } from "./hop.ts";
import { rulesHop } from "./rules.ts";

export function destinationHops(evidence: Evidence): Hop[] {
  const { target, far } = evidence;
  const host = farHost(evidence);
  if (target.kind === "peer" && target.unseen !== undefined)
    return [{ host, name: "look", state: "unknown", found: target.unseen }];
  if (!far) return [];
  const to = destinationOf(evidence);
  if (!far.end && far.exposed) return [ok(host, "host", `${to} is the host's own address on the network`)];
  if (!far.end) {
    const advice = `it has ended, or another host has it: 'weave ps' on ${host}, 'weave status dns' for its name`;
    return [fail(host, "container", `no container here has ${to}`, advice)];
  }
  // On one host, its rules were examined already.
  const rules = target.kind === "here" ? [] : [rulesHop(evidence, host, far, ["ingress"])];
  return [...rules, portHop(evidence, host, far, far.end), insideHop(evidence, host, far, far.end)];
}

type End = NonNullable<Side["end"]>;

function portHop(evidence: Evidence, host: string, far: Side, { port, inside }: End): Hop {
  const { name, up, carrier, bridge, bound } = port;
  if (!up)
    return fail(host, "port", `${name}, the host's end of ${inside.name}, is down`, `ip link set ${name} up`);
  if (bridge !== BRIDGE) {
    const found = `${name} is ${bridge === null ? "on no bridge" : `on bridge ${bridge}`}, not on ${BRIDGE}`;
    return fail(host, "port", found, `ip link set ${name} master ${BRIDGE}`);
  }
  if (!carrier && inside.up) return fail(host, "port", `${name} has no carrier`, `ip link set ${name} up`);
  if (inside.up && reachesFarHost(evidence, far) && !passes(evidence, far, "port", true)) {
    const found = `it comes to bridge ${BRIDGE}, and does not leave it by ${name}`;
    return fail(
      host,
      "port",
      found,
      "rules of iptables-legacy or ebtables: 'iptables-legacy -S', 'ebtables -L'",
    );
  }
  return ok(host, "port", `${name} is up, on bridge ${BRIDGE}${bound ? ", anti-spoofing on" : ""}`);
}

function insideHop(evidence: Evidence, host: string, far: Side, { inside, port }: End): Hop {
  const { name, up } = inside;
  const to = destinationOf(evidence);
  if (!up)
    return fail(
      host,
      "inside",
      `${name} is down in the container`,
      `in the container: ip link set ${name} up`,
    );
  if (passes(evidence, far, "port", true) && !passes(evidence, far, "inside", false)) {
    const advice = "programs of traffic control are in the way: tc filter show, inside and on the host";
    return fail(host, "inside", `what leaves ${port.name} does not arrive at ${name}`, advice);
  }
  if (
    !leavesContainer(evidence) &&
    passes(evidence, far, "inside", false) &&
    !passes(evidence, far, "inside", true)
  ) {
    const advice = `in the container: ip link show ${name} (NOARP?), sysctl net.ipv4.conf.${name}.arp_ignore`;
    return fail(host, "inside", `the container is asked by ARP for ${to}, and does not answer`, advice);
  }
  return ok(host, "inside", `${name} is up, has ${to}`);
}
