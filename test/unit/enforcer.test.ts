// The rules in the kernel are those of the model, whichever batch of them it refuses.
import { describe, expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import { NetlinkError } from "../../lib/netlink/message.ts";
import type { NetlinkSocket, Request } from "../../lib/netlink/socket.ts";
import { Enforcer } from "../../lib/npc/enforcer.ts";
import { createMetrics } from "../../lib/npc/metrics.ts";
import type { KubeObject } from "../../lib/npc/objects.ts";
import { readObject } from "../../lib/npc/read.ts";
import { baseCluster, NODE } from "../support/conformance.ts";

const ENOSPC = 28;

/** A kernel that refuses the n-th batch; keeps what it was told by the others. */
function kernel(refused: number) {
  const batches: (readonly Request[])[] = [];
  let count = 0;
  const nf = {
    batch(requests: readonly Request[]) {
      if (++count === refused) throw new NetlinkError("nft add element weave-npc", ENOSPC);
      batches.push(requests);
    },
  };
  return { nf: nf as unknown as NetlinkSocket, batches, count: () => count };
}

const operations = (batch: readonly Request[] = []) => batch.map(({ operation }) => operation);
/** It is about everything, whatever was there. */
const isWhole = (batch: readonly Request[] | undefined) =>
  operations(batch).filter((text) => text.includes("delete table")).length === 2;

function enforcer(refused: number) {
  const clock = new SimulatedClock();
  const metrics = createMetrics();
  const { nf, batches, count } = kernel(refused);
  const config = { node: NODE, legacy: false, denyUnknown: true, allowMulticast: true };
  const subject = new Enforcer(config, nf, clock, metrics, silentLog);
  const objects = baseCluster().map(({ object }) => object);
  const start = () => {
    for (const kind of ["Namespace", "Pod", "NetworkPolicy"] as const)
      subject.listed(
        kind,
        objects.filter((object) => object.kind === kind),
      );
    clock.advance(10);
  };
  return { subject, clock, metrics, batches, count, objects, start };
}

const policy = (name: string): KubeObject =>
  readObject("NetworkPolicy", {
    metadata: { namespace: "x", name },
    spec: { podSelector: { matchLabels: { pod: name } }, ingress: [] },
  });

describe("a kernel that refuses a batch", () => {
  const CHANGES = ["a", "b", "c"].map((name) => ({ type: "set" as const, object: policy(name) }));

  test.each([1, 2, 3, 4])(
    "number %d: all that there is comes with the next one, a second later",
    async (refused) => {
      const { subject, clock, metrics, batches, count, start } = enforcer(refused);
      start();
      for (const [i, change] of CHANGES.entries()) {
        if (count() === refused) clock.advance(1_100);
        subject.changed(change);
        clock.advance(10);
        if (i + 2 === refused) {
          expect([subject.inSync, count()]).toEqual([false, refused]);
          clock.advance(900);
          expect([subject.inSync, count()]).toEqual([false, refused]);
        }
      }
      clock.advance(1_100);
      expect(subject.inSync).toBe(true);
      // The first, and the one after the refusal; nothing more than was asked for.
      expect(batches.map(isWhole)).toEqual(Array.from({ length: 4 }, (_, i) => i === 0 || i === refused - 1));
      expect((await metrics.errors.get()).values[0]?.value).toBe(1);
      clock.advance(60_000);
      expect(batches.length).toBe(4);
    },
  );
});

test("a pod that is deleted is known no more: by what was told, its address is as unknown as before it came", () => {
  const { subject, clock, batches, objects, start } = enforcer(0);
  start();
  const pod = objects.find((object) => object.kind === "Pod") ?? expect.unreachable();
  batches.length = 0;
  const known = () =>
    operations(batches.splice(0).flat()).filter((text) =>
      /bridge weave-npc.*pods|pods.*bridge weave-npc/.test(text),
    );
  subject.changed({ type: "delete", object: pod });
  clock.advance(10);
  const gone = known();
  expect(gone.map((text) => text.includes("delete"))).toEqual([true, true]);
  subject.changed({ type: "set", object: pod });
  clock.advance(10);
  expect(known().map((text) => text.includes("delete"))).toEqual([false, false]);
});

test("what is in force is counted by kind", async () => {
  const { subject, clock, metrics, objects, start } = enforcer(0);
  start();
  const isolating = (name: string, directions: readonly string[]) =>
    readObject("NetworkPolicy", {
      metadata: { namespace: "x", name },
      spec: { podSelector: { matchLabels: { pod: name } }, policyTypes: directions },
    });
  subject.changed({ type: "set", object: isolating("a", ["Ingress", "Egress"]) });
  subject.changed({ type: "set", object: isolating("b", ["Ingress"]) });
  clock.advance(10);
  const counts = async (name: "objects" | "rules") =>
    Object.fromEntries((await metrics[name].get()).values.map(({ labels, value }) => [labels.kind, value]));
  const of = (kind: string) => objects.filter((object) => object.kind === kind).length;
  expect(await counts("objects")).toEqual({ pod: of("Pod"), namespace: of("Namespace"), networkpolicy: 2 });
  // A pod has an address of each family.
  expect(await counts("rules")).toEqual({
    ...{ isolated_ingress: 4, isolated_egress: 2, chain: 2, set: 0, incomplete_chain: 0 },
  });
});
