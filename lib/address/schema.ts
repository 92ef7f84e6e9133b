// Text of the edge (options, configurations) turned into values by a parser of ours, as a valibot schema.
import * as v from "valibot";
import { AddressError } from "./ipv4.ts";

/** A string that `parse` takes; what it complains about (by an error of that class) becomes the schema's complaint. */
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
