// Policies that weave-npc cannot read.
import { describe, expect, test } from "bun:test";
import { NODE } from "../support/conformance.ts";
import { eventually, must } from "../support/hosts.ts";
import {
  api,
  becomes,
  counted,
  from,
  inForce,
  inHost,
  log,
  onPolicyNode,
  passes,
  policy,
  start,
} from "../support/policynode.ts";

onPolicyNode();

describe("a policy that cannot be read", () => {
  const BROKEN = policy("x", "broken", {
    podSelector: { matchLabels: { pod: "a" } },
    ingress: [{ from: [{ ipBlock: { cidr: "no" } }] }],
  });
  const named = 'weavenpc_unreadable_objects{kind="NetworkPolicy",namespace="x",name="broken"}';
  const status = async () => await must(inHost("curl", "-s", "http://127.0.0.1:6781/status"));
  const listedAnew = async () => {
    const { list } = api.asked;
    api.compact();
    await eventually(
      "all is listed anew",
      () => api.asked.list,
      (now) => now >= list + 3,
    );
    // What was listed is in force when something that came after it is.
    const later = policy("z", "later", { podSelector: { matchLabels: { pod: "c" } } });
    api.apply(later);
    await becomes("y/a -> z/c 80", false);
    api.delete(later);
    await becomes("y/a -> z/c 80", true);
  };

  test("isolates what it selects until it can; log, metric, event and status name it; it hurts no other", async () => {
    start();
    await inForce();
    api.apply(BROKEN);
    await becomes("y/a -> x/a 80", false);
    expect(await passes("y/a -> x/b 80")).toBe(true);
    const problem = "NetworkPolicy x/broken cannot be read: spec.ingress.0.from.0.ipBlock.cidr: ";
    await eventually(
      "it is told of",
      () => log,
      (text) => text.includes(problem),
    );
    expect(await counted(named)).toBe(1);
    expect(await status()).toContain(`     Unreadable: ${problem}`);
    const [event] = await eventually(
      "there is an event",
      () => api.all("Event"),
      (events) => events.length > 0,
    );
    expect(event).toMatchObject({
      metadata: { namespace: "x" },
      involvedObject: { kind: "NetworkPolicy", namespace: "x", name: "broken" },
      type: "Warning",
      reason: "Unreadable",
      source: { component: "weave-npc", host: NODE },
    });
    expect(event?.["message"]).toStartWith(problem);
    await listedAnew();
    expect(await passes("y/a -> x/a 80")).toBe(false);
    expect(api.all("Event").length).toBe(1);
    api.apply(policy("x", "broken", { ...BROKEN["spec"], ingress: from("y") }));
    await becomes("y/a -> x/a 80", true);
    expect(await counted(named)).toBe(0);
    expect(await status()).not.toContain("Unreadable");
  }, 300_000);

  test("is not taken for what it was before, nor for none when all are listed anew", async () => {
    const allow = policy("x", "allow", { podSelector: {}, ingress: from("y") });
    api.apply(allow);
    start();
    await inForce();
    expect(await passes("y/a -> x/a 80")).toBe(true);
    api.apply({ ...allow, spec: { podSelector: { matchExpressions: [{ key: "a", operator: "Like" }] } } });
    await becomes("y/a -> x/a 80", false);
    await listedAnew();
    expect(await passes("y/a -> x/a 80")).toBe(false);
    expect(await passes("x/a -> y/a 80")).toBe(true);
    api.delete(allow);
    await becomes("y/a -> x/a 80", true);
    await listedAnew();
    expect(await passes("y/a -> x/a 80")).toBe(true);
  }, 300_000);
});
