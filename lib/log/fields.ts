// The facts of a log line as fields: logfmt behind its text (https://brandur.org/logfmt), properties in JSON.
import { escapeUnprintable, printable } from "./printable.ts";

type FieldValue = string | number | boolean | readonly string[] | undefined;

/** Fields by name, in camel case; one that is undefined is left out. The names of the line's own parts are taken. */
export type Fields = { readonly [name: string]: FieldValue } & {
  readonly time?: never;
  readonly level?: never;
  readonly msg?: never;
};

/** What a value without quotes cannot contain. */
const NEEDS_QUOTES = /[\s"=\\]|^$/;

/** Return " name=value name="other value"", with a space in front of each; lists have commas. On one line. */
export function logfmt(fields: Fields): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${name}=${quoted(String(value))}`)
    .join("");
}

/** As Go's strconv.Quote, which most writers of logfmt use: "a\n\"b\"". */
function quoted(value: string): string {
  if (!NEEDS_QUOTES.test(value) && printable(value) === value) return value;
  return escapeUnprintable(JSON.stringify(value));
}
