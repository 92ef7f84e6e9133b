// Nodes of the cluster: each is a host of the network.
import { isIPv4 } from "node:net";
import * as v from "valibot";
import type { KubeClient } from "./client.ts";

/** A node: its name, its unique id, and the address of its router. */
export interface ClusterNode {
  readonly name: string;
  readonly uid: string;
  /** IPv4; undefined while the node has none. */
  readonly address: string | undefined;
}

// Only the name is required: the addresses of a node that seems absent are reclaimed.
const Address = v.fallback(v.object({ type: v.string(), address: v.string() }), { type: "", address: "" });
const Node = v.object({
  metadata: v.object({ name: v.pipe(v.string(), v.nonEmpty()), uid: v.fallback(v.string(), "") }),
  status: v.fallback(v.object({ addresses: v.fallback(v.array(Address), []) }), { addresses: [] }),
});

export const NODES = "/api/v1/nodes";

/** Read a Node; undefined if it has no name. Prefers an internal address. */
export function readNode(json: unknown): ClusterNode | undefined {
  const parsed = v.safeParse(Node, json);
  if (!parsed.success) return undefined;
  const { metadata, status } = parsed.output;
  const addresses = status.addresses.filter(({ address }) => isIPv4(address));
  const of = (type: string) => addresses.find((each) => each.type === type)?.address;
  return { name: metadata.name, uid: metadata.uid, address: of("InternalIP") ?? of("ExternalIP") };
}

/** Return the addresses of the other nodes; `own`: the addresses of this host. */
export function peerAddresses(nodes: Iterable<ClusterNode>, own: ReadonlySet<string>): string[] {
  const addresses = [...nodes].flatMap(({ address }) => address ?? []);
  return [...new Set(addresses)].filter((address) => !own.has(address)).sort();
}

/** Return the patch that clears NetworkUnavailable of a node (time in RFC 3339). */
export function networkAvailable(now: string): object {
  const condition = {
    type: "NetworkUnavailable",
    status: "False",
    reason: "WeaveIsUp",
    message: "Weave pod has set this",
    lastTransitionTime: now,
    lastHeartbeatTime: now,
  };
  return { status: { conditions: [condition] } };
}

/** List all nodes. Rejects with KubeError. */
export async function listNodes(client: KubeClient): Promise<ClusterNode[]> {
  return (await client.list(NODES)).items.flatMap((item) => readNode(item) ?? []);
}
