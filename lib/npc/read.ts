// Objects of Kubernetes as an API server or a file has them, checked and brought into the model's form: here, at the edge.
// Where a part of one cannot be read, the object says so, and takes the form that allows least.
import * as v from "valibot";
import { Reader } from "./fields.ts";
import type { Kind, KubeObject } from "./objects.ts";
import { readNamespace, readPod } from "./readpod.ts";
import { readPolicy } from "./readpolicy.ts";

/** What is no object of that kind, or cannot be told from others; the message says which, where and what. */
export class ObjectError extends Error {
  override readonly name = "ObjectError";
}

const Named = v.looseObject({
  metadata: v.looseObject({
    name: v.pipe(v.string(), v.nonEmpty("a name is missing")),
    namespace: v.nullish(v.string()),
    uid: v.fallback(v.nullish(v.string(), ""), ""),
  }),
});

/** Reads an object as the API has it, as far as it can be read. Throws ObjectError where its name cannot. */
export function readObject(kind: Kind, json: unknown): KubeObject {
  const reader = new Reader();
  const named = reader.part("object", Named, json);
  if (!named) throw new ObjectError(`${kind} without a name: ${reader.problems[0]}`);
  const { metadata, ...parts } = named;
  const identity = { namespace: metadata.namespace || "default", name: metadata.name, uid: metadata.uid };
  switch (kind) {
    case "Namespace":
      return { kind, object: readNamespace(identity, metadata, reader) };
    case "Pod":
      return { kind, object: readPod(identity, metadata, parts, reader) };
    case "NetworkPolicy":
      return { kind, object: readPolicy(identity, parts["spec"], reader) };
  }
}
