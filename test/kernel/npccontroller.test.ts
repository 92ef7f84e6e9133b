// The policy controller in this process, with an API server that is the test, in a network namespace of its own: what it says
// of itself, and that it goes on after what it cannot read.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { closeSync, openSync, readFileSync } from "node:fs";
import { sysctlGet, sysctlSet } from "../../lib/host/sysctl.ts";
import { type KubeClient, KubeError, type WatchEvent } from "../../lib/kube/client.ts";
import { logTo } from "../../lib/log/log.ts";
import { watchPackets } from "../../lib/netlink/nflog.ts";
import { tableDelete, tableList } from "../../lib/netlink/nftables/table.ts";
import * as watches from "../../lib/netlink/nftables/watch.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { COLLECTIONS, type Controller, startController } from "../../lib/npc/controller.ts";
import { NFLOG_GROUP, TABLE } from "../../lib/npc/tables.ts";
import { inNetns, inNewNetns, OWN_NETNS } from "../../lib/sys/netns.ts";
import { baseCluster, NODE } from "../support/conformance.ts";
import { eventually } from "../support/hosts.ts";
import { isRoot } from "../support/newnetns.ts";
import { simulateSystemClock } from "../support/systemclock.ts";

let time: ReturnType<typeof simulateSystemClock>;
let ends: (() => void)[];
describe.if(isRoot)("the policy controller", () => {
  beforeEach(() => {
    time = simulateSystemClock();
    ends = [];
  });
  afterEach(() => {
    for (const end of ends.reverse()) end();
    time[Symbol.dispose]();
  });

  const policy = (name: string, spec: object = { podSelector: {}, ingress: [] }) => ({
    metadata: { namespace: "x", name },
    spec,
  });
  const BROKEN = { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: "none" } }] }] };

  const pods = baseCluster()
    .map(({ object }) => object)
    .flatMap((each) => (each.kind === "Pod" ? [each.object] : []));

  /** An API server with the pods of the conformance tests, and these policies; `tell` sends an event of a policy. */
  function server(policies: readonly unknown[]) {
    const waiting: ((event: WatchEvent) => void)[] = [];
    const items: Record<string, readonly unknown[]> = {
      [COLLECTIONS.Namespace]: ["x", "y", "z"].map((name) => ({ metadata: { name } })),
      [COLLECTIONS.Pod]: pods.map(({ namespace, name }, i) => ({
        metadata: { namespace, name },
        spec: { nodeName: NODE },
        status: { phase: "Running", podIP: `10.32.1.${i + 1}`, podIPs: [{ ip: `10.32.1.${i + 1}` }] },
      })),
      [COLLECTIONS.NetworkPolicy]: policies,
    };
    const client = {
      list: async (path: string) => ({ items: items[path] ?? [], resourceVersion: "1" }),
      async *watch(path: string) {
        for (;;) {
          const event = await new Promise<WatchEvent>((resolve) => {
            if (path === COLLECTIONS.NetworkPolicy) waiting.push(resolve);
          });
          yield event;
        }
      },
      write: async () => {
        throw new KubeError("no", 404);
      },
      get: async () => ({}),
    };
    const tell = (type: "ADDED" | "DELETED", object: unknown) =>
      waiting.shift()?.({ type, object, resourceVersion: "2" } as WatchEvent);
    return { client: client as unknown as KubeClient, tell };
  }

  /** Starts a controller in a new namespace; `inside` runs something there before. */
  function controller(policies: readonly unknown[] = [], inside: () => void = () => {}) {
    const lines: string[] = [];
    const log = logTo((level, text) => lines.push(`${level}: ${text}`));
    const { client, tell } = server(policies);
    const config = { node: NODE, legacy: false, denyUnknown: true, allowMulticast: true };
    const nf = { socket: undefined as NetlinkSocket | undefined };
    let home = -1;
    const npc: Controller = inNewNetns(() => {
      home = openSync(OWN_NETNS, "r");
      inside();
      nf.socket = new NetlinkSocket(NETLINK_NETFILTER);
      return startController(config, client, log);
    });
    ends.push(
      () => closeSync(home),
      () => nf.socket?.close(),
      () => npc.stop(),
    );
    /** Lets time pass in the controller's namespace: what begins later begins there. */
    const passThere = (ms: number) => inNetns(`/proc/self/fd/${home}`, () => time.clock.advance(ms));
    const inSync = async () => {
      for (let i = 0; i < 50 && !npc.inSync; i++) await time.pass(10);
      expect(npc.inSync).toBe(true);
    };
    const metric = async (name: string) =>
      new RegExp(`^weavenpc_${name}(?:\\{.*\\})? (\\S+)$`, "m").exec(
        await npc.metrics.registry.metrics(),
      )?.[1];
    return {
      npc,
      lines,
      tell,
      inSync,
      metric,
      passThere,
      home: () => home,
      nf: () => nf.socket ?? expect.unreachable(),
    };
  }

  describe("the state of the controller", () => {
    test("is that nothing is in force before all was listed, and then how many policies", async () => {
      const { npc, inSync, nf } = controller([policy("a"), policy("b")]);
      expect([npc.inSync, npc.status()]).toEqual([
        false,
        expect.stringContaining("       Policies: not in force yet\n") as never,
      ]);
      await inSync();
      expect(npc.status()).toBe(
        ["        Service: weave-npc", `           Node: ${NODE}`, "       Policies: 2 in force", ""].join(
          "\n",
        ),
      );
      expect(npc.view()).toMatchObject({ node: NODE, inSync: true, policies: 2, blocked: {} });
      expect(tableList(nf(), "inet")).toEqual([TABLE.name]);
    });

    test("names 20 objects that cannot be read, and counts the others; a mended one goes", async () => {
      const { npc, inSync, tell } = controller(Array.from({ length: 23 }, (_, i) => policy(`p${i}`, BROKEN)));
      await inSync();
      const unreadable = () =>
        npc
          .status()
          .split("\n")
          .filter((line) => line.startsWith("     Unreadable: "));
      expect([unreadable().length, unreadable().at(-1)]).toEqual([21, "     Unreadable: 3 more objects"]);
      for (let i = 0; i < 3; i++) {
        tell("DELETED", policy(`p${i}`, BROKEN));
        await time.pass(10);
      }
      expect([unreadable().length, unreadable().some((line) => line.includes("more"))]).toEqual([20, false]);
    });

    test("tells whether bridged packets are filtered", async () => {
      if (sysctlGet("net/bridge/bridge-nf-call-iptables") === undefined) return;
      const { metric } = controller([], () => sysctlSet("net/bridge/bridge-nf-call-iptables", "1"));
      expect(await metric("bridged_traffic_filtered")).toBe("1");
    });

    test("an object that cannot be told from others is counted, and the rest is in force", async () => {
      const { inSync, lines, metric, npc } = controller([{ metadata: {} }, policy("a")]);
      await inSync();
      expect(npc.view().policies).toBe(1);
      expect(await metric("policy_enforcement_errors")).toBe("1");
      expect(lines.filter((line) => line.includes("ignoring an object")).length).toBe(1);
    });
  });

  test("a change by the API server is in force within 10 ms", async () => {
    const { npc, inSync, tell } = controller();
    await inSync();
    tell("ADDED", policy("a"));
    await time.pass(10);
    expect(npc.view().policies).toBe(1);
    const [ip = ""] = Object.keys(npc.view().pods);
    expect(npc.explain("10.32.1.5", ip, "TCP", 80).verdict).toBe("deny");
    expect(() => npc.explain("nobody/here", ip, "TCP", 80)).toThrow("nobody/here");
  });

  test("rules that another program removes are put back, and counted", async () => {
    const { inSync, nf, lines, metric } = controller([policy("a")]);
    await inSync();
    tableDelete(nf(), TABLE);
    await eventually(
      "the table is there again",
      async () => {
        await time.pass(100);
        return tableList(nf(), "inet");
      },
      (tables) => tables.includes(TABLE.name),
    );
    expect(await metric("repairs_total")).toBe("1");
    expect(lines.some((line) => line.includes("changed our nftables table weave-npc; repairing it"))).toBe(
      true,
    );
  });

  test("rules that are removed while notifications are lost are put back", async () => {
    using watch = spyOn(watches, "watchTables").mockImplementation(() => ({ stop() {} }) as never);
    const { inSync, nf } = controller([policy("a")]);
    await inSync();
    const [, , listener] = watch.mock.calls[0] ?? expect.unreachable();
    tableDelete(nf(), TABLE);
    listener.lost();
    await eventually(
      "the table is there again",
      async () => {
        await time.pass(100);
        return tableList(nf(), "inet");
      },
      (tables) => tables.includes(TABLE.name),
    );
  });

  test("blocked connections are read once nobody else reads them, which is tried every 5 s", async () => {
    let other: { stop(): void } | undefined;
    const listener = { packet() {}, lost() {}, failed() {} };
    const { lines, passThere, home } = controller([], () => {
      other = watchPackets(NFLOG_GROUP, listener);
    });
    const failures = () =>
      lines.filter((line) => line.includes("cannot read blocked connections; trying again"));
    /** Groups that are read there, by the kernel. */
    const read = () =>
      inNetns(`/proc/self/fd/${home()}`, () =>
        readFileSync("/proc/thread-self/net/netfilter/nfnetlink_log", "utf8")
          .split("\n")
          .flatMap((line) => (line === "" ? [] : Number(line.trim().split(/\s+/)[0]))),
      );
    await eventually("it is refused", failures, (found) => found.length === 1);
    passThere(4_999);
    await Bun.sleep(20);
    expect(failures().length).toBe(1);
    passThere(1);
    await eventually("it is refused again", failures, (found) => found.length === 2);
    expect(read()).toEqual([NFLOG_GROUP]);
    other?.stop();
    await eventually("nobody reads them", read, (groups) => groups.length === 0);
    passThere(5_000);
    expect(read()).toEqual([NFLOG_GROUP]);
    await Bun.sleep(20);
    expect(failures().length).toBe(2);
  });
});
