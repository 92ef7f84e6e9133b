// The text of anything that is thrown.
import { causeOf } from "./cause.ts";

/**
 * Return one line about an error. For a failed connection or listener, and for a file whose path is in `said`, only the cause
 * (cause.ts).
 */
export function reasonOf(error: unknown, said = ""): string {
  return causeOf(error)?.cause ?? (error instanceof Error ? ofFile(error, said) : String(error));
}

/** Return "ENOENT: no such file or directory, open '/x'" of node:fs as "open /x: no such file or directory". */
function ofFile(error: Error, said: string): string {
  const { code, syscall, path } = error as { code?: unknown; syscall?: unknown; path?: unknown };
  const [, cause] = /^E[A-Z0-9]+: ([^,]+), \w+( '|$)/.exec(error.message) ?? [];
  if (cause === undefined || !error.message.startsWith(`${code}: `)) return error.message;
  return typeof path === "string" && !said.includes(path) ? `${syscall} ${path}: ${cause}` : cause;
}
