// Did you mean: the known word that a mistyped one is closest to.
import { closestMatch } from "leven";

/** Edits that are still a slip of the fingers: one for each three letters, two at least. */
const slip = (word: string) => Math.max(2, Math.floor(word.length / 3));

/** The known word that `word` begins, or is closest to; undefined where none is close. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const begun = word.length > 1 ? known.find((candidate) => candidate.startsWith(word)) : undefined;
  return begun ?? closestMatch(word, [...known], { maxDistance: slip(word) });
}

/** "; did you mean 'X'?", or nothing. */
export function suggestion(word: string, known: readonly string[], prefix = ""): string {
  const best = nearest(word, known);
  return best === undefined ? "" : `; did you mean '${prefix}${best}'?`;
}
