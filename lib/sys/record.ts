// Objects whose keys others choose, such as labels and names of networks, as a schema.
import * as v from "valibot";

/**
 * Return the schema of objects with values of this schema. v.record() leaves out the keys "constructor", "prototype" and
 * "__proto__", which are names like any others: a selector that lacks one of its labels selects more.
 */
export function recordOf<T>(values: v.GenericSchema<unknown, T>) {
  return v.pipe(
    v.custom<Readonly<Record<string, unknown>>>(
      (value) => value !== null && typeof value === "object" && !Array.isArray(value),
      "expected an object",
    ),
    v.rawTransform(({ dataset, addIssue, NEVER }): Readonly<Record<string, T>> => {
      const input: Record<string, unknown> = { ...dataset.value };
      const entries: [string, T][] = [];
      for (const [key, value] of Object.entries(input)) {
        const read = v.safeParse(values, value);
        if (read.success) entries.push([key, read.output]);
        else
          for (const { message, path = [] } of read.issues)
            addIssue({ message, path: [{ type: "object", origin: "value", input, key, value }, ...path] });
      }
      return entries.length < Object.keys(input).length ? NEVER : Object.fromEntries(entries);
    }),
  );
}
