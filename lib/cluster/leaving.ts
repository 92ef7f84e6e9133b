// Whether this node leaves the network for good: its DaemonSet or the node itself is deleted. A restart, an update and an
// eviction are no departure.
import * as v from "valibot";
import { type KubeClient, KubeError, NOT_FOUND } from "../kube/client.ts";
import { NODES } from "../kube/nodes.ts";

const DAEMONSET = "/apis/apps/v1/namespaces/kube-system/daemonsets/weave-net";
const Deleted = v.object({ metadata: v.object({ deletionTimestamp: v.nullish(v.string()) }) });

/** What has to exist for a node to stay in the network: those of its objects that existed when it joined. */
export async function findBelongings(client: KubeClient, node: string): Promise<readonly string[]> {
  const paths = [DAEMONSET, `${NODES}/${encodeURIComponent(node)}`];
  const found = await Promise.all(paths.map((path) => isThere(client, path)));
  return paths.filter((_, i) => found[i]);
}

/** Ask the API server, for `ms` at most, whether any of these is deleted; resolves with false where it does not say so. */
export async function isLeaving(
  client: KubeClient,
  belongings: readonly string[],
  ms: number,
): Promise<boolean> {
  const late = new Promise<boolean[]>((resolve) => setTimeout(() => resolve([]), ms).unref());
  const there = Promise.all(belongings.map((path) => isThere(client, path)));
  return (await Promise.race([there, late])).includes(false);
}

/** False for an object that is deleted, or is being deleted; true, too, where the API server does not say. */
async function isThere(client: KubeClient, path: string): Promise<boolean> {
  try {
    const object = v.safeParse(Deleted, await client.get(path));
    return !object.success || !object.output.metadata.deletionTimestamp;
  } catch (error) {
    return !(error instanceof KubeError) || error.status !== NOT_FOUND;
  }
}
