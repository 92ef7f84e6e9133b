// weave-npc as it runs on a node: policies come and go, pods change, somebody else writes to the tables.
import { describe, expect, test } from "bun:test";
import { eventually } from "../support/hosts.ts";
import {
  api,
  becomes,
  counted,
  DENY,
  from,
  inForce,
  log,
  namespace,
  net,
  onPolicyNode,
  passes,
  pod,
  policy,
  sending,
  start,
} from "../support/policynode.ts";

onPolicyNode();

describe("the controller", () => {
  test("puts policies in force as they come and go, and tells of what they block, once for each attempt", async () => {
    start();
    await inForce();
    expect(await passes("y/a -> x/a 80")).toBe(true);
    api.apply(DENY);
    await becomes("y/a -> x/a 80", false);
    const attempt = sending("y/a -> x/b 80");
    const port = net.nextPort();
    for (let i = 0; i < 3; i++) net.send(attempt, port);
    net.send(sending("y/a -> x/b 53/UDP"), port);
    const line = (protocol: string, to: number) =>
      `${protocol} connection from ${attempt.source}:${port} to ${attempt.destination}:${to} blocked by Weave NPC.`;
    await eventually(
      "it is told of",
      () => log,
      (text) => text.includes(line("TCP", 80)) && text.includes(line("UDP", 53)),
    );
    expect(log.split(line("TCP", 80)).length).toBe(2);
    expect(await counted('weavenpc_blocked_connections_total{protocol="udp",dport="53"}')).toBe(1);
    expect(await counted('weavenpc_objects{kind="pod"}')).toBe(9);
    api.apply(policy("x", "allow", { podSelector: {}, ingress: from("y") }));
    await becomes("y/a -> x/a 80", true);
    expect(await passes("z/a -> x/a 80")).toBe(false);
    api.delete(DENY, policy("x", "allow", {}));
    await becomes("z/a -> x/a 80", true);
  }, 300_000);

  test("as JSON, with pods and the policies that isolate", async () => {
    api.apply(DENY);
    start("--log-format=json");
    await inForce();
    expect(await passes("y/a -> x/a 80")).toBe(false);
    const told = await eventually(
      "it is told of",
      () => log.split("\n").find((text) => text.includes('"event"')) ?? "",
      Boolean,
    );
    expect(JSON.parse(told)).toMatchObject({
      level: "warning",
      msg: expect.stringContaining("blocked by Weave NPC."),
      event: "blocked",
      protocol: "TCP",
      sourcePod: "y/a",
      destinationPod: "x/a",
      destinationPort: 80,
      direction: "ingress",
      isolatedBy: ["x/deny"],
    });
  }, 300_000);

  test("events in an odd order: the policy before its namespace, pods before theirs", async () => {
    api.delete(namespace("x"), namespace("y"));
    start();
    await inForce();
    api.apply(policy("x", "allow", { podSelector: {}, ingress: from("y") }));
    await becomes("y/a -> x/a 80", false);
    api.apply(namespace("y"));
    await becomes("y/a -> x/a 80", true);
    api.apply(namespace("x"));
    expect(await passes("z/a -> x/a 80")).toBe(false);
  }, 300_000);

  test("an address that passes from one pod to another, in either order of events", async () => {
    api.apply(policy("x", "allow", { podSelector: { matchLabels: { pod: "a" } }, ingress: from("y") }));
    start();
    await inForce();
    expect(await passes("y/b -> x/a 80")).toBe(true);
    // The new pod is heard of before the old one's end.
    const heir = {
      ...pod("z/heir", "y/b"),
      metadata: { ...pod("z/heir").metadata, creationTimestamp: "2030-01-01T00:00:00Z" },
    };
    api.apply(heir);
    await becomes("y/b -> x/a 80", false);
    api.delete(pod("y/b"));
    await becomes("z/b -> x/a 80", false);
    expect(await passes("y/b -> x/a 80")).toBe(false);
    api.delete(heir);
    api.apply(pod("y/b"));
    await becomes("y/b -> x/a 80", true);
  }, 300_000);

  test("a pod that nobody has told of is kept apart, but for its node", async () => {
    api.delete(pod("z/c"));
    start();
    await inForce();
    const unknown = (text: string) => net.arrivesBefore(sending(text), sending("node -> z/c 80"));
    expect(await passes("z/c -> x/a 80")).toBe(false);
    expect(await passes("node -> z/c 80")).toBe(true);
    // Frames to it are dropped by the bridge, which says nothing.
    expect(await unknown("x/a -> z/c 80")).toBe(false);
    // What goes to many reaches it as it does others.
    const group = { destination: "239.1.2.3", via: "01:00:5e:01:02:03" };
    expect(await net.probe([{ ...sending("x/a -> z/c 5000/UDP"), ...group }])).toEqual([true]);
    // A packet for one in a frame for many is still for one: receivers take it.
    const broadcast = { via: "ff:ff:ff:ff:ff:ff" };
    expect(await net.probe([{ ...sending("z/c -> x/a 5000/UDP"), ...broadcast }])).toEqual([false]);
    api.apply(pod("z/c"));
    await becomes("z/c -> x/a 80", true);
    expect(await passes("x/a -> z/c 80")).toBe(true);
    // Whoever gets its address after it is another pod, which nobody has told of.
    api.delete(pod("z/c"));
    await becomes("z/c -> x/a 80", false);
    expect(await unknown("x/a -> z/c 80")).toBe(false);
    api.apply(pod("z/next", "z/c"));
    await becomes("z/c -> x/a 80", true);
  }, 300_000);
});
