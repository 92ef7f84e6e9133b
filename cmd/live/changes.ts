// Differences between two versions of a text, word by word, as `watch -d` marks them; measurements, which change every
// time, do not count. Pure.
import type { MarkedLine } from "../output/fitting.ts";

/** Updates for which a change stays marked. */
const MARKED_LOOKS = 3;
/** "1.2 kB/s", "350 ms", "3 s", or any other word. */
const WORDS = /\d[\d.,]* (?:[kMG]?B\/s|ms|s|min|h|d)(?=[\s,;)]|$)|\S+/g;

interface Word {
  readonly text: string;
  readonly from: number;
  readonly to: number;
}

interface Known {
  readonly words: readonly Word[];
  /** For how many updates a word stays marked, by its place. */
  readonly left: ReadonlyMap<number, number>;
}

export class Changes {
  #known: ReadonlyMap<string, Known> | undefined;

  /** Return the lines, with the changes since the last call marked. */
  next(lines: readonly string[]): MarkedLine[] {
    const before = this.#known;
    const known = new Map<string, Known>();
    const marked = lines.map((text) => {
      const words = wordsOf(text);
      const key = keyOf(words, known);
      const left = before ? changed(words, before.get(key)) : new Map<number, number>();
      known.set(key, { words, left });
      return { text, marks: words.flatMap(({ from, to }, i) => (left.has(i) ? [[from, to] as const] : [])) };
    });
    this.#known = known;
    return marked;
  }
}

function wordsOf(line: string): Word[] {
  return Array.from(line.matchAll(WORDS), (match) => ({
    text: /^\d[\d.,]* /.test(match[0]) ? "" : match[0],
    from: match.index,
    to: match.index + match[0].length,
  }));
}

/** Return the identity of a line: its first two words, and its number among lines that begin with them. */
function keyOf(words: readonly Word[], taken: ReadonlyMap<string, unknown>): string {
  const begin = words
    .slice(0, 2)
    .map(({ text }) => text)
    .join(" ");
  // "Connections: 2 (2 established)" is about its first word.
  const about = /^\S+:/.exec(begin)?.[0] ?? begin;
  for (let i = 0; ; i++) if (!taken.has(`${about} ${i}`)) return `${about} ${i}`;
}

function changed(words: readonly Word[], before: Known | undefined): Map<number, number> {
  const left = new Map<number, number>();
  for (const [i, { text }] of words.entries()) {
    const isSame = before?.words[i]?.text === text;
    const looks = isSame ? (before.left.get(i) ?? 0) - 1 : MARKED_LOOKS;
    if (looks > 0) left.set(i, looks);
  }
  return left;
}
