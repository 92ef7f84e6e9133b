// Fields of a log line: logfmt after the text (https://brandur.org/logfmt), properties in JSON.
import { escapeUnprintable, printable } from "./printable.ts";

type FieldValue = string | number | boolean | readonly string[] | undefined;

/** What a line tells of, for programs: its text may change, its code does not. */
export type EventCode =
  | "dialling"
  | "dial-failed"
  | "connection-added"
  | "connection-ready"
  | "connection-deleted"
  | "range-donated"
  | "repaired"
  | "repair-failed";

/** Fields by name, in camel case; undefined ones are left out. `code` is in JSON alone. */
export type Fields = { readonly [name: string]: FieldValue } & {
  readonly code?: EventCode;
  readonly time?: never;
  readonly level?: never;
  readonly msg?: never;
};

/** Values that need quotes. */
const NEEDS_QUOTES = /[\s"=\\]|^$/;

/** Return fields as " name=value name="other value"", on one line; lists are joined by commas. */
export function logfmt(fields: Fields): string {
  return Object.entries(fields)
    .filter(([name, value]) => value !== undefined && name !== "code")
    .map(([name, value]) => ` ${name}=${quoted(String(value))}`)
    .join("");
}

/** Quote as Go's strconv.Quote, like most writers of logfmt: "a\n\"b\"". */
function quoted(value: string): string {
  if (!NEEDS_QUOTES.test(value) && printable(value) === value) return value;
  return escapeUnprintable(JSON.stringify(value));
}
