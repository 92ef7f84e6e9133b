// Whether this node leaves the network for good: its DaemonSet or the node itself is deleted. A restart, an update and an
// eviction are no departure.
import * as v from "valibot";
import { type KubeClient, KubeError, NOT_FOUND } from "../kube/client.ts";
import { NODES } from "../kube/nodes.ts";

const DAEMONSET = "/apis/apps/v1/namespaces/kube-system/daemonsets/weave-net";
/** Unauthorized, forbidden. */
const REFUSED: readonly number[] = [401, 403];
const Deleted = v.object({ metadata: v.object({ deletionTimestamp: v.nullish(v.string()) }) });

/** "refused": this service account, or its roles, may have been deleted first. */
type Presence = "there" | "gone" | "refused" | "unknown";

/** What has to exist for a node to stay in the network: those of its objects that it could see when it joined. */
export async function findBelongings(client: KubeClient, node: string): Promise<readonly string[]> {
  const paths = [DAEMONSET, `${NODES}/${encodeURIComponent(node)}`];
  const found = await Promise.all(paths.map((path) => presenceOf(client, path)));
  return paths.filter((_, i) => found[i] === "there" || found[i] === "unknown");
}

/**
 * Ask the API server, for `ms` at most, whether any of these is deleted, or none may be seen any more: `kubectl delete -f` and
 * Helm delete roles and service account in the same breath as the DaemonSet. Resolves with false where it does not say so.
 */
export async function isLeaving(
  client: KubeClient,
  belongings: readonly string[],
  ms: number,
): Promise<boolean> {
  const late = new Promise<Presence[]>((resolve) => setTimeout(() => resolve([]), ms).unref());
  const asked = Promise.all(belongings.map((path) => presenceOf(client, path)));
  const found = await Promise.race([asked, late]);
  return found.includes("gone") || (found.length > 0 && found.every((presence) => presence === "refused"));
}

/** What the API server says of an object; one that is being deleted is gone. */
async function presenceOf(client: KubeClient, path: string): Promise<Presence> {
  try {
    const object = v.safeParse(Deleted, await client.get(path));
    return object.success && object.output.metadata.deletionTimestamp ? "gone" : "there";
  } catch (error) {
    const status = error instanceof KubeError ? error.status : 0;
    if (status === NOT_FOUND) return "gone";
    return REFUSED.includes(status) ? "refused" : "unknown";
  }
}
