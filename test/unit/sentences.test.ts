// How the executables speak: what a machine can check of it. `npm run sentences` prints all for whoever reads them.
import { describe, expect, test } from "bun:test";
import { allSentences, sentencesOf } from "../tools/sentences.ts";

/** Turns of phrase that no man page has, and what to say instead. */
const BANNED: readonly (readonly [RegExp, string])[] = [
  [/(?<!\b[Tt]here )\b(is|are) no (?!longer\b|more\b)[a-z]/, "is not a …"],
  [/\b[Ss]omebody\b|\b[Nn]obody\b|\b[Ww]hoever\b/, "name the subject: a user, another program, no peer"],
  [/\banew\b/, "again"],
  [/\bof the last time\b/, "of the last launch"],
  [/\bputs? (it|what|them|this|all)?\b.{0,20}\bright\b/, "repair"],
  [/\bput right\b|\bput in order\b|\bkeeps in order\b/, "repaired"],
  [/\ball the same\b/, "nevertheless"],
  [/\bcannot be had\b/, "not available"],
  [/\bmakes no sense\b|\bmeans nothing\b/, "is invalid, has no effect"],
  [/\bto give in\b|\bgives in\b/, "that is to be reset"],
  [/\bwhat (came|comes) of\b/, "the result"],
  [/\bget no further\b|\bgets no further\b/, "cannot reach"],
  [/\bbe it\b/, "whether"],
  [/\bhow things are\b/, "status"],
  [/\bwho has been\b|\bwhat was released\b/, "name the subject"],
  [/\bkeeps this host's clock right\b/, "time synchronisation"],
];

/** The original's own words, which scripts look for. */
const ORIGINAL: readonly RegExp[] = [
  / (blocked by|cut by) Weave NPC/,
  /^(Connection limit reached|Multiple connections to|Found unknown remote name|Cannot set unknown connection active)/,
  /^(Received (ring|range)|Token |Ring not|Entry |A ring of|Address |Unable to|Incompatible IP|IP allocation was seeded)/,
  /^(Delete: no addresses|Free: address|Peer name flavour|Bad encryption flag|Unable to decrypt|Default --ipalloc-range)/,
];

/** A capital, then small letters, that no proper name explains. */
const CAPITAL = /^(?!(Weave|Kubernetes|Docker|Podman|Debian|Linux|Go|ConfigMap|Ethernet)\b)[A-Z][a-z]+\b/;

const sentences = await allSentences();
const place = ({ file, line, text }: (typeof sentences)[number]) => `${file}:${line}: ${text}`;
const isOriginal = ({ text }: { text: string }) => ORIGINAL.some((pattern) => pattern.test(text));

test("there are sentences of every kind", () => {
  for (const kind of ["error", "log", "finding", "help", "page", "other"])
    expect(sentences.filter((each) => each.kind === kind).length).toBeGreaterThan(50);
});

/** A placeholder; written apart, for a linter takes it for a mistake. */
const $ = (expression: string) => ["$", "{", expression, "}"].join("");

test("strings are found wherever they stand", () => {
  const inner = `host(\`in ${$("zone")} there\`)`;
  const found = sentencesOf(
    "a.ts",
    [
      `if (a / 2 > /b 'c/.test(d)) throw new PeerError(\`no route to ${$(inner)}: ${$("e")}\` + '; do it');`,
      "// a comment isn't one",
      "this.#warn('slow', 'peer is slow', { peer });",
      "const x = { description: ok ? 'Show it' : 'Hide it now', other: 'two words' };",
    ].join("\n"),
  );
  expect(found.map(({ line, kind, text }) => `${line} ${kind} ${text}`).toSorted()).toEqual([
    "1 error in {zone} there",
    `1 error no route to {${inner}}: {e}; do it`,
    "3 log peer is slow",
    "4 help Hide it now",
    "4 help Show it",
    "4 other two words",
  ]);
});

test("errors, log lines and findings begin lower case", () => {
  const wrong = sentences.filter(
    (each) => ["error", "log", "finding"].includes(each.kind) && CAPITAL.test(each.text) && !isOriginal(each),
  );
  expect(wrong.map(place)).toEqual([]);
});

test("errors, log lines and findings have no full stop", () => {
  const wrong = sentences.filter(
    (each) =>
      ["error", "log", "finding"].includes(each.kind) && /[^.]\.$/.test(each.text) && !isOriginal(each),
  );
  expect(wrong.map(place)).toEqual([]);
});

describe("no sentence has a phrase that people of this field do not use", () => {
  for (const [pattern, better] of BANNED) {
    test(`${pattern.source} (${better})`, () => {
      expect(sentences.filter(({ text }) => pattern.test(text)).map(place)).toEqual([]);
    });
  }
});
