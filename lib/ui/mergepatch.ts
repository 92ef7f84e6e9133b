// JSON Merge Patch (RFC 7396): how the stream tells what has changed. Pure, and shared with the page.

/** JSON without null, which means in a patch that a member is gone. */
export type Json = string | number | boolean | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json | undefined;
}

/** A patch of an object: members that are new or changed, and null for those that are gone. */
export interface Patch {
  [name: string]: Json | Patch | null;
}

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A member, whatever it is called: peers choose names. */
const own = (object: JsonObject, name: string) => (Object.hasOwn(object, name) ? object[name] : undefined);

/** Return the patch that makes `after` of `before`; undefined where they are equal. Arrays are replaced as a whole. */
export function difference(before: JsonObject, after: JsonObject): Patch | undefined {
  // "__proto__" is a name like others.
  const patch: Patch = Object.create(null);
  let changed = false;
  const set = (name: string, value: Json | Patch | null) => {
    patch[name] = value;
    changed = true;
  };
  for (const name of Object.keys(before))
    if (own(before, name) !== undefined && own(after, name) === undefined) set(name, null);
  for (const [name, value] of Object.entries(after)) {
    if (value === undefined) continue;
    const old = own(before, name);
    if (isObject(value) && isObject(old)) {
      const inner = difference(old, value);
      if (inner) set(name, inner);
    } else if (!isEqual(old, value)) set(name, value);
  }
  return changed ? patch : undefined;
}

function isEqual(a: Json | undefined, b: Json): boolean {
  if (a === b) return true;
  if (!Array.isArray(a) || !Array.isArray(b)) return false;
  return a.length === b.length && JSON.stringify(a) === JSON.stringify(b);
}

/** Return `target` with a patch applied; neither is changed, and what the patch leaves alone stays the same object. */
export function merge<T extends JsonObject>(target: T, patch: Patch): T {
  const result: Record<string, Json | undefined> = Object.assign(Object.create(null), target);
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else if (isObject(value)) {
      const old = result[name];
      result[name] = merge(isObject(old) ? old : {}, value as Patch);
    } else result[name] = value as Json;
  }
  return result as T;
}
