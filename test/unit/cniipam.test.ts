// A CNI ADD of which any step fails: the router holds what it held before, and the next ADD succeeds.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatCidr, parseCidr } from "../../lib/address/ipv4.ts";
import { type ApiClient, ApiError, NO_ANSWER } from "../../lib/api/client.ts";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { parseConfig } from "../../lib/cni/config.ts";
import { add, type Call, del } from "../../lib/cni/plugin.ts";
import { type Attachment, NoGatewayError, nearest } from "../../lib/host/attach.ts";
import type { ContainerWork } from "../../lib/host/containerwork.ts";
import { Allocator } from "../../lib/ipam/allocator.ts";
import { silentLog } from "../../lib/log/log.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { MemoryDisk } from "../support/allocators.ts";

const SUBNET = parseCidr("10.32.0.0/24");
const INPUT = JSON.stringify({ cniVersion: "1.0.0", name: "weave", type: "weave-net" });
const ENVIRONMENT = { containerId: "c1", netns: "/run/netns/c1", ifName: "eth0", path: [], args: new Map() };

let state: string;
const before = process.env["WEAVE_STATE_DIR"];
beforeAll(() => {
  state = mkdtempSync(join(tmpdir(), "weave-cniipam-"));
  process.env["WEAVE_STATE_DIR"] = state;
});
afterAll(() => {
  if (before === undefined) delete process.env["WEAVE_STATE_DIR"];
  else process.env["WEAVE_STATE_DIR"] = before;
  rmSync(state, { recursive: true });
});

/** A router's allocator behind its API, and a host that has a bridge; each call may fail, before or after it was done. */
function host(input = INPUT) {
  const name = nameFromNumber(1n);
  const allocator = new Allocator(
    {
      ourName: name,
      ourUid: 1n,
      ourNickName: "one",
      universe: SUBNET,
      seed: [name],
      observer: false,
      quorum: () => 1,
      isKnownPeer: () => false,
      reachablePeers: () => [],
    },
    {
      clock: new SimulatedClock(),
      random: seededRandom(1n),
      log: silentLog,
      store: new MemoryDisk().mount(),
    },
  );
  allocator.start({ unicast: () => false, broadcast: () => {}, neighbours: () => {} });
  let calls = 0;
  let failure: { readonly at: number; readonly done: boolean } | undefined;
  const step = async <T>(what: () => T | Promise<T>): Promise<T> => {
    const fails = ++calls === failure?.at;
    if (fails && !failure?.done) throw new ApiError(NO_ANSWER, "no answer");
    if (!fails) return what();
    await Promise.resolve()
      .then(what)
      .catch(() => {});
    throw new ApiError(NO_ANSWER, "no answer");
  };
  const texts = (id: string, attachment?: string) =>
    allocator
      .lookup(id, { start: SUBNET.address, end: SUBNET.address + 256 }, attachment)
      .map(({ address }) => `${address}`);
  const api: ApiClient = (method, path) =>
    step(async () => {
      const url = new URL(path, "http://x");
      const [, room, id = ""] = url.pathname.split("/").map(decodeURIComponent);
      const attachment = url.searchParams.get("attachment") ?? undefined;
      if (room === "expose" || room === "hostports") return "";
      if (room !== "ip") throw new Error(`unexpected ${method} ${path}`);
      if (method === "GET") return texts(id, attachment).join(" ");
      if (method === "POST") {
        const isContainer = url.searchParams.get("container") === "true";
        const address = await allocator.allocate(id, SUBNET, { isContainer, attachment });
        return `${[24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".")}/24`;
      }
      try {
        await allocator.delete(id, { attachment, detached: url.searchParams.get("detached") === "true" });
      } catch {
        throw new ApiError(400, "no addresses");
      }
      return "";
    });
  let attached = false;
  const work = {
    inspect: () => step(() => undefined),
    attach: ({ gateway }: Attachment) =>
      step(() => {
        if (gateway === "bridge" && !exposed()) throw new NoGatewayError("no address");
        attached = true;
        const macs = { hostMac: "02:00:00:00:00:01", mac: "02:00:00:00:00:02" };
        return { hostName: "veth", ...macs, mtu: 1376, gateway: parseCidr("10.32.0.1/24").address };
      }),
    detach: () =>
      step(() => {
        const was = attached;
        attached = false;
        return was;
      }),
  } as unknown as ContainerWork;
  const exposed = () => texts("weave:expose").length > 0;
  const call: Call = {
    environment: { command: "ADD", ...ENVIRONMENT },
    config: parseConfig(input),
    input,
    api,
    work,
  };
  const held = () =>
    new Map([...allocator.holders()].map(([id, { cidrs }]) => [id, cidrs.map((lease) => lease.address)]));
  const run = async (what: () => Promise<unknown>, fails?: typeof failure) => {
    calls = 0;
    failure = fails;
    const error: unknown = await what().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    failure = undefined;
    return { error, calls };
  };
  return { call, held, run, allocator, attached: () => attached };
}

describe.each([
  ["before it is done", false],
  ["after it was done", true],
])("an ADD of which a step fails %s", (_when, done) => {
  test("any: what was held is held, a DEL leaves nothing, and the next ADD succeeds", async () => {
    const { calls } = await (async () => {
      const { run, call } = host();
      return run(() => add(call));
    })();
    expect(calls).toBeGreaterThan(4);
    for (let at = 1; at <= calls; at++) {
      const { call, held, run } = host();
      expect((await run(() => add(call), { at, done })).error).toBeDefined();
      // As runtimes do.
      expect((await run(() => del(call))).error).toBeUndefined();
      expect(held().get("c1")).toBeUndefined();
      expect((await run(() => add(call))).error).toBeUndefined();
      expect(held().get("c1")?.length).toBe(1);
      expect(held().get("weave:expose")?.length).toBe(1);
    }
  });

  test("any, also of a second ADD: the first one's address stays, however often", async () => {
    for (let at = 1; at <= 3; at++) {
      const { call, held, run } = host();
      expect((await run(() => add(call))).error).toBeUndefined();
      const before = held();
      for (let again = 0; again < 2; again++) {
        expect((await run(() => add(call), { at, done })).error).toBeDefined();
        expect(held()).toEqual(before);
      }
    }
  });
});

test("an ADD that cannot forward host ports leaves no link and no address", async () => {
  const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }];
  const input = JSON.stringify({ ...JSON.parse(INPUT), runtimeConfig: { portMappings } });
  const { calls } = await (async () => {
    const { run, call } = host(input);
    return run(() => add(call));
  })();
  // The last step of one that succeeds.
  for (const done of [false, true]) {
    const { call, held, run, attached } = host(input);
    expect((await run(() => add(call), { at: calls, done })).error).toBeDefined();
    expect([attached(), held().get("c1")]).toEqual([false, undefined]);
  }
});

test("a DEL that cannot remove the link fails, and keeps the address", async () => {
  const { call, held, run, attached } = host();
  expect((await run(() => add(call))).error).toBeUndefined();
  // After the host ports.
  expect((await run(() => del(call), { at: 2, done: false })).error).toBeDefined();
  expect([attached(), held().get("c1")?.length]).toEqual([true, 1]);
  expect((await run(() => del(call))).error).toBeUndefined();
  expect([attached(), held().get("c1")]).toEqual([false, undefined]);
});

test("an ADD whose caller has gone meanwhile makes no link and keeps no address", async () => {
  const { call, held, run, attached } = host();
  const caller = new AbortController();
  const api: ApiClient = async (method, path, options) => {
    const answer = await call.api(method, path, options);
    if (method === "POST" && path.startsWith("/ip/c1")) caller.abort();
    return answer;
  };
  const { error } = await run(() => add({ ...call, api, caller: caller.signal }));
  expect(String(error)).toContain("the caller has gone");
  expect([attached(), held().get("c1")]).toEqual([false, undefined]);
});

test("an ADD forgets the release of a DEL that no router answered", async () => {
  const { call, run } = host();
  expect((await run(() => add(call))).error).toBeUndefined();
  const silent: ApiClient = () => Promise.reject(new ApiError(NO_ANSWER, "no answer"));
  expect((await run(() => del({ ...call, api: silent }))).error).toBeUndefined();
  expect(existsSync(join(state, "releases")) && readdirSync(join(state, "releases"))).toEqual([
    "weave%2Feth0%2Fc1",
  ]);
  expect((await run(() => add(call))).error).toBeUndefined();
  expect(readdirSync(join(state, "releases"))).toEqual([]);
});

test("the gateway is the host's address in the pod's own subnet, else any", () => {
  const gatewayWith = (...exposed: string[]) => {
    const gateway = nearest(exposed.map(parseCidr), [parseCidr("10.32.0.7/24")]);
    return gateway && formatCidr(gateway);
  };
  expect(gatewayWith("10.40.0.1/24", "10.32.0.1/24")).toBe("10.32.0.1/24");
  expect(gatewayWith("10.40.0.1/24")).toBe("10.40.0.1/24");
  expect(gatewayWith()).toBeUndefined();
});

test("an ADD that fails gives back what it got: without a DEL, too", async () => {
  const { call, held, run } = host();
  const { calls } = await run(() => add(call));
  const other = host();
  expect((await other.run(() => add(other.call), { at: calls, done: false })).error).toBeDefined();
  expect(other.held().get("c1")).toBeUndefined();
  expect(held().get("c1")?.length).toBe(1);
});

test("GC leaves what is the host's own, whatever the runtime lists", async () => {
  const { allocator, held } = host();
  await allocator.allocate("weave:expose", SUBNET, { attachment: "weave/eth0" });
  await allocator.allocate("10.32.0.9", SUBNET);
  await allocator.allocate("gone", SUBNET, { isContainer: true, attachment: "weave/eth0" });
  await allocator.allocate("kept", SUBNET, { isContainer: true, attachment: "weave/eth0" });
  await allocator.lifecycle.collect("weave", new Set(["kept/eth0", "/", "kept", ""]));
  expect([...held().keys()].sort()).toEqual(["10.32.0.9", "kept", "weave:expose"]);
  await allocator.lifecycle.collect("weave", new Set());
  expect([...held().keys()].sort()).toEqual(["10.32.0.9", "weave:expose"]);
});
