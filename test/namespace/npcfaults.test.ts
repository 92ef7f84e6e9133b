// What may happen to weave-npc, its API server and its tables, while packets pass.
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { logTo } from "../../lib/log/log.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { Enforcer } from "../../lib/npc/enforcer.ts";
import { createMetrics } from "../../lib/npc/metrics.ts";
import type { Kind } from "../../lib/npc/objects.ts";
import { readObject } from "../../lib/npc/read.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { NODE } from "../support/conformance.ts";
import { eventually, must } from "../support/hosts.ts";
import {
  api,
  becomes,
  counted,
  DENY,
  folder,
  from,
  inForce,
  inHost,
  log,
  namespace,
  net,
  onPolicyNode,
  passes,
  pod,
  policy,
  sending,
  start,
  stop,
} from "../support/policynode.ts";

onPolicyNode();

describe("whatever happens", () => {
  /** Probes over and over until told to stop; returns how many went wrong. */
  function watch(allowed: string, denied: string) {
    let running = true;
    let probes = 0;
    const done = (async () => {
      let wrong = 0;
      while (running) {
        const outcomes = await net.probe([sending(allowed), sending(denied)]);
        if (outcomes[0] !== true || outcomes[1] !== false) wrong++;
        probes++;
      }
      return { probes, wrong };
    })();
    /** Ends it after so many more. */
    return async (more: number) => {
      const enough = probes + more;
      await eventually(
        `${more} more probes`,
        () => probes,
        (count) => count >= enough,
      );
      running = false;
      return await done;
    };
  }

  test.each(["SIGTERM", "SIGKILL"] as const)(
    "%s and a new start: nothing passes that should not, all that should",
    async (signal) => {
      api.apply(policy("x", "allow", { podSelector: {}, ingress: from("y") }));
      start();
      await inForce();
      const end = watch("y/a -> x/a 80", "z/a -> x/a 80");
      await stop(signal);
      start();
      await inForce();
      const { probes, wrong } = await end(50);
      expect(wrong).toBe(0);
      expect(probes).toBeGreaterThan(5);
    },
    300_000,
  );

  test("the API server goes away: what was known stays in force; it comes back: what was missed is made up for", async () => {
    api.apply(DENY);
    start();
    await inForce();
    await api.stop();
    expect(await passes("y/a -> x/a 80")).toBe(false);
    expect(await passes("x/a -> y/a 80")).toBe(true);
    await eventually(
      "it is noticed",
      () => log,
      (text) => text.includes("the last known state stays in force"),
    );
    api.delete(DENY);
    api.apply(policy("y", "deny", { podSelector: {} }));
    api.start();
    await becomes("y/a -> x/a 80", true);
    expect(await passes("x/a -> y/a 80")).toBe(false);
  }, 300_000);

  test("the API server ends watches, forgets the past, changes the token", async () => {
    start();
    await inForce();
    const { list } = api.asked;
    api.endWatches();
    api.apply(DENY);
    await becomes("y/a -> x/a 80", false);
    expect(api.asked.list).toBe(list);
    api.delete(DENY);
    api.compact();
    await becomes("y/a -> x/a 80", true);
    await eventually(
      "it has listed anew",
      () => api.asked.list,
      (now) => now > list,
    );
    api.token = "another";
    api.endWatches();
    await eventually(
      "it is refused",
      () => api.asked.refused,
      (now) => now > 0,
    );
    writeFileSync(join(folder, "token"), "another\n");
    api.apply(DENY);
    await becomes("y/a -> x/a 80", false);
  }, 300_000);

  test("the API server sends an event that cannot be read: all is listed anew, instead of asking for it again", async () => {
    start();
    await inForce();
    api.tellUnversioned(policy("z", "odd", {}));
    api.apply(DENY);
    await becomes("y/a -> x/a 80", false);
    await eventually(
      "it is told of",
      () => log,
      (text) => text.includes("an object without a version"),
    );
  }, 300_000);

  test.each([
    ["flushed", ["flush", "ruleset"]],
    ["deleted", ["delete", "table", "inet", "weave-npc"]],
    ["edited", ["insert", "rule", "inet", "weave-npc", "postrouting", "accept"]],
    ["emptied", ["flush", "map", "inet", "weave-npc", "ingress4"]],
  ])(
    "the table is %s by somebody else: it is put right",
    async (_what, command) => {
      api.apply(DENY);
      start();
      await inForce();
      expect(await passes("y/a -> x/a 80")).toBe(false);
      await must(inHost("nft", ...command));
      if (command[0] === "flush" && command[1] === "ruleset") await net.tell();
      await eventually(
        "it is put right",
        () => log,
        (text) => /nft \(pid \d+\) changed our nftables table .*; repairing it/.test(text),
      );
      await becomes("y/a -> x/a 80", false);
      expect(await counted("weavenpc_repairs_total")).toBe(1);
    },
    300_000,
  );

  test("a table of that name is there already, with something else in it", async () => {
    api.apply(DENY);
    await must(inHost("nft", "-f", "-"), {
      stdin:
        "table inet weave-npc { set pods4 { type ipv4_addr; }; chain postrouting { type filter hook forward priority 0; drop; }; }\n",
    });
    start();
    await inForce();
    expect(await passes("y/a -> x/a 80")).toBe(false);
    expect(await passes("x/a -> y/a 80")).toBe(true);
  }, 300_000);

  test("the kernel refuses a change: policies are not in force until it takes all of them", async () => {
    const clock = new SimulatedClock(0);
    const nf = inNetns(net.host, () => new NetlinkSocket(NETLINK_NETFILTER));
    const settings = { node: NODE, legacy: false, allowMulticast: true, denyUnknown: true };
    const errors: string[] = [];
    const quiet = logTo((level, text) => level === "error" && errors.push(text));
    const enforcer = new Enforcer(settings, nf, clock, createMetrics(), quiet);
    try {
      const object = (json: { kind: string }) => readObject(json.kind as Kind, json);
      const pods = ["x/a", "y/a", "z/a"].map((name) => object(pod(name)));
      enforcer.listed(
        "Namespace",
        ["x", "y", "z"].map((name) => object(namespace(name))),
      );
      enforcer.listed("Pod", pods);
      enforcer.listed("NetworkPolicy", []);
      clock.advance(10);
      expect(enforcer.inSync).toBe(true);
      expect(await passes("y/a -> x/a 80")).toBe(true);
      // Nobody tells the enforcer, so it changes a table that is not there.
      await must(inHost("nft", "delete", "table", "inet", "weave-npc"));
      enforcer.changed({ type: "set", object: object(DENY) });
      clock.advance(10);
      expect(errors[0]).toContain("cannot put policies in force");
      expect(enforcer.inSync).toBe(false);
      clock.advance(1_000);
      expect(enforcer.inSync).toBe(true);
      expect(await passes("y/a -> x/a 80")).toBe(false);
    } finally {
      enforcer.stop();
      nf.close();
    }
  }, 300_000);
});
