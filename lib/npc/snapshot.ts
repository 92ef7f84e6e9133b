// A snapshot of a cluster: a list of Namespaces, Pods and NetworkPolicies, as `kubectl get -o json` prints it.
import * as v from "valibot";
import { reasonOf } from "../sys/reason.ts";
import { KINDS, type Kind, type KubeObject } from "./objects.ts";
import { ObjectError, readObject } from "./read.ts";

const Listed = v.looseObject({ kind: v.string() });
const List = v.looseObject({ items: v.array(v.unknown()) });

/** Reads the text of a snapshot: a list, a JSON array or single objects; other kinds are passed over. Throws ObjectError. */
export function readSnapshot(text: string): KubeObject[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new ObjectError(`not JSON: ${reasonOf(error)}`, { cause: error });
  }
  return objectsOf(json);
}

function objectsOf(json: unknown): KubeObject[] {
  if (Array.isArray(json)) return json.flatMap(objectsOf);
  if (v.is(List, json)) {
    // Items of a list of one kind need not say it again.
    const kind = v.is(Listed, json) ? json.kind.replace(/List$/, "") : "";
    return json.items.flatMap((item) =>
      isKind(kind) && !v.is(Listed, item) ? [readObject(kind, item)] : objectsOf(item),
    );
  }
  if (!v.is(Listed, json)) throw new ObjectError("expected a list of Kubernetes objects, each with its kind");
  return isKind(json.kind) ? [readObject(json.kind, json)] : [];
}

const isKind = (kind: string): kind is Kind => (KINDS as readonly string[]).includes(kind);
