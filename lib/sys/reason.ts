// What went wrong, in words: anything may be thrown.
import { causeOf } from "./cause.ts";

/** One line about an error; of a connection or a listener that failed, the cause alone (lib/sys/cause.ts). */
export function reasonOf(error: unknown): string {
  return causeOf(error)?.cause ?? (error instanceof Error ? error.message : String(error));
}
