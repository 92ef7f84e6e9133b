// Connections that were let through are not judged again, until rules change in a way that may block them; however often
// the numbers of generations have come round.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { atOnce } from "../../lib/clock/slices.ts";
import { enableBridgeNetfilter } from "../../lib/host/bridgenetfilter.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { Compiler } from "../../lib/npc/compiler.ts";
import { following } from "../../lib/npc/generation.ts";
import { Model } from "../../lib/npc/model.ts";
import type { KubeObject } from "../../lib/npc/objects.ts";
import { readObject } from "../../lib/npc/read.ts";
import { admitConnections, type InForce, write } from "../../lib/npc/writer.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { baseCluster, ENDS, NODE } from "../support/conformance.ts";
import { must } from "../support/hosts.ts";
import { PolicyNet, type Sending } from "../support/policynet.ts";

const SETTINGS = { allowMulticast: true, denyUnknown: true };

let net: PolicyNet;
let nf: NetlinkSocket;
let inForce: InForce | undefined;

beforeAll(async () => {
  net = await PolicyNet.create("gen");
  nf = inNetns(net.host, () => new NetlinkSocket(NETLINK_NETFILTER));
  expect(inNetns(net.host, enableBridgeNetfilter)).toBeUndefined();
}, 300_000);

afterAll(() => {
  nf?.close();
  net?.dispose();
});

/** Puts policies in force that let pods of a namespace reach x/a, as the enforcer does it. */
function allow(namespace: string, gone?: string): void {
  const model = new Model();
  const isGone = (each: KubeObject) =>
    each.kind === "Pod" && `${each.object.namespace}/${each.object.name}` === gone;
  model.apply(baseCluster().filter(({ object }) => !isGone(object)));
  const ingress = [{ from: [{ namespaceSelector: { matchLabels: { ns: namespace } } }] }];
  const spec = { podSelector: { matchLabels: { pod: "a" } }, ingress };
  const object = readObject("NetworkPolicy", { metadata: { namespace: "x", name: "p" }, spec });
  model.apply([{ type: "set", object }]);
  inForce = write(nf, inForce, new Compiler(model, { node: NODE }).all(), SETTINGS);
  if (inForce.generation === 0) inForce = { ...inForce, generation: atOnce(admitConnections(nf)) };
}

/** Packets of a connection from one pod to x/a, in turn from either end. */
function connection(from: string) {
  const port = net.nextPort();
  const [source = "", destination = ""] = [ENDS.get(from), ENDS.get("x/a")];
  const there: Sending = { from, to: "x/a", source, destination, protocol: "UDP", port: 80 };
  const back: Sending = {
    from: "x/a",
    to: from,
    source: destination,
    destination: source,
    protocol: "UDP",
    port,
  };
  const one = async (sending: Sending, sourcePort: number) => {
    net.send(sending, sourcePort);
    return (await net.outcomes([sending], [sourcePort]))[0] ?? false;
  };
  return async () => [await one(there, port), await one(back, 80)];
}

const rule = (text: string) => must(["ip", "netns", "exec", `${net.prefix}-host`, "nft", ...text.split(" ")]);

test("a connection that was let through is not judged again; others are", async () => {
  allow("y");
  const known = connection("y/a");
  expect(await known()).toEqual([true, true]);
  await rule("insert rule inet weave-npc judge drop");
  expect(await known()).toEqual([true, true]);
  expect(await connection("y/b")()).toEqual([false, false]);
  inForce = undefined;
  allow("y");
  expect(await known()).toEqual([true, true]);
});

test("whatever the generation: a change cuts what it blocks, and lets through what it does not", async () => {
  const [y, z] = [connection("y/a"), connection("z/a")];
  allow("y");
  expect(await y()).toEqual([true, true]);
  allow("z");
  expect([await y(), await z()]).toEqual([
    [false, false],
    [true, true],
  ]);
  allow("y");
  expect([await y(), await z()]).toEqual([
    [true, true],
    [false, false],
  ]);
  // This connection rests until the generation in which it was let through has come round.
  const resting = connection("y/a");
  expect(await resting()).toEqual([true, true]);
  const marked = inForce?.generation;
  let changes = 0;
  do allow(++changes % 2 === 1 ? "z" : "x");
  while (inForce?.generation !== marked);
  expect(changes).toBeGreaterThan(200);
  expect(await resting()).toEqual([false, false]);
});

test("a peer that is gone is cut, and those of the same set are not; a new one cuts nobody", async () => {
  allow("y");
  const [stays, goes] = [connection("y/a"), connection("y/b")];
  expect([await stays(), await goes()]).toEqual([
    [true, true],
    [true, true],
  ]);
  const before = inForce?.generation;
  allow("y", "y/b");
  expect([await stays(), await goes()]).toEqual([
    [true, true],
    [false, false],
  ]);
  const raised = inForce?.generation;
  expect(raised).not.toBe(before);
  allow("y");
  expect(inForce?.generation).toBe(raised);
  expect(await goes()).toEqual([true, true]);
});

test("a new table lets nothing through that another had marked", async () => {
  inForce = undefined;
  allow("y");
  const resting = connection("y/a");
  expect(await resting()).toEqual([true, true]);
  inForce = undefined;
  allow("z");
  expect(await resting()).toEqual([false, false]);
});

test("generations follow each other, and end with that in which nothing is marked", () => {
  const seen: number[] = [];
  for (let generation = 1; generation !== 0; generation = following(generation)) seen.push(generation);
  expect(seen).toEqual(Array.from({ length: 256 }, (_, i) => i + 1));
  expect(following(0)).toBe(0);
});
