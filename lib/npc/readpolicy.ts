// NetworkPolicies (networking.k8s.io/v1). What cannot be read allows nothing: a policy isolates what its podSelector
// selects, or its namespace where that cannot be read, and of its rules those allow that can be read.
import * as v from "valibot";
import { AnyObject, exactly, PortNumber, ProtocolName, type Reader, Subnet, WireSelector } from "./fields.ts";
import {
  DIRECTIONS,
  type Direction,
  MAX_PORT,
  type Peer,
  type Policy,
  type PolicyPort,
  type PolicyRule,
} from "./objects.ts";
import type { Identity } from "./readpod.ts";
import { EVERYTHING } from "./selector.ts";

const KEYS = ["podSelector", "ingress", "egress", "policyTypes"];
const TYPES: Readonly<Record<string, Direction>> = { Ingress: "ingress", Egress: "egress" };

const WirePort = v.pipe(
  exactly({
    protocol: ProtocolName,
    port: v.nullish(v.union([PortNumber, v.string()])),
    endPort: v.nullish(PortNumber),
  }),
  v.check(
    ({ port, endPort }) => endPort == null || (typeof port === "number" && port <= endPort),
    "endPort needs a numeric port that is not larger",
  ),
  v.transform(({ protocol, port, endPort }): PolicyPort => {
    if (typeof port === "string") return { protocol, ports: { name: port } };
    return {
      protocol,
      ports: port == null ? { first: 0, last: MAX_PORT } : { first: port, last: endPort ?? port },
    };
  }),
);

const WirePeer = v.pipe(
  exactly({
    podSelector: v.nullish(WireSelector),
    namespaceSelector: v.nullish(WireSelector),
    ipBlock: v.nullish(exactly({ cidr: Subnet, except: v.nullish(v.array(Subnet), []) })),
  }),
  v.check(
    ({ podSelector, namespaceSelector, ipBlock }) =>
      Boolean(ipBlock) !== Boolean(podSelector ?? namespaceSelector),
    "a peer has an ipBlock, or else a podSelector, a namespaceSelector or both",
  ),
  v.transform(({ podSelector, namespaceSelector, ipBlock }): Peer => {
    if (ipBlock) return { block: ipBlock.cidr, except: ipBlock.except };
    return { pods: podSelector ?? EVERYTHING, namespaces: namespaceSelector ?? undefined };
  }),
);

/** Where a rule of a direction names the other ends. */
const PEERS = { ingress: "from", egress: "to" } as const;

export function readPolicy(identity: Identity, json: unknown, reader: Reader): Policy {
  const spec = reader.part("spec", AnyObject, json ?? {});
  const pods = spec && reader.part("spec.podSelector", v.nullish(WireSelector), spec["podSelector"]);
  const unknown = Object.keys(spec ?? {}).filter((key) => !KEYS.includes(key));
  // What a key that is not known says may be about the rules.
  for (const key of unknown) reader.problem(`spec.${key}`, "unknown field");
  const rules = (direction: Direction): PolicyRule[] =>
    reader.list(`spec.${direction}`, spec?.[direction], (path, rule) =>
      readRule(PEERS[direction], path, rule, reader),
    ) ?? [];
  const allowed = { ingress: rules("ingress"), egress: rules("egress") };
  const directions = spec ? directionsOf(spec, reader) : DIRECTIONS;
  const of = (direction: Direction) =>
    directions.includes(direction) ? (unknown.length > 0 ? [] : allowed[direction]) : undefined;
  return {
    ...identity,
    pods: pods ?? EVERYTHING,
    ingress: of("ingress"),
    egress: of("egress"),
    problems: reader.problems,
  };
}

/** Without types all policies are about ingress, and those with egress rules about egress, too. */
function directionsOf(spec: Readonly<Record<string, unknown>>, reader: Reader): readonly Direction[] {
  const before = reader.problems.length;
  const types = reader.list("spec.policyTypes", spec["policyTypes"], (path, type) => {
    const direction = typeof type === "string" && Object.hasOwn(TYPES, type) ? TYPES[type] : undefined;
    if (!direction) reader.problem(path, "expected Ingress or Egress");
    return direction;
  });
  if (reader.problems.length > before) return DIRECTIONS;
  if (types) return types;
  const { egress } = spec;
  const none = egress === null || egress === undefined || (Array.isArray(egress) && egress.length === 0);
  return none ? ["ingress"] : DIRECTIONS;
}

/** A rule whose list is empty, or missing, is about everybody, or every port; one of which nothing can be read is not. */
function readRule(
  side: (typeof PEERS)[Direction],
  path: string,
  json: unknown,
  reader: Reader,
): PolicyRule | undefined {
  const Rule = exactly({ [side]: v.optional(v.unknown()), ports: v.optional(v.unknown()) });
  const rule = reader.part(path, Rule, json);
  if (!rule) return undefined;
  return {
    peers: reader.list(`${path}.${side}`, rule[side], (at, peer) => reader.part(at, WirePeer, peer)),
    ports: reader.list(`${path}.ports`, rule["ports"], (at, port) => reader.part(at, WirePort, port)),
  };
}
