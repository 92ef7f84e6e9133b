// A parser as a valibot schema, for options and configurations.
import * as v from "valibot";
import { AddressError } from "./ipv4.ts";

/** Return the schema of strings that `parse` accepts; its errors of the given class become issues. */
export function parsed<T>(
  parse: (text: string) => T,
  complaint: abstract new (...args: never) => Error = AddressError,
) {
  return v.pipe(
    v.string(),
    v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
      try {
        return parse(dataset.value);
      } catch (error) {
        if (!(error instanceof complaint)) throw error;
        addIssue({ message: error.message });
        return NEVER;
      }
    }),
  );
}
