// What launch says of peers, and how long it looks on: by a clock that the test moves.
import { describe, expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { launchedShape, launchedText, otherWarnings } from "../../lib/router/launched.ts";
import { awaitPeers, PEERS_MS, type Started } from "../../lib/router/started.ts";

type Target = Started["targets"][number];

const target = (State: Target["State"], more: Partial<Target> = {}): Target => ({
  ...{ Target: "host1", Address: "10.99.0.1:6783", State, Reason: "", Advice: "" },
  ...more,
});

const started = (...targets: Target[]): Started => ({
  name: "5e:3a:00:00:00:01",
  nickname: "host2",
  range: "10.32.0.0/12",
  overlay: "fast datapath: VXLAN and eBPF",
  encryption: true,
  targets,
});

/** Looks at a router in these states, then the last one for ever; returns how often, and when it ended. */
async function look(...states: readonly Started[]): Promise<{ looked: number; endedMs: number }> {
  const clock = new SimulatedClock();
  let looked = 0;
  let ended = false;
  const done = awaitPeers(() => states[Math.min(looked++, states.length - 1)] ?? started(), clock).then(
    () => {
      ended = true;
    },
  );
  while (!ended) {
    await Promise.resolve();
    await new Promise(setImmediate);
    if (!ended) clock.advance(5);
  }
  await done;
  return { looked, endedMs: clock.now() };
}

describe("the state of peers is told", () => {
  test("once every peer has an outcome", async () => {
    const settled = started(target("connected"), target("refused"), target("failed"), target("unresolved"));
    expect((await look(settled)).looked).toBe(1);
    expect(await look(started(target("connecting"), target("connected")), settled)).toEqual({
      looked: 2,
      endedMs: 10,
    });
  });

  test("after 1.5 s where one does not answer", async () => {
    const { looked, endedMs } = await look(started(target("connecting")));
    expect(endedMs).toBe(PEERS_MS);
    expect(looked).toBe(151);
    expect(PEERS_MS).toBeLessThan(2_000);
  });
});

test("the text has a line for each peer, and fits 80 columns", () => {
  const peer = { Peer: { Name: "5e:3a:00:00:00:02", NickName: "host1" } };
  const text = launchedText(
    launchedShape(
      started(
        target("connected", peer),
        target("refused", {
          Target: "10.99.0.3",
          Address: "10.99.0.3:6783",
          Reason: "no",
          Advice: "do this",
        }),
        target("failed", { Reason: "connection refused" }),
        target("connecting"),
        target("unresolved", { Target: "host4", Address: "", Reason: "ENOTFOUND" }),
        target("self", { Target: "10.99.0.2", Address: "10.99.0.2:6783" }),
      ),
      { pid: 1, log: "/run/weave/weave.log", warnings: [] },
    ),
  );
  expect(text.split("\n")).toEqual([
    "weave is running (pid 1, log /run/weave/weave.log)",
    "  name     5e:3a:00:00:00:01(host2)",
    "  range    10.32.0.0/12",
    "  overlay  fast datapath: VXLAN and eBPF; encrypted",
    "  peers    host1      connected to 5e:3a:00:00:00:02(host1) at 10.99.0.1:6783",
    "           10.99.0.3  refused: no",
    "                      do this",
    "           host1      no answer yet at 10.99.0.1:6783: connection refused; dialled until it answers",
    "           host1      no answer yet at 10.99.0.1:6783; dialled until it answers",
    "           host4      the name does not resolve yet: ENOTFOUND",
    "           10.99.0.2  this host itself",
  ]);
});

test("the text ends with what to do where peers are named and none is connected", () => {
  const last = (...targets: Parameters<typeof started>) =>
    launchedText(launchedShape(started(...targets), { pid: 1, log: "", warnings: [] }))
      .split("\n")
      .at(-1);
  const alone = "  not connected to any peer yet: see 'weave status connections'";
  const refused = target("refused", { Reason: "the passwords of the two hosts differ" });
  expect(last(refused, target("self"))).toBe(alone);
  expect(last(refused, target("connected"))).not.toBe(alone);
  expect(last(target("self"))).not.toBe(alone);
  expect(last()).not.toBe(alone);
});

test("what a peer calls itself cannot move the cursor", () => {
  const evil = target("connected", { Peer: { Name: "5e:3a:00:00:00:02", NickName: "\u001b[2Jx\n" } });
  const shape = launchedShape(started(evil), { pid: 1, log: "", warnings: [] });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  expect(launchedText(shape)).not.toMatch(/\u001b|x\n\)/);
});

describe("warnings", () => {
  const refused = target("refused", { Reason: "wrong password" });
  test.each([
    ["of a named peer", { target: "host1" }, []],
    ["of the host of a named peer, whichever end called", { address: "10.99.0.1:40112" }, []],
    ["of a peer that was not named", { address: "10.99.0.11:6783" }, ["bad"]],
    ["of no peer", {}, ["bad"]],
  ])("%s are said once", (_, about, expected) => {
    const warning = { warning: "bad", ...about };
    expect(otherWarnings([warning, warning], started(refused))).toEqual(expected);
    // Nothing else says it.
    expect(otherWarnings([warning], started(target("connecting")))).toEqual(["bad"]);
  });
});
