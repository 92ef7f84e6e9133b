// What answers other routers' questions: loaded with the first one, and with what it asks on this host.
import { afterEach, expect, spyOn, test } from "bun:test";
import { answerers } from "../../cmd/answerers.ts";
import { runtimeSockets } from "../../cmd/commands/target.ts";
import type { ApiClient } from "../../lib/api/client.ts";
import * as health from "../../lib/doctor/health.ts";
import type { Answerer } from "../../lib/mesh/ask.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import * as tracing from "../../lib/trace/question.ts";
import { VERSION } from "../../lib/version.ts";

const api: ApiClient = async () => expect.unreachable();
const PEER = nameFromNumber(2n);
let spies: { mockRestore(): void }[] = [];
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
});

test("each subject is answered by its part, which is made once, with the router's API and all runtimes", async () => {
  const made: unknown[][] = [];
  const part =
    (name: string) =>
    (...args: unknown[]) => {
      made.push([name, ...args]);
      const answer: Answerer = async (body, source) => [name, body, source];
      return answer as never;
    };
  spies = [
    spyOn(health, "healthAnswerer").mockImplementation(part("health")),
    spyOn(tracing, "traceAnswerer").mockImplementation(part("trace")),
  ];
  const all = answerers(api);
  expect([...all.keys()].sort()).toEqual(["doctor", "trace", "version"]);
  expect(made).toEqual([]);
  const ask = (subject: string, body: unknown) => all.get(subject)?.(body, PEER);
  expect(await ask("version", {})).toEqual({ version: VERSION });
  expect([await ask("trace", 1), await ask("trace", 2), await ask("doctor", 3)]).toEqual([
    ["trace", 1, PEER],
    ["trace", 2, PEER],
    ["health", 3, PEER],
  ]);
  expect(runtimeSockets().length).toBeGreaterThan(1);
  expect(made).toEqual([
    ["trace", api, runtimeSockets()],
    ["health", api],
  ]);
});
