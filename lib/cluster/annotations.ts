// State that all peers of a cluster share: the annotations of one ConfigMap, changed by compare and swap. A write names the
// version it read, and the API server refuses it if another write came first.
import * as v from "valibot";
import { type Clock, sleep } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import { CONFLICT, type KubeClient, KubeError, NOT_FOUND, objectAs } from "../kube/client.ts";
import { recordOf } from "../sys/record.ts";

export type Annotations = Readonly<Record<string, string>>;

/** Annotations with compare and swap. */
export interface SharedAnnotations {
  read(): Promise<Annotations>;
  /**
   * Replace what was read last; false if it has changed since. Rejects with KubeError, or if nothing was read yet.
   */
  write(annotations: Annotations): Promise<boolean>;
}

const NAMESPACE = "kube-system";
const NAME = "weave-net";
const COLLECTION = `/api/v1/namespaces/${NAMESPACE}/configmaps`;
/** Attempts to read or create it: a faulty API server may answer both "not found" and "already exists", for ever. */
const MAX_READS = 5;
/** Its name in messages. */
export const CONFIGMAP = `${NAMESPACE}/${NAME}`;

const ConfigMap = v.looseObject({
  metadata: v.looseObject({ annotations: v.nullish(recordOf(v.string()), {}) }),
});

/** Return the annotations of the ConfigMap that the original uses, kube-system/weave-net, created if absent. */
export function configMapAnnotations(client: KubeClient): SharedAnnotations {
  let last: v.InferOutput<typeof ConfigMap> | undefined;
  const got = (json: unknown) => {
    last = objectAs(ConfigMap, `${COLLECTION}/${NAME}`, json);
    return last.metadata.annotations ?? {};
  };
  return {
    async read() {
      for (let attempt = 1; ; attempt++) {
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
          if (!isStatus(error, CONFLICT) || attempt === MAX_READS) throw error;
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

/** Upper bound of the random pause after a conflict. */
const AGAIN_MS = 500;
/** Conflicts in a row after which a change fails; callers report it and retry later. */
const MAX_CONFLICTS = 60;

/**
 * Change annotations, retrying on conflict. `change` gets the current ones, and may be called several times; undefined
 * leaves them unchanged. Resolves with the final annotations; rejects with KubeError, of
 * status CONFLICT after MAX_CONFLICTS.
 */
export async function update(
  shared: SharedAnnotations,
  change: (annotations: Annotations) => Annotations | undefined,
  { clock, random }: { readonly clock: Clock; readonly random: Random },
): Promise<Annotations> {
  for (let conflicts = 0; conflicts < MAX_CONFLICTS; conflicts++) {
    const now = await shared.read();
    const next = change(now);
    if (!next) return now;
    if (await shared.write(next)) return next;
    await sleep(clock, AGAIN_MS * random.float());
  }
  throw new KubeError(`cannot change ConfigMap ${CONFIGMAP}: ${MAX_CONFLICTS} conflicts in a row`, CONFLICT);
}
