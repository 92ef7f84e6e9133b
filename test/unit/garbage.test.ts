// Garbage of messages is collected early where a router asks for that.
import * as jsc from "bun:jsc";
import { expect, spyOn, test } from "bun:test";
import { collectEarly, noteGarbage } from "../../lib/bytes/garbage.ts";

const MB = 1024 * 1024;

test("garbage is collected at 48 MB, from when that is asked for until it is stopped", () => {
  const collected = spyOn(jsc, "fullGC").mockImplementation(() => 0);
  const collections = () => collected.mock.calls.length;
  try {
    noteGarbage(1_000 * MB);
    const collecting = collectEarly();
    noteGarbage(48 * MB - 1);
    expect(collections()).toBe(0);
    noteGarbage(1);
    expect(collections()).toBe(1);
    noteGarbage(47 * MB);
    expect(collections()).toBe(1);
    noteGarbage(100 * MB);
    expect(collections()).toBe(2);
    collecting.stop();
    noteGarbage(1_000 * MB);
    expect(collections()).toBe(2);
  } finally {
    collected.mockRestore();
  }
});
