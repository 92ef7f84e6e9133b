// One after the other until one succeeds, without waiting for the slow: who has not answered for a while is joined by
// the next, and the first good answer wins.

/** What one attempt came to: "good" ends it all, "poor" is taken where nobody has better. */
export type Attempt<T> = { readonly good: T } | { readonly poor: T } | undefined;

/**
 * Makes `attempts` in order, each `patienceMs` after the one before at the latest, at once where that one has failed.
 * Attempts are given a signal that is aborted once the result is known; they must not reject. Returns the first good
 * result, else the first poor one, else undefined.
 */
export async function inTurn<T>(
  attempts: readonly ((cancel: AbortSignal) => Promise<Attempt<T>>)[],
  patienceMs: number,
): Promise<T | undefined> {
  const { promise, resolve } = Promise.withResolvers<T | undefined>();
  const decided = new AbortController();
  let poor: T | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let next = 0;
  let open = 0;
  const settle = (result: Attempt<T>) => {
    open--;
    if (result && "good" in result) return resolve(result.good);
    poor ??= result?.poor;
    advance();
  };
  const advance = () => {
    clearTimeout(timer);
    const attempt = attempts[next++];
    if (!attempt) {
      if (open === 0) resolve(poor);
      return;
    }
    open++;
    timer = setTimeout(advance, patienceMs);
    attempt(decided.signal).then(settle, () => settle(undefined));
  };
  advance();
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    decided.abort();
  }
}
