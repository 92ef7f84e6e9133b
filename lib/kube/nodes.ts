// Nodes of the cluster, as far as peers go: each is a host of the network.
import { isIPv4 } from "node:net";
import * as v from "valibot";
import type { KubeClient } from "./client.ts";

/** One node: its name, the id that no other node has or had, and the address that its router is reached at. */
export interface ClusterNode {
  readonly name: string;
  readonly uid: string;
  /** IPv4; undefined while the node has none. */
  readonly address: string | undefined;
}

const Address = v.object({ type: v.string(), address: v.string() });
const Node = v.object({
  metadata: v.object({ name: v.pipe(v.string(), v.nonEmpty()), uid: v.optional(v.string(), "") }),
  status: v.nullish(v.object({ addresses: v.nullish(v.array(Address), []) }), { addresses: [] }),
});

export const NODES = "/api/v1/nodes";

/** Reads a Node; undefined for what is none. An internal address goes before an external one. */
export function readNode(json: unknown): ClusterNode | undefined {
  const parsed = v.safeParse(Node, json);
  if (!parsed.success) return undefined;
  const { metadata, status } = parsed.output;
  const addresses = (status?.addresses ?? []).filter(({ address }) => isIPv4(address));
  const of = (type: string) => addresses.find((each) => each.type === type)?.address;
  return { name: metadata.name, uid: metadata.uid, address: of("InternalIP") ?? of("ExternalIP") };
}

/** Where the other peers are: the addresses of nodes that are none of our own host's. */
export function peerAddresses(nodes: Iterable<ClusterNode>, own: ReadonlySet<string>): string[] {
  const addresses = [...nodes].flatMap(({ address }) => address ?? []);
  return [...new Set(addresses)].filter((address) => !own.has(address)).sort();
}

/** The patch that tells the scheduler that a node's network works (time in RFC 3339). */
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

/** All nodes that there are now. Rejects with KubeError. */
export async function listNodes(client: KubeClient): Promise<ClusterNode[]> {
  return (await client.list(NODES)).items.flatMap((item) => readNode(item) ?? []);
}
