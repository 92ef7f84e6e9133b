// What the policy model knows of Kubernetes: namespaces, pods and NetworkPolicies (networking.k8s.io/v1), as far as they
// matter for it.
import type { IpRange } from "../address/ip.ts";
import type { Labels, Selector } from "./selector.ts";

export const PROTOCOLS = ["TCP", "UDP", "SCTP"] as const;
export type Protocol = (typeof PROTOCOLS)[number];
export const DIRECTIONS = ["ingress", "egress"] as const;
export type Direction = (typeof DIRECTIONS)[number];

export const MAX_PORT = 65_535;

/** What an object says of itself where a part of it cannot be read. */
interface Checked {
  /** Path and reason of each such part. */
  readonly problems: readonly string[];
}

export interface Namespace extends Checked {
  readonly name: string;
  /** Undefined where they cannot be read: no rule selects its pods by them. */
  readonly labels: Labels | undefined;
  /** Legacy semantics: an annotation isolates all its pods, for ingress. */
  readonly isolated: boolean;
}

export interface NamedPort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
}

export interface Pod extends Checked {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** Undefined where they cannot be read: no rule selects it, and it is isolated. */
  readonly labels: Labels | undefined;
  /** Where it runs; undefined until it is scheduled. */
  readonly node: string | undefined;
  /** Addresses of its own, of both families; none while it has not got any, and none in the network of its node. */
  readonly addresses: readonly string[];
  readonly hostNetwork: boolean;
  /** Its addresses are its own no longer. */
  readonly ended: boolean;
  /** Addresses of its node, as far as it tells. */
  readonly nodeAddresses: readonly string[];
  /** Milliseconds since the epoch; of two pods with one address the later has it. */
  readonly created: number;
  readonly ports: readonly NamedPort[];
}

/** A port as a rule means it: a range of numbers, all, or a name that each destination gives a number. */
export interface PolicyPort {
  readonly protocol: Protocol;
  readonly ports: { readonly first: number; readonly last: number } | { readonly name: string };
}

export type Peer =
  | { readonly block: IpRange; readonly except: readonly IpRange[] }
  /** Pods by their labels, in the policy's own namespace unless namespaces are selected, too. */
  | { readonly pods: Selector; readonly namespaces: Selector | undefined };

export interface PolicyRule {
  /** Undefined: everybody; empty: nobody. */
  readonly peers: readonly Peer[] | undefined;
  /** Undefined: everything, whatever the protocol; empty: nothing. */
  readonly ports: readonly PolicyPort[] | undefined;
}

export interface Policy extends Checked {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly pods: Selector;
  /** What it allows; undefined for a direction that it says nothing about. */
  readonly ingress: readonly PolicyRule[] | undefined;
  readonly egress: readonly PolicyRule[] | undefined;
}

export type KubeObject =
  | { readonly kind: "Namespace"; readonly object: Namespace }
  | { readonly kind: "Pod"; readonly object: Pod }
  | { readonly kind: "NetworkPolicy"; readonly object: Policy };
export type Kind = KubeObject["kind"];
export const KINDS: readonly Kind[] = ["Namespace", "Pod", "NetworkPolicy"];
