// Who may talk to whom, and why: what the compiled rules of the nodes at both ends say, and which rules of which policies
// that comes from.
import { familyOf, type Ip, ipFromNumber, parseIp } from "../address/ip.ts";
import { AddressError } from "../address/ipv4.ts";
import { Compiler, isolating } from "./compiler.ts";
import { keyOf, type Model } from "./model.ts";
import type { Direction, Pod, Policy, Protocol } from "./objects.ts";
import { allows, chainAllows, type Packet, TOO_LARGE } from "./ruleset.ts";

/** One end of a connection: a pod of the cluster, or an address. */
export interface End {
  /** As it was asked for. */
  readonly name: string;
  readonly pod: Pod | undefined;
  readonly addresses: readonly Ip[];
}

/** A rule of a policy; rules are counted from 1. */
interface Decision {
  readonly policy: string;
  readonly rule: number;
}

/** What one end has to say. */
interface Opinion {
  readonly verdict: "allow" | "deny";
  readonly reason: string;
  /** The policies that isolate the pod in this direction. */
  readonly isolatedBy: readonly string[];
  /** The rules that allow it. */
  readonly allowedBy: readonly Decision[];
}

export interface Explanation {
  readonly verdict: "allow" | "deny";
  readonly egress: Opinion;
  readonly ingress: Opinion;
}

/** An end that there is not; the message says what is there. */
export class EndError extends Error {
  override readonly name = "EndError";
}

/** An address of nobody's, to explain by what a pod may do once it has one (0.0.0.0/8, RFC 1122). */
function placeholder(model: Model, key: string): Ip {
  const number = [...model.pods.keys()].indexOf(key) + 1;
  return ipFromNumber(4, BigInt(number % (1 << 24)));
}

/**
 * Return the end that "namespace/pod" or an address stands for; throws EndError. A pod that has no address yet is given one in
 * the model.
 */
export function endOf(model: Model, name: string): End {
  const pod = model.pods.get(name);
  if (pod && lacksAddress(pod)) {
    const placed = { ...pod, addresses: [placeholder(model, name)] };
    model.apply([{ type: "set", object: { kind: "Pod", object: placed } }]);
  }
  return existingEnd(model, name);
}

const lacksAddress = ({ ended, hostNetwork, addresses }: Pod) =>
  !ended && !hostNetwork && addresses.length === 0;

/** The same for an end that packets can be sent to; the model stays as it is. */
export function existingEnd(model: Model, name: string): End {
  const pod = model.pods.get(name);
  if (pod?.ended) throw new EndError(`pod ${name} has ended`);
  if (pod?.hostNetwork) {
    if (pod.nodeAddresses.length === 0) throw new EndError(`the node of pod ${name} has no known address`);
    return { name, pod, addresses: pod.nodeAddresses };
  }
  if (pod && lacksAddress(pod)) throw new EndError(`pod ${name} has no address yet`);
  if (pod) {
    const addresses = model.addressesOf(pod);
    if (addresses.length === 0) throw new EndError(`the address of pod ${name} now belongs to another pod`);
    return { name, pod, addresses };
  }
  try {
    const address = parseIp(name);
    return { name, pod: model.owner(address), addresses: [address] };
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    throw new EndError(
      name.includes("/")
        ? `no pod ${name}`
        : `"${name}" is neither a pod, such as default/web, nor an address`,
      { cause: error },
    );
  }
}

/** Explains a connection. Throws EndError where the two ends have no family of addresses in common. */
export function explain(
  model: Model,
  from: End,
  to: End,
  protocol: Protocol,
  port: number,
  legacy = false,
): Explanation {
  const pair = from.addresses.flatMap((source) =>
    to.addresses
      .filter((each) => familyOf(each) === familyOf(source))
      .map((destination) => ({ source, destination })),
  )[0];
  if (!pair) throw new EndError(`${from.name} and ${to.name} have no addresses of the same family`);
  const packet: Packet = { ...pair, protocol, port };
  const egress = opinion(model, "egress", from.pod, packet, legacy);
  const ingress = opinion(model, "ingress", to.pod, packet, legacy);
  const verdict = egress.verdict === "allow" && ingress.verdict === "allow" ? "allow" : "deny";
  return { verdict, egress, ingress };
}

function opinion(
  model: Model,
  direction: Direction,
  pod: Pod | undefined,
  packet: Packet,
  legacy: boolean,
): Opinion {
  const silent = (reason: string): Opinion => ({ verdict: "allow", reason, isolatedBy: [], allowedBy: [] });
  const end = direction === "ingress" ? "destination" : "source";
  if (!pod) return silent(`the ${end} is not a pod of this cluster`);
  if (pod.hostNetwork)
    return silent(`the ${end} is in the host network of its node, which policies do not apply to`);
  const compiler = new Compiler(model, { node: pod.node, legacy });
  const rules = compiler.all();
  const allowed = allows(rules, direction, packet);
  const policies = isolating(model, pod, direction, legacy);
  if (!policies) return silent(`no policy isolates ${keyOf(pod)} for ${direction}`);
  const isolatedBy = policies.map(keyOf);
  const peer = direction === "ingress" ? packet.source : packet.destination;
  const allowedBy = policies.flatMap((policy) =>
    (policy[direction] ?? []).flatMap((rule, i) => {
      const chain = compiler.chain(direction, [{ namespace: policy.namespace, rule }], pod);
      return chainAllows(compiler.sets, chain, peer, packet) ? [{ policy: keyOf(policy), rule: i + 1 }] : [];
    }),
  );
  const verdict = allowed ? "allow" : "deny";
  const reason = why(direction, allowed, packet, allowedBy, isolatedBy, pod);
  return { verdict, reason: reason + unread(policies), isolatedBy, allowedBy };
}

function why(
  direction: Direction,
  allowed: boolean,
  { source, destination }: Packet,
  allowedBy: readonly Decision[],
  isolatedBy: readonly string[],
  pod: Pod,
): string {
  const [decision] = allowedBy;
  if (!allowed && decision) return `${TOO_LARGE}: this part of ${decision.policy} is not in force`;
  if (allowed && decision) return `${direction} rule ${decision.rule} of ${decision.policy} allows it`;
  if (allowed && source === destination) return "a pod may always talk to itself";
  if (allowed) return "a pod and its node may always talk to each other";
  if (!pod.labels) return `isolated: labels of ${keyOf(pod)} cannot be read`;
  if (isolatedBy.length === 0) return `its namespace is isolated for ${direction}, and no policy allows it`;
  return `isolated for ${direction} by ${isolatedBy.join(", ")}, and no rule of theirs allows it`;
}

/** What could not be read of the policies that decide, to be put behind the reason. */
function unread(policies: readonly Policy[]): string {
  return policies
    .filter(({ problems }) => problems.length > 0)
    .map((policy) => `; ${keyOf(policy)} cannot be read: ${policy.problems.join("; ")}`)
    .join("");
}

/** The explanation for people: a line for each direction, and the verdict. */
export function explanationText(
  from: End,
  to: End,
  protocol: Protocol,
  port: number,
  explanation: Explanation,
): string {
  const { verdict, egress, ingress } = explanation;
  return [
    `${verdict}: ${from.name} -> ${to.name} ${protocol} ${port}`,
    `  egress:  ${egress.verdict}, ${egress.reason}`,
    `  ingress: ${ingress.verdict}, ${ingress.reason}`,
    "",
  ].join("\n");
}
