// The MTU of the network on this host: what links get, what containers are told, and when.
import { describe, expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import { AttributeEncoder } from "../../lib/netlink/attributes.ts";
import { encodeKind, encodeSettings, ifinfomsg } from "../../lib/netlink/link/message.ts";
import type { RouterContext } from "../../lib/router/context.ts";
import { RouterMtu, warnOfMtu } from "../../lib/router/hostmtu.ts";
import { Scope } from "../../lib/sys/scope.ts";
import { scriptedSocket } from "../support/rtsocket.ts";

interface Before {
  /** --mtu; auto unless given. */
  readonly fixed?: number;
  /** What was agreed in the last run. */
  readonly kept?: number;
  readonly bridge?: { readonly mtu: number; readonly alias?: string };
}

/** A router on a host with this bridge; `said` is what its parts hear, in order. */
function router({ fixed, kept, bridge }: Before) {
  const encoded = () => {
    const encoder = new AttributeEncoder().raw(ifinfomsg(7));
    encodeSettings(encoder, {
      name: "weave",
      mtu: bridge?.mtu ?? 0,
      ...(bridge?.alias && { alias: bridge.alias }),
    });
    return encodeKind(encoder, "bridge").done();
  };
  const { nl } = scriptedSocket(() => (bridge ? [encoded()] : []));
  const said: string[] = [];
  const state = { kept, refuses: false, busy: false };
  const errors: string[] = [];
  const clock = new SimulatedClock();
  const scope = new Scope(() => {});
  const mtu = new RouterMtu({
    clock,
    scope,
    options: { mtu: fixed ?? "auto" },
    route: nl,
    kept: {
      mtu: {
        get: () => state.kept,
        set(value: number) {
          if (state.refuses) throw new Error("disk full");
          state.kept = value;
        },
      },
    },
    name: 1n,
    log: { ...silentLog, with: () => ({ ...silentLog, error: (text: string) => errors.push(text) }) },
  } as unknown as RouterContext);
  mtu.follow({
    check: () => said.push("check"),
    reconcile: () => said.push("reconcile"),
    raised(from, to) {
      said.push(`raised ${from} ${to}`);
      let pending = true;
      return () => {
        if (pending) said.push("all raised");
        pending = false;
      };
    },
  });
  const work = {
    applyMtu: async ({
      from,
      link,
      network,
    }: {
      from: number;
      link: number;
      network: number | undefined;
    }) => {
      if (state.busy) throw new Error("busy");
      said.push(`links ${from} -> ${link}, network ${network}`);
    },
  };
  return { mtu, clock, scope, said, state, errors, start: () => mtu.start(work), take: () => said.splice(0) };
}

/** Let what is under way come to its end. */
const settled = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

describe("a router", () => {
  test.each<[string, Before, { link: number; told?: number; agreed?: number }]>([
    ["that is new", {}, { link: 1376 }],
    ["that agreed on less", { kept: 1300 }, { link: 1300, agreed: 1300 }],
    [
      "that agreed on less than its bridge has",
      { kept: 1300, bridge: { mtu: 1450 } },
      { link: 1450, told: 1300, agreed: 1300 },
    ],
    [
      "that agreed on more than its bridge has",
      { kept: 8900, bridge: { mtu: 1376 } },
      { link: 8900, agreed: 8900 },
    ],
    ["with a bridge of the most that counts", { bridge: { mtu: 9600 } }, { link: 9600, told: 1376 }],
    ["with a bridge of one byte more, which counts as none", { bridge: { mtu: 9601 } }, { link: 1376 }],
    ["with a bridge without ports, whose MTU means nothing", { bridge: { mtu: 65_535 } }, { link: 1376 }],
    [
      "whose MTU is fixed, whatever was before",
      { fixed: 1200, kept: 1300, bridge: { mtu: 1450 } },
      { link: 1200, agreed: 1200 },
    ],
  ])("%s", (_what, before, expected) => {
    const { mtu } = router(before);
    expect({ link: mtu.link, told: mtu.told, agreed: mtu.agreed }).toEqual({
      link: expected.link,
      told: expected.told,
      agreed: expected.agreed,
    });
  });
});

describe("containers are told at the start", () => {
  test.each<[string, Before, string[]]>([
    ["nothing where there were none", {}, []],
    [
      "of links that grow",
      { kept: 8900, bridge: { mtu: 1376 } },
      ["raised 1376 8900", "reconcile", "links 1376 -> 8900, network undefined", "all raised"],
    ],
    [
      "again, as the last run may not have told all",
      { kept: 1300, bridge: { mtu: 1450, alias: "network mtu 1300" } },
      ["links 1450 -> 1450, network 1300"],
    ],
    [
      "that what they were told no longer counts",
      { fixed: 1450, bridge: { mtu: 1450, alias: "network mtu 1300" } },
      ["links 1450 -> 1450, network undefined"],
    ],
    ["nothing of a fixed MTU above that of their links", { fixed: 1450, bridge: { mtu: 1376 } }, []],
    ["nothing of a fixed MTU below that of their links", { fixed: 1300, bridge: { mtu: 1376 } }, []],
    ["nothing of a fixed MTU that nobody was told of", { fixed: 1450, bridge: { mtu: 1450 } }, []],
  ])("%s", async (_what, before, expected) => {
    const { start, said } = router(before);
    await start();
    expect(said).toEqual(expected);
  });
});

test("links take more before the network carries it; what is no more changes nothing", async () => {
  const { mtu, start, take } = router({});
  await start();
  await mtu.accept(1376);
  expect([take(), mtu.link]).toEqual([[], 1376]);
  await mtu.accept(1450);
  expect(take()).toEqual([
    // Foreign changes are repaired before the desired state changes.
    "check",
    "raised 1376 1450",
    "reconcile",
    "links 1376 -> 1450, network 1376",
    "all raised",
  ]);
  mtu.changed(1450);
  expect(take()).toEqual(["check", "reconcile", "links 1450 -> 1450, network undefined"]);
  mtu.changed(1300);
  expect(take()).toEqual(["check", "reconcile", "links 1450 -> 1450, network 1300"]);
});

test("changes before containers can be told are told at the start, from the MTU that links have had first", async () => {
  const { mtu, start, take } = router({});
  await mtu.accept(1450);
  await mtu.accept(1500);
  mtu.changed(1480);
  expect(take()).toEqual([
    ...["check", "raised 1376 1450", "all raised", "reconcile"],
    ...["check", "raised 1450 1500", "all raised", "reconcile"],
    "check",
    "reconcile",
  ]);
  await start();
  expect(take()).toEqual(["raised 1376 1500", "reconcile", "links 1376 -> 1500, network 1480", "all raised"]);
  // That is done; the next change begins with what links have now.
  await mtu.accept(1600);
  expect(take()).toEqual([
    "check",
    "raised 1500 1600",
    "reconcile",
    "links 1500 -> 1600, network 1480",
    "all raised",
  ]);
});

test("containers that could not be told are told later, from each MTU that their links may have", async () => {
  const { mtu, clock, state, errors, start, take } = router({});
  await start();
  state.busy = true;
  expect(await mtu.accept(1450).catch((error: Error) => error.message)).toBe("busy");
  expect(await mtu.accept(1500).catch((error: Error) => error.message)).toBe("busy");
  // Links do not accept it before it was applied.
  expect(await mtu.accept(1500).catch((error: Error) => error.message)).toBe("busy");
  mtu.changed(1400);
  await settled();
  expect(errors).toEqual(["cannot set the MTU: busy; trying again"]);
  take();
  state.busy = false;
  clock.advance(5_000);
  await settled();
  expect(take()).toEqual([
    "reconcile",
    ...["links 1376 -> 1500, network 1400", "links 1450 -> 1500, network 1400"],
    "links 1500 -> 1500, network 1400",
  ]);
  clock.advance(60_000);
  await mtu.accept(1500);
  expect([take(), errors.length]).toEqual([[], 1]);
});

test("a router that has ended tells nobody any more", async () => {
  const { mtu, clock, scope, state, start, take } = router({});
  await start();
  state.busy = true;
  mtu.changed(1300);
  await settled();
  await scope.end();
  take();
  state.busy = false;
  clock.advance(60_000);
  await settled();
  expect(take()).toEqual([]);
});

test("the bridge bears our alias once there was something to tell, and an empty one after that", () => {
  const { mtu } = router({});
  expect(mtu.alias).toBeUndefined();
  mtu.changed(1300);
  expect(mtu.alias).toBe("network mtu 1300");
  mtu.changed(1376);
  expect(mtu.alias).toBe("");
  expect(router({ fixed: 1376, bridge: { mtu: 1376, alias: "network mtu 1300" } }).mtu.alias).toBe("");
});

test("an MTU that cannot be kept counts all the same", () => {
  const { mtu, state, errors } = router({});
  state.refuses = true;
  mtu.changed(1300);
  expect([mtu.told, state.kept, errors]).toEqual([1300, undefined, ["disk full"]]);
  state.refuses = false;
  mtu.changed(1310);
  expect(state.kept).toBe(1310);
});

test("a configuration that wants more than links have is warned of", async () => {
  const warned: string[] = [];
  const attach = async () => ({ mtu: 1376 }) as never;
  const work = warnOfMtu({ attach } as never, (_kind, text) => warned.push(text));
  for (const mtu of [undefined, 1300, 1376, 1377]) await work.attach({ mtu } as never);
  expect(warned).toEqual(["the CNI configuration wants an MTU of 1377: links have 1376; leave it out there"]);
});
