// What went wrong, in words: anything may be thrown.
import { causeOf } from "./cause.ts";

/**
 * One line about an error; of a connection or a listener that failed, and of a file that the caller names itself
 * (its path is in `said`), the cause alone (lib/sys/cause.ts).
 */
export function reasonOf(error: unknown, said = ""): string {
  return causeOf(error)?.cause ?? (error instanceof Error ? ofFile(error, said) : String(error));
}

/** "ENOENT: no such file or directory, open '/x'" of node:fs as "open /x: no such file or directory"; others as they are. */
function ofFile(error: Error, said: string): string {
  const { code, syscall, path } = error as { code?: unknown; syscall?: unknown; path?: unknown };
  const [, cause] = /^E[A-Z0-9]+: ([^,]+), \w+( '|$)/.exec(error.message) ?? [];
  if (cause === undefined || !error.message.startsWith(`${code}: `)) return error.message;
  return typeof path === "string" && !said.includes(path) ? `${syscall} ${path}: ${cause}` : cause;
}
