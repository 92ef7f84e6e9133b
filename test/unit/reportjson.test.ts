// The report as JSON: peers choose their nicknames, and no text of theirs changes what is around it.
import { expect, test } from "bun:test";
import { reportJson } from "../../lib/api/reportjson.ts";
import { printableLines } from "../../lib/log/printable.ts";
import { fc } from "../support/fastcheck.ts";
import { SEED } from "../support/seed.ts";

/** Any code point except surrogates. fast-check's "binary" unit is the same, but takes 1 s to prepare. */
const SURROGATES = { first: 0xd800, count: 0x800 };
const SCALAR = fc
  .nat(0x10ffff - SURROGATES.count)
  .map((n) => String.fromCodePoint(n < SURROGATES.first ? n : n + SURROGATES.count));

test("numbers of 64 bits are written in full", () => {
  expect(reportJson({ UID: 18_446_744_073_709_551_615n }, 0)).toBe('{"UID":18446744073709551615}');
});

test.each(["\u0000123", 'x"\u00001', '\\"\u00001'])("nickname %j stays a text", (NickName) => {
  const report = { NickName, [NickName]: 1, UID: 2n };
  expect(JSON.parse(reportJson(report))).toEqual({ NickName, [NickName]: 1, UID: 2 });
});

test("any text comes back as it was", () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: SCALAR })), (texts) => {
      expect(JSON.parse(reportJson({ texts, UID: 1n }, 0)).texts).toEqual(texts);
    }),
    { seed: SEED },
  );
});

test("lines for a terminal keep their ends, and nothing else that is not printed", () => {
  expect(printableLines("a\tb\n\u001b[2J\u009b1m\u061c\n")).toBe("a\tb\n\\x1b[2J\\x9b1m\\u61c\n");
});
