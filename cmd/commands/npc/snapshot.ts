// Snapshot of a cluster's model, from a file or from an API server.
import { readFileSync } from "node:fs";
import { KubeClient } from "../../../lib/kube/client.ts";
import { COLLECTIONS } from "../../../lib/npc/controller.ts";
import { Model } from "../../../lib/npc/model.ts";
import { KINDS } from "../../../lib/npc/objects.ts";
import { readObject } from "../../../lib/npc/read.ts";
import { readSnapshot } from "../../../lib/npc/snapshot.ts";
import { reasonOf } from "../../../lib/sys/reason.ts";
import type { Arguments } from "../../arguments.ts";
import { kubeConfig } from "../../kubeconfig.ts";

/** Read the model from a file ("-" is standard input). Throws an error that names the file. */
export function modelOfFile(file: string): Model {
  const model = new Model();
  try {
    const objects = readSnapshot(readFileSync(file === "-" ? 0 : file, "utf8"));
    model.apply(objects.map((object) => ({ type: "set", object })));
  } catch (error) {
    throw new Error(`${file}: ${reasonOf(error, file)}`, { cause: error });
  }
  return model;
}

/** Return the model from --snapshot or the API server. Rejects with KubeConfigError, KubeError or ObjectError. */
export async function modelOf(options: Arguments["options"]): Promise<Model> {
  const { snapshot } = options;
  if (typeof snapshot === "string") return modelOfFile(snapshot);
  const client = new KubeClient(kubeConfig(options));
  const model = new Model();
  await Promise.all(
    KINDS.map(async (kind) => {
      const { items } = await client.list(COLLECTIONS[kind]);
      model.replace(
        kind,
        items.map((item) => readObject(kind, item)),
      );
    }),
  );
  return model;
}
