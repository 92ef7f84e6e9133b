// What went wrong, in words: anything may be thrown.

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
