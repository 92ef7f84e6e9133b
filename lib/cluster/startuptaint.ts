// The startup taint: nodes may be registered with it, so that no pod starts before its network is there.
import * as v from "valibot";
import { CONFLICT, type KubeClient, KubeError, objectAs } from "../kube/client.ts";
import { NODES } from "../kube/nodes.ts";

/** Key of the taint; any value and effect. */
export const STARTUP_TAINT = "weave.network/not-ready";

const Node = v.object({
  metadata: v.object({ resourceVersion: v.string() }),
  spec: v.nullish(v.object({ taints: v.nullish(v.array(v.looseObject({ key: v.string() })), []) }), {}),
});
const FORBIDDEN = 403;
/** Kubelets and controllers change nodes, too. */
const ATTEMPTS = 5;

/**
 * Remove the taint from a node; false where it has none. Rejects with KubeError, and says so where the right is missing; with one
 * of status CONFLICT if the node keeps changing.
 */
export async function removeStartupTaint(
  client: KubeClient,
  node: string,
  attempts = ATTEMPTS,
): Promise<boolean> {
  const path = `${NODES}/${encodeURIComponent(node)}`;
  const { metadata, spec } = objectAs(Node, path, await client.get(path));
  const taints = spec?.taints ?? [];
  const others = taints.filter(({ key }) => key !== STARTUP_TAINT);
  if (others.length === taints.length) return false;
  // The version makes it fail where another taint was added meanwhile.
  const patch = { metadata: { resourceVersion: metadata.resourceVersion }, spec: { taints: others } };
  try {
    await client.write("merge", path, patch);
    return true;
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    if (error.status === CONFLICT && attempts > 1) return removeStartupTaint(client, node, attempts - 1);
    if (error.status !== FORBIDDEN) throw error;
    throw new KubeError(
      `node ${node} has taint ${STARTUP_TAINT}, and the router may not remove it; apply 'weave manifest kubernetes --startup-taint'`,
      FORBIDDEN,
      { cause: error },
    );
  }
}
