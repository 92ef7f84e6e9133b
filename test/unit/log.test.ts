// Logs: what is repeated without end is written once a minute.
import { expect, test } from "bun:test";
import { limitedWarnings } from "../../lib/log/limited.ts";

test("a warning of one kind is logged at most once a minute, and says how many were left out", () => {
  let now = 0;
  const lines: string[] = [];
  const warn = limitedWarnings({ warning: (text) => lines.push(text) }, () => now);
  for (; now < 60_000; now += 1_000) warn("a", "refused");
  warn("b", "another");
  expect(lines).toEqual(["refused", "another"]);
  warn("a", "refused");
  expect(lines.slice(2)).toEqual(["refused (59 more since the last such line)"]);
  warn("a", "refused");
  expect(lines.length).toBe(3);
});
