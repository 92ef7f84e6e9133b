// What of this host's network has changed, as far as a mesh is concerned.
import { expect, test } from "bun:test";
import { type UnderlayView, underlayChange } from "../../lib/router/underlay.ts";

const view = (addresses: string[], paths: [string, string][] = []): UnderlayView => ({
  addresses: new Set(addresses),
  paths: new Map(paths),
});

test.each([
  ["nothing", view(["10.0.0.1"], [["10.0.0.1 10.0.0.2", "2 undefined"]]), view(["10.0.0.1"]), undefined],
  ["an address for another", view(["10.0.0.1"]), view(["10.0.0.9"]), "lost 10.0.0.1; got 10.0.0.9"],
  [
    "the link of a path",
    view([], [["10.0.0.1 10.0.0.2", "2 undefined"]]),
    view([], [["10.0.0.1 10.0.0.2", "3 undefined"]]),
    "paths to 1 peers changed",
  ],
  ["a path that is new", view([]), view([], [["10.0.0.1 10.0.0.2", "2 undefined"]]), undefined],
  [
    "a path that is gone",
    view([], [["10.0.0.2", "2 1"]]),
    view([], [["10.0.0.2", "none"]]),
    "paths to 1 peers changed",
  ],
])("%s", (_what, before, after, change) => {
  expect(underlayChange(before, after)).toBe(change);
});
