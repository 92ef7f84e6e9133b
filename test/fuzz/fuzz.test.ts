// Every decoder of the fuzzer, with some inputs by the run's seed and those that once were findings.
import { describe, expect, test } from "bun:test";
import { threadMs } from "../support/clocks.ts";
import { SEED } from "../support/seed.ts";
import { unhex } from "../support/vectors.ts";
import type { Chance } from "./chance.ts";
import { fuzz } from "./loop.ts";
import { mutateJson } from "./mutatejson.ts";
import { faultOf } from "./outcome.ts";
import regressions from "./regressions.json";
import { type Decoder, encoded } from "./target.ts";
import { TARGETS } from "./targets.ts";

const INPUTS = 300;
const FOR_MS = 60;

test.each(TARGETS.map((target) => [target.name, target] as const))("%s", async (_name, { open }) => {
  const decoder = await open();
  const bounds = { seed: SEED, inputs: INPUTS, forMs: FOR_MS, growth: false };
  const { accepted, findings } = await fuzz(decoder, bounds).finally(() => decoder.close?.());
  expect(findings.map(({ kind, what, input }) => `${kind}: ${what}: ${input.toHex()}`)).toEqual([]);
  expect(accepted).toBeGreaterThan(0);
});

test.each(regressions)("$target: $what", async ({ target, hex }) => {
  const decoder = await TARGETS.find(({ name }) => name === target)?.open();
  if (!decoder) throw new Error(`no target is called ${target}`);
  const fault = await faultOf(decoder, unhex(hex));
  decoder.close?.();
  expect(fault).toBeUndefined();
});

describe("the fuzzer", () => {
  const finds = async (decoder: Omit<Decoder, "seeds">, inputs = 2_000) =>
    (await fuzz({ seeds: encoded("key=12"), ...decoder }, { seed: 7, inputs })).findings;

  test("finds an error that is no refusal, and shortens its input", async () => {
    const run = (input: Uint8Array) => {
      if (input.includes(0x80)) throw new TypeError("no");
      if (input.length === 0) throw new RangeError("empty");
    };
    const found = await finds({ run, refuses: ["RangeError"] });
    expect(found.map(({ kind, what, input }) => [kind, what, input.toHex()])).toEqual([
      ["error", "TypeError: no", "80"],
    ]);
  });

  test("finds output out of proportion", async () => {
    const [found] = await finds({ run: ([first = 0]) => "x".repeat(first === 0xff ? 2 ** 20 : 1) });
    expect(found).toMatchObject({ kind: "output", input: Uint8Array.of(0xff) });
  });

  test("finds what takes too long of a processor; waiting for one is no fault", async () => {
    const busy = (ms: number) => {
      const end = threadMs() + ms;
      while (threadMs() < end);
    };
    const slow = (wait: (ms: number) => void) =>
      finds({ limitMs: 5, run: ([first = 0]) => first > 0x7f && wait(10) }, 50);
    expect(await slow(busy)).toMatchObject([{ kind: "slow" }]);
    expect(await slow(Bun.sleepSync)).toEqual([]);
  });

  test("is the same for a seed", async () => {
    const inputs = async () => {
      const seen: string[] = [];
      const decoder = { seeds: encoded("a=1", "b"), run: (input: Uint8Array) => input.length };
      await fuzz(decoder, { seed: 3, inputs: 100, growth: false, next: (input) => seen.push(input.toHex()) });
      return seen;
    };
    expect(await inputs()).toEqual(await inputs());
  });

  test("changes JSON into JSON", () => {
    let count = 0;
    const chance: Chance = {
      below: (bound) => count++ % bound,
      pick: (list) => list[count++ % list.length] as never,
    };
    const before = encoded('{"a":[1,{"b":"x"}],"c":null}')[0] ?? new Uint8Array();
    const texts = Array.from({ length: 200 }, () => Buffer.from(mutateJson(before, chance)).toString());
    for (const text of texts) expect(() => JSON.parse(text)).not.toThrow();
    expect(new Set(texts).size).toBeGreaterThan(20);
  });
});
