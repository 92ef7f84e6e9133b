// The answer, its way back, and whether large packets pass, too.
import { type Side, saw } from "../side.ts";
import { destinationOf, type Evidence, fail, farHost, type Hop, ok, sourceOf } from "./hop.ts";
import { ruleAdvice, ruleName } from "./rules.ts";

export function answerHops(evidence: Evidence): Hop[] {
  const hop = answerHop(evidence);
  return hop.state === "ok" && evidence.large ? [hop, largeHop(evidence, evidence.large)] : [hop];
}

const NAMES = { icmp: "echo reply", tcp: "SYN-ACK", udp: "answer" } as const;

function answerHop(evidence: Evidence): Hop {
  const { near, far, probe } = evidence;
  const to = destinationOf(evidence);
  const what = NAMES[probe.protocol];
  if (saw(near, "inside", "refused", false)) {
    const found = `refused: nothing listens on ${probe.protocol} ${probe.port} of ${to}`;
    return fail("", "answer", found, "start the service, on the address 0.0.0.0 and not 127.0.0.1");
  }
  if (saw(near, "inside", "answer", false)) return ok("", "answer", `${what} from ${to}`);
  if (!far)
    return fail("", "answer", `no ${what} from ${to}`, "look at the other host: 'weave status', 'weave ps'");
  return back(evidence, far, what);
}

/** Why no answer came, where both ends were looked at. */
function back(evidence: Evidence, far: Side, what: string): Hop {
  const { near, probe, here } = evidence;
  const [to, from, host] = [destinationOf(evidence), sourceOf(evidence), farHost(evidence)];
  for (const [name, side] of [
    [host, far],
    [here, near],
  ] as const) {
    const drop = side.drops.find(({ forth }) => !forth);
    if (drop) return fail(name, "answer", `a rule drops the answer: ${ruleName(drop)}`, ruleAdvice(drop));
  }
  const answered = (side: Side, point: "inside" | "port" | "overlay", out: boolean) =>
    saw(side, point, "answer", out) || saw(side, point, "refused", out);
  if (answered(far, "inside", true)) {
    const at = answered(far, "overlay", true)
      ? `between ${host} and ${here}`
      : answered(far, "port", false)
        ? `on ${host}, behind its port of the bridge`
        : `on ${host}, before its port of the bridge`;
    const found = `${to} answers, and the answer is lost ${at}`;
    return fail("", "answer", found, `'weave trace ${to} ${from}' on ${host} follows that way`);
  }
  if (probe.protocol === "udp" && saw(far, "inside", "probe", false))
    return ok(host, "answer", `the container received it; UDP needs no answer`);
  const route = far.end?.route;
  const inside = far.end?.inside.name ?? "";
  if (!route || route.link !== inside) {
    const way = route
      ? `its route to ${from} goes by ${route.link}, not by ${inside}`
      : `it has no route to ${from}`;
    return fail(host, "answer", `${to} received it and cannot answer: ${way}`, "in the container: ip route");
  }
  const [mac, real] = [far.end?.neighbour?.mac, near.end?.inside.mac];
  if (mac && real && mac !== real && route.gateway === null)
    return fail(
      host,
      "answer",
      `${to} received it, but its ARP cache has ${mac} for ${from}, whose container has ${real}`,
      `in the container: ip neigh del ${from} dev ${inside}`,
    );
  if (far.end?.neighbour?.failed)
    return fail(
      host,
      "answer",
      `${to} received it and cannot answer: no ARP entry for ${route.gateway ?? from}`,
      "in the container: ip neigh",
    );
  const advice = "a firewall in the container, or net.ipv4.icmp_echo_ignore_all; in it: nft list ruleset";
  return fail(host, "answer", `${to} received it, and sends no ${what}`, advice);
}

type Large = NonNullable<Evidence["large"]>;

function largeHop({ target, near }: Evidence, { bytes, outcome }: Large): Hop {
  if (outcome === "passed") return ok("", "size", `packets of ${bytes} bytes, its MTU, pass unfragmented`);
  const tunnel = target.kind === "peer" ? target.tunnel?.mtu : undefined;
  const limit = tunnel === undefined || tunnel === null ? "" : `; the tunnel carries ${tunnel}`;
  if (outcome === "told")
    return ok(
      "",
      "size",
      `packets of ${bytes} bytes are too large${limit}; the container is told, and sends smaller ones`,
    );
  const link = near.end?.inside.name ?? "its link";
  const found = `packets of ${bytes} bytes, the MTU of ${link}, are lost on the way${limit}`;
  const size = tunnel !== undefined && tunnel !== null && tunnel < bytes ? ` mtu ${tunnel}` : " mtu BYTES";
  return fail(
    "",
    "size",
    found,
    `in the container: ip link set ${link}${size}; for new ones: weave launch --mtu`,
  );
}
