// Objects of Kubernetes as an API server or a file has them, checked and brought into the model's form: here, at the edge.
import * as v from "valibot";
import { parseIp, parseIpSubnet } from "../address/ip.ts";
import { reasonOf } from "../sys/reason.ts";
import {
  type Kind,
  type KubeObject,
  MAX_PORT,
  type Namespace,
  type Peer,
  type Pod,
  type Policy,
  type PolicyPort,
  type PolicyRule,
  PROTOCOLS,
} from "./objects.ts";
import type { Labels, Selector } from "./selector.ts";

/** An object that is not what it should be; the message says which, where and what. */
export class ObjectError extends Error {
  override readonly name = "ObjectError";
}

const StringMap = v.nullish(v.record(v.string(), v.string()), {});
const Meta = v.object({
  name: v.pipe(v.string(), v.nonEmpty()),
  namespace: v.nullish(v.string()),
  uid: v.nullish(v.string(), ""),
  labels: StringMap,
  annotations: StringMap,
  creationTimestamp: v.nullish(v.string()),
});

const PortNumber = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MAX_PORT));
const ProtocolName = v.nullish(v.picklist(PROTOCOLS), "TCP");

const WireSelector = v.pipe(
  v.object({
    matchLabels: StringMap,
    matchExpressions: v.nullish(
      v.array(
        v.object({
          key: v.string(),
          operator: v.picklist(["In", "NotIn", "Exists", "DoesNotExist"]),
          values: v.nullish(v.array(v.string()), []),
        }),
      ),
      [],
    ),
  }),
  v.transform(
    ({ matchLabels, matchExpressions }): Selector => ({
      labels: matchLabels,
      requirements: matchExpressions,
    }),
  ),
);

const Address = v.pipe(v.string(), v.rawTransform(parsed(parseIp)));
const Subnet = v.pipe(v.string(), v.rawTransform(parsed(parseIpSubnet)));

/** A parser of ours as a step of a schema. */
function parsed<T>(parse: (text: string) => T) {
  return ({
    dataset,
    addIssue,
    NEVER,
  }: {
    dataset: { value: string };
    addIssue: (info: { message: string }) => void;
    NEVER: never;
  }): T => {
    try {
      return parse(dataset.value);
    } catch (error) {
      addIssue({ message: reasonOf(error) });
      return NEVER;
    }
  };
}

const WirePort = v.pipe(
  v.object({
    protocol: ProtocolName,
    port: v.nullish(v.union([PortNumber, v.string()])),
    endPort: v.nullish(PortNumber),
  }),
  v.check(
    ({ port, endPort }) => endPort == null || (typeof port === "number" && port <= endPort),
    "endPort needs a port that is a number and not larger",
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
  v.object({
    podSelector: v.nullish(WireSelector),
    namespaceSelector: v.nullish(WireSelector),
    ipBlock: v.nullish(v.object({ cidr: Subnet, except: v.nullish(v.array(Subnet), []) })),
  }),
  v.check(
    ({ podSelector, namespaceSelector, ipBlock }) =>
      Boolean(ipBlock) !== Boolean(podSelector ?? namespaceSelector),
    "a peer has an ipBlock, or else a podSelector, a namespaceSelector or both",
  ),
  v.transform(({ podSelector, namespaceSelector, ipBlock }): Peer => {
    if (ipBlock) return { block: ipBlock.cidr, except: ipBlock.except };
    return {
      pods: podSelector ?? { labels: {}, requirements: [] },
      namespaces: namespaceSelector ?? undefined,
    };
  }),
);

const WireRule = v.object({
  from: v.nullish(v.array(WirePeer)),
  to: v.nullish(v.array(WirePeer)),
  ports: v.nullish(v.array(WirePort)),
});

const NamespaceObject = v.pipe(
  v.object({ metadata: Meta }),
  v.transform(({ metadata: { name, labels, annotations } }): Namespace => {
    // The API server gives every namespace this label; a file that somebody wrote may lack it.
    return {
      name,
      labels: { "kubernetes.io/metadata.name": name, ...labels },
      isolated: isolated(annotations),
    };
  }),
);

/** As before Kubernetes 1.7: {"ingress":{"isolation":"DefaultDeny"}}. */
function isolated(annotations: Labels): boolean {
  const Annotation = v.object({ ingress: v.object({ isolation: v.literal("DefaultDeny") }) });
  try {
    return v.is(Annotation, JSON.parse(annotations["net.beta.kubernetes.io/network-policy"] ?? "null"));
  } catch {
    return false;
  }
}

const Ip = v.object({ ip: Address });

const PodObject = v.pipe(
  v.object({
    metadata: Meta,
    spec: v.nullish(
      v.object({
        nodeName: v.nullish(v.string()),
        hostNetwork: v.nullish(v.boolean(), false),
        containers: v.nullish(
          v.array(
            v.object({
              ports: v.nullish(
                v.array(
                  v.object({
                    name: v.nullish(v.string()),
                    containerPort: PortNumber,
                    protocol: ProtocolName,
                  }),
                ),
                [],
              ),
            }),
          ),
          [],
        ),
      }),
      {},
    ),
    status: v.nullish(
      v.object({
        phase: v.nullish(v.string()),
        podIP: v.nullish(
          v.union([
            v.pipe(
              v.literal(""),
              v.transform(() => undefined),
            ),
            Address,
          ]),
        ),
        podIPs: v.nullish(v.array(Ip), []),
        hostIP: v.nullish(
          v.union([
            v.pipe(
              v.literal(""),
              v.transform(() => undefined),
            ),
            Address,
          ]),
        ),
        hostIPs: v.nullish(v.array(Ip), []),
      }),
      {},
    ),
  }),
  v.transform(({ metadata, spec, status }): Pod => {
    const own = unique([status.podIP, ...(status.podIPs ?? []).map(({ ip }) => ip)]);
    const host = unique([status.hostIP, ...(status.hostIPs ?? []).map(({ ip }) => ip)]);
    const ended = status.phase === "Succeeded" || status.phase === "Failed";
    const hostNetwork = spec.hostNetwork ?? false;
    return {
      namespace: metadata.namespace || "default",
      name: metadata.name,
      uid: metadata.uid,
      labels: metadata.labels,
      node: spec.nodeName || undefined,
      addresses: hostNetwork || ended ? [] : own,
      hostNetwork,
      ended,
      nodeAddresses: hostNetwork ? unique([...own, ...host]) : host,
      created: Date.parse(metadata.creationTimestamp ?? "") || 0,
      ports: (spec.containers ?? []).flatMap(({ ports }) =>
        ports.flatMap(({ name, containerPort, protocol }) =>
          name ? [{ name, protocol, port: containerPort }] : [],
        ),
      ),
    };
  }),
);

const unique = (addresses: readonly (string | null | undefined)[]) => [
  ...new Set(addresses.filter((address): address is string => typeof address === "string")),
];

const PolicyObject = v.pipe(
  v.object({
    metadata: Meta,
    spec: v.nullish(
      v.object({
        podSelector: v.nullish(WireSelector),
        ingress: v.nullish(v.array(WireRule), []),
        egress: v.nullish(v.array(WireRule), []),
        policyTypes: v.nullish(v.array(v.picklist(["Ingress", "Egress"])), []),
      }),
      {},
    ),
  }),
  v.transform(({ metadata, spec }): Policy => {
    const { ingress = [], egress = [], policyTypes = [] } = spec;
    // Without types all policies are about ingress, and those with egress rules about egress, too.
    const types =
      policyTypes.length > 0 ? policyTypes : egress.length > 0 ? ["Ingress", "Egress"] : ["Ingress"];
    return {
      namespace: metadata.namespace || "default",
      name: metadata.name,
      pods: spec.podSelector ?? { labels: {}, requirements: [] },
      ingress: types.includes("Ingress") ? ingress.map(({ from, ports }) => rule(from, ports)) : undefined,
      egress: types.includes("Egress") ? egress.map(({ to, ports }) => rule(to, ports)) : undefined,
    };
  }),
);

/** An empty list is the same as none. */
function rule(
  peers: readonly Peer[] | null | undefined,
  ports: readonly PolicyPort[] | null | undefined,
): PolicyRule {
  return { peers: peers?.length ? peers : undefined, ports: ports?.length ? ports : undefined };
}

const SCHEMAS = { Namespace: NamespaceObject, Pod: PodObject, NetworkPolicy: PolicyObject } as const;

/** Reads an object as the API has it; throws ObjectError. */
export function readObject(kind: Kind, json: unknown): KubeObject {
  const result = v.safeParse(SCHEMAS[kind] as v.GenericSchema<unknown, Namespace | Pod | Policy>, json);
  if (result.success) return { kind, object: result.output } as KubeObject;
  const [issue] = result.issues;
  const path = v.getDotPath(issue);
  throw new ObjectError(`${kind} ${nameOf(json)}: ${path ? `${path}: ` : ""}${issue.message}`);
}

/** "namespace/name", or the name of what has no namespace; for objects that could not be read, too. */
export function nameOf(json: unknown): string {
  const named = v.safeParse(
    v.object({ metadata: v.object({ name: v.string(), namespace: v.nullish(v.string()) }) }),
    json,
  );
  if (!named.success) return "without a name";
  const { name, namespace } = named.output.metadata;
  return namespace ? `${namespace}/${name}` : name;
}
