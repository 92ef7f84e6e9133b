// Kinds of failures: what exit codes and --json tell apart.
import { expect, test } from "bun:test";
import { UsageError } from "../../cmd/arguments.ts";
import { ApiError, RouterDownError, RouterSilentError } from "../../lib/api/client.ts";
import { AddonError } from "../../lib/deploy/addon.ts";
import { AgentNameError } from "../../lib/deploy/mesos.ts";
import { OptionError } from "../../lib/router/options.ts";
import { StoreError } from "../../lib/store/error.ts";
import { EXIT_CODES, failureOf } from "../../lib/sys/failure.ts";
import { NotRootError } from "../../lib/sys/rights.ts";

test.each([
  [new UsageError("x"), "usage", 2],
  [new OptionError("x"), "usage", 2],
  [new AddonError("x"), "usage", 2],
  [new AgentNameError("x"), "usage", 2],
  [new NotRootError(), "not-root", 1],
  [new RouterDownError("x"), "not-running", 1],
  [new RouterSilentError("x", { stopped: 7 }), "no-answer", 1],
  [new ApiError(400, "x"), "refused", 1],
  [new StoreError("disk", "x"), "state-file", 3],
  [new Error("x"), "failed", 1],
  [Object.assign(new Error("x"), { failure: "toString" }), "failed", 1],
  ["x", "failed", 1],
] as const)("%p is of kind %s", (error, kind, code) => {
  expect(failureOf(error)).toBe(kind);
  expect(EXIT_CODES[failureOf(error)]).toBe(code);
});
