// What all peers of a cluster share: the annotations of one ConfigMap. Who changes them says which version of them was
// read, and the API server refuses whoever comes too late; so of two that want the same, one gets it.
import * as v from "valibot";
import { type Clock, sleep } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import { CONFLICT, type KubeClient, KubeError, NOT_FOUND } from "../kube/client.ts";

export type Annotations = Readonly<Record<string, string>>;

/** Annotations that are changed by compare and swap. */
export interface SharedAnnotations {
  read(): Promise<Annotations>;
  /**
   * Replaces what was read last; false where somebody else has changed it since. Rejects where it cannot be asked, or
   * was not read yet.
   */
  write(annotations: Annotations): Promise<boolean>;
}

const NAMESPACE = "kube-system";
const NAME = "weave-net";
const COLLECTION = `/api/v1/namespaces/${NAMESPACE}/configmaps`;
/** For people. */
export const CONFIGMAP = `${NAMESPACE}/${NAME}`;

const ConfigMap = v.looseObject({
  metadata: v.looseObject({ annotations: v.nullish(v.record(v.string(), v.string()), {}) }),
});

/** The annotations of ConfigMap kube-system/weave-net, the original's; made where there is none. */
export function configMapAnnotations(client: KubeClient): SharedAnnotations {
  let last: v.InferOutput<typeof ConfigMap> | undefined;
  const got = (json: unknown) => {
    last = v.parse(ConfigMap, json);
    return last.metadata.annotations ?? {};
  };
  return {
    async read() {
      for (;;) {
        try {
          return got(await client.get(`${COLLECTION}/${NAME}`));
        } catch (error) {
          if (!isStatus(error, NOT_FOUND)) throw error;
        }
        const fresh = {
          apiVersion: "v1",
          kind: "ConfigMap",
          metadata: { name: NAME, namespace: NAMESPACE },
        };
        try {
          return got(await client.write("create", COLLECTION, fresh));
        } catch (error) {
          if (!isStatus(error, CONFLICT)) throw error;
        }
      }
    },
    async write(annotations) {
      if (!last) throw new Error(`ConfigMap ${CONFIGMAP} was not read yet`);
      const next = { ...last, metadata: { ...last.metadata, annotations } };
      try {
        got(await client.write("replace", `${COLLECTION}/${NAME}`, next));
        return true;
      } catch (error) {
        if (isStatus(error, CONFLICT)) return false;
        throw error;
      }
    },
  };
}

function isStatus(error: unknown, status: number): boolean {
  return error instanceof KubeError && error.status === status;
}

/** Whoever was too late tries again within this. */
const AGAIN_MS = 500;

/**
 * Changes annotations, as often as it takes until nobody else was faster. `change` gets them as they are, and may be
 * called several times; undefined from it leaves them so. Resolves with what they are then.
 */
export async function update(
  shared: SharedAnnotations,
  change: (annotations: Annotations) => Annotations | undefined,
  { clock, random }: { readonly clock: Clock; readonly random: Random },
): Promise<Annotations> {
  for (;;) {
    const now = await shared.read();
    const next = change(now);
    if (!next) return now;
    if (await shared.write(next)) return next;
    await sleep(clock, AGAIN_MS * random.float());
  }
}
