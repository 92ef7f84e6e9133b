// Addresses as valibot schemas, for options, configurations and saved rows.
import * as v from "valibot";
import { AddressError } from "./ipv4.ts";

/** An IPv4 address as a number. */
export const AddressNumber = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32 - 1));
export const PrefixLength = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(32));

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
