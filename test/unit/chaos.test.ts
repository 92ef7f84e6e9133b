// The judge of chaos runs: what its model lets happen and what not, and how a history is written down and made short.
import { describe, expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { missingIn } from "../chaos/checks/kept.ts";
import { isSound } from "../chaos/checks/logs.ts";
import { formatHistory, parseHistory } from "../chaos/history.ts";
import { type Container, firstModel, type Model, observed, withFault, withHost } from "../chaos/model.ts";
import { component, pairs, reach } from "../chaos/reach.ts";
import { shrink } from "../chaos/shrink.ts";
import { chanceOf } from "../chaos/step.ts";
import { chooseStep, repair, stepNamed } from "../chaos/table.ts";

const at = (host: number, role: Container["role"] = "open"): Container => ({
  id: `${role}${host}`,
  host,
  address: `10.32.0.${host}`,
  role,
});
const world = (...containers: Container[]): Model => observed({ ...firstModel(4, false), containers });
const cut = (model: Model, ...ways: [number, number][]): Model =>
  withFault(model, {
    step: "cut",
    args: {},
    kind: "network",
    hosts: [1, 2, 3, 4],
    drops: ways.map(([from, to]) => ({ from, to, permille: 1000 })),
  });

describe("who has to reach whom", () => {
  const [a, b, closed] = [at(1), at(2), at(3, "closed")];

  test("everybody, where nothing is wrong", () => {
    expect(pairs(world(a, b, closed), "must")).toHaveLength(6);
  });

  test("over others, where the path between two is cut one way", () => {
    const model = cut(world(a, b), [1, 2]);
    expect([...component(model, 1)].sort()).toEqual([1, 2, 3, 4]);
    expect(reach(model, a, b)).toBe("must");
  });

  test("nobody beyond a partition, or beyond a router that does not run", () => {
    const alone = cut(world(a, b), [1, 2], [1, 3], [1, 4]);
    expect(reach(alone, a, b)).toBe("may");
    const relay = withHost(cut(world(a, b), [1, 2], [1, 4]), 3, { router: "down" });
    expect(reach(relay, a, b)).toBe("may");
  });

  test("never whom a policy denies, once its controllers have seen it, whether they run or not", () => {
    const asked: Model = { ...world(a, closed), policies: ["close"] };
    expect(reach(asked, a, closed)).toBe("may");
    const inForce = observed(asked);
    expect(reach(inForce, a, closed)).toBe("never");
    expect(reach(inForce, closed, a)).toBe("must");
    expect(reach(withHost(inForce, 3, { npc: "down" }), a, closed)).toBe("never");
  });

  test("not yet, where the end that would enforce a policy has not seen it, whatever the other end enforced before", () => {
    const [quiet, guarded] = [at(1, "quiet"), at(2, "guarded")];
    const guard = observed({ ...world(quiet, guarded), policies: ["guard"] });
    expect(reach(guard, quiet, guarded)).toBe("never");
    const down = withHost(guard, 1, { npc: "down" });
    const hush = observed({ ...down, policies: ["hush"] });
    expect(reach(hush, quiet, guarded)).toBe("may");
    expect(reach(observed(withHost(hush, 1, { npc: "running" })), quiet, guarded)).toBe("never");
  });

  test("not yet, where a controller that does not run has not seen a container", () => {
    const model = withHost(world(a), 1, { npc: "down" });
    const added = { ...model, containers: [...model.containers, b] };
    expect(reach(observed(added), a, b)).toBe("may");
    expect(reach(observed(withHost(added, 1, { npc: "running" })), a, b)).toBe("must");
  });
});

describe("choosing steps", () => {
  /** Takes steps without a world. */
  function histories(seed: bigint, count: number) {
    const chance = chanceOf(seededRandom(seed));
    let model = firstModel(5, false);
    const names: string[] = [];
    for (let i = 0; i < count; i++) {
      const { step, args } = chooseStep(model, chance);
      names.push(`${step} ${JSON.stringify(args)}`);
      model = observed(stepNamed(step).after(model, args, { address: `10.32.0.${i}` }));
    }
    return { model, names };
  }

  test("a seed repeats them", () => {
    expect(histories(7n, 200).names).toEqual(histories(7n, 200).names);
    expect(histories(7n, 200).names).not.toEqual(histories(8n, 200).names);
  });

  test("all that is wrong can be ended", () => {
    for (let seed = 0n; seed < 50n; seed++) {
      let { model } = histories(seed, 60);
      for (let taken = repair(model); taken; taken = repair(model)) {
        const step = stepNamed(taken.step);
        expect(step.possible(model, taken.args)).toBe(true);
        model = observed(step.after(model, taken.args, {}));
      }
      expect(model.faults).toEqual([]);
      expect(model.hosts.every(({ router, npc }) => router === "running" && npc === "running")).toBe(true);
    }
  });
});

test("a history survives being written and read", () => {
  const history = {
    head: { seed: 7, hosts: 4, encrypted: true },
    steps: [{ step: "kill", args: { host: 2, program: "router" } }],
  };
  expect(parseHistory(formatHistory(history))).toEqual(history);
  expect(() => parseHistory('{"seed":1}\n')).toThrow();
});

describe("shrinking", () => {
  test("leaves the steps that a failure needs, in order", async () => {
    const steps = Array.from({ length: 50 }, (_, i) => i);
    let tries = 0;
    const fails = async (part: readonly number[]) => {
      tries++;
      return part.includes(3) && part.indexOf(17) >= 0 && part.indexOf(17) < part.indexOf(41);
    };
    expect(await shrink(steps, fails)).toEqual([3, 17, 41]);
    expect(tries).toBeLessThan(100);
  });

  test("ends when its time is over, with the shortest so far", async () => {
    let left = 3;
    const shorter = await shrink(
      [1, 2, 3, 4, 5, 6, 7, 8],
      async (part) => part.includes(1),
      () => left-- > 0,
    );
    expect(shorter.length).toBeLessThan(8);
    expect(shorter).toContain(1);
  });
});

test("lines of a log are sound, or not", () => {
  expect(isSound("INFO: 2026/11/26 13:35:01.201 attempting connection component=mesh")).toBe(true);
  for (const line of [
    "    at receive (lib/mesh/connection.ts:12:3)",
    "ERRO: 2026/11/26 13:35:01.201 unexpected error: boom",
    "panic: main thread",
  ])
    expect(isSound(line)).toBe(false);
});

test("missing state is state of the programs that was there before and is not there now", () => {
  const before = [
    "links: weave.mtu 1376",
    "sysctls: ipv4/conf/weave/arp_announce:1",
    "routes: 10.99.0.0/24.dev eth0",
    "nftables: table ip filter {",
    "nftables: table ip weave { chain forward {",
    "nftables: table inet weave-npc { chain forward {",
  ];
  expect(missingIn(before, [...before, "links: vethwe1.mtu 1376"])).toEqual([]);
  expect(missingIn(before, ["links: weave.mtu 1200"])).toEqual(before.toSpliced(2, 2));
});
