// Edges of the policy controller: attempts that are remembered, objects in the metrics, selectors that are the same, a stop.
import { describe, expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import type { KubeClient, WatchEvent } from "../../lib/kube/client.ts";
import { reflect } from "../../lib/kube/reflector.ts";
import { silentLog } from "../../lib/log/log.ts";
import { createMetrics } from "../../lib/npc/metrics.ts";
import type { KubeObject } from "../../lib/npc/objects.ts";
import { readObject } from "../../lib/npc/read.ts";
import { selectionKey } from "../../lib/npc/selection.ts";
import { EVERYTHING, type Selector } from "../../lib/npc/selector.ts";
import { contentDefinition } from "../../lib/npc/tables.ts";
import { Unreadable } from "../../lib/npc/unreadable.ts";

describe("selectors that select the same have one key", () => {
  const key = (pods: Selector, namespaces: Selector | { name: string } = EVERYTHING) =>
    selectionKey({ pods, namespaces });
  const needs = (key: string, ...values: string[]) => ({ key, operator: "In" as const, values });

  test("whatever the order of labels, of requirements and of their values", () => {
    const one = { labels: { a: "1", b: "2" }, requirements: [needs("x", "p", "q"), needs("y", "r")] };
    const other = { labels: { b: "2", a: "1" }, requirements: [needs("y", "r"), needs("x", "q", "p")] };
    expect(key(one)).toBe(key(other));
    expect(key(EVERYTHING, one)).toBe(key(EVERYTHING, other));
  });

  test("and others have another", () => {
    const keys = [
      key(EVERYTHING),
      key({ labels: { a: "1" }, requirements: [] }),
      key({ labels: { a: "2" }, requirements: [] }),
      key({ labels: {}, requirements: [needs("a", "1")] }),
      key({ labels: {}, requirements: [{ ...needs("a", "1"), operator: "NotIn" }] }),
      key({ labels: {}, requirements: [needs("a", "1", "2")] }),
      key(EVERYTHING, { labels: { a: "1" }, requirements: [] }),
      key(EVERYTHING, { name: "a" }),
    ];
    expect(new Set(keys).size).toBe(keys.length);
  });
});

test("sets of blocks have intervals; those of pods and of endpoints share one set of the kernel", () => {
  const of = (kind: "pods" | "blocks" | "endpoints", family: 4 | 6) =>
    contentDefinition({ kind, key: "k" } as never, family);
  expect(of("pods", 4)).toEqual({ name: "pods4", key: ["ipv4", "number"] });
  expect(of("blocks", 6)).toMatchObject({ name: "blocks6-k", interval: true });
  expect(of("endpoints", 6)).toEqual({ name: "endpoints6", key: ["ipv6", "protocol", "port", "number"] });
});

describe("objects that cannot be read", () => {
  const policy = (name: string, broken = true): KubeObject =>
    readObject("NetworkPolicy", {
      metadata: { namespace: "x", name },
      spec: { podSelector: {}, ingress: broken ? [{ from: [{ ipBlock: { cidr: "none" } }] }] : [] },
    });
  function watched() {
    const metrics = createMetrics();
    const told: string[] = [];
    const subject = new Unreadable(metrics, {
      found: (object) => told.push(`found ${object.object.name}`),
      mended: (object) => told.push(`mended ${object.object.name}`),
    });
    const measured = async () =>
      (await metrics.registry.metrics())
        .split("\n")
        .filter((line) => /unreadable_objects\{/.test(line))
        .map((line) => line.replace(/^.*\{/, "").replace(/"/g, ""));
    return { subject, told, measured };
  }

  test("are in the metrics one by one until they are mended or deleted", async () => {
    const { subject, told, measured } = watched();
    subject.listed("NetworkPolicy", [policy("a"), policy("b"), policy("c", false)]);
    expect(await measured()).toEqual([
      "kind=NetworkPolicy,namespace=x,name=a} 1",
      "kind=NetworkPolicy,namespace=x,name=b} 1",
    ]);
    subject.changed("set", policy("a", false));
    subject.changed("delete", policy("b"));
    subject.changed("set", policy("c"));
    expect(await measured()).toEqual(["kind=NetworkPolicy,namespace=x,name=c} 1"]);
    subject.listed("Pod", []);
    expect(subject.texts.length).toBe(1);
    subject.listed("NetworkPolicy", []);
    expect([subject.texts, await measured()]).toEqual([[], []]);
    expect(told).toEqual(["found a", "found b", "mended a", "found c"]);
  });

  test("more than 100 are counted without names", async () => {
    const { subject, measured } = watched();
    subject.listed(
      "NetworkPolicy",
      Array.from({ length: 103 }, (_, i) => policy(`p${i}`)),
    );
    const lines = await measured();
    expect(lines.length).toBe(101);
    expect(lines).toContain("kind=NetworkPolicy,namespace=,name=} 3");
  });
});

describe("a collection whose watch is stopped", () => {
  const settle = async () => {
    for (let i = 0; i < 10; i++) await Promise.resolve();
  };

  function following() {
    const list = Promise.withResolvers<{ items: unknown[]; resourceVersion: string }>();
    const event = Promise.withResolvers<WatchEvent>();
    const asked: string[] = [];
    const client = {
      list: (_path: string, signal: AbortSignal) => {
        asked.push(`list ${signal.aborted}`);
        return list.promise;
      },
      async *watch(_path: string, version: string) {
        asked.push(`watch ${version}`);
        yield await event.promise;
        throw new Error("reset");
      },
    };
    const told: string[] = [];
    const clock = new SimulatedClock();
    const reflector = reflect(
      client as unknown as KubeClient,
      "/api/v1/pods",
      { clock, random: { float: () => 0.5, u64: () => 0n }, log: silentLog },
      { listed: () => told.push("listed"), changed: (type) => told.push(type) },
    );
    return { list, event, asked, told, clock, reflector };
  }

  test("while it is listed tells nothing", async () => {
    const { list, asked, told, reflector } = following();
    reflector.stop();
    list.resolve({ items: [], resourceVersion: "1" });
    await settle();
    expect([asked, told]).toEqual([["list false"], []]);
  });

  test("while it waits for an event tells nothing of that", async () => {
    const { list, event, asked, told, clock, reflector } = following();
    list.resolve({ items: [], resourceVersion: "1" });
    await settle();
    reflector.stop();
    event.resolve({ type: "DELETED", object: {}, resourceVersion: "2" } as WatchEvent);
    await settle();
    clock.advance(60_000);
    await settle();
    expect([asked, told]).toEqual([["list false", "watch 1"], ["listed"]]);
  });

  test("while it pauses begins no new one; the next one would begin where it was", async () => {
    const { list, event, asked, told, clock, reflector } = following();
    list.resolve({ items: [], resourceVersion: "1" });
    event.resolve({ type: "DELETED", object: {}, resourceVersion: "2" } as WatchEvent);
    await settle();
    expect([asked, told]).toEqual([
      ["list false", "watch 1"],
      ["listed", "delete"],
    ]);
    clock.advance(500);
    await settle();
    expect(asked.at(-1)).toBe("watch 2");
    reflector.stop();
    await settle();
    clock.advance(60_000);
    await settle();
    expect(asked.length).toBe(3);
  });
});
