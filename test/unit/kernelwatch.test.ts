// Which of the kernel's notifications concern what is kept.
import { beforeEach, expect, test } from "bun:test";
import type { Culprit } from "../../lib/host/reconcile/culprit.ts";
import type { Source } from "../../lib/host/reconcile/resource.ts";
import { ReconcilerWatch } from "../../lib/host/reconcile/watch.ts";
import type { RouteEvent } from "../../lib/netlink/monitor.ts";

const OWN_PORT = 77;
const [WEAVE, VETH, OTHER] = [3, 4, 9];

let told: string[];
let watch: ReconcilerWatch;

beforeEach(() => {
  told = [];
  const notified = (source: Source, subject = "", by?: Culprit) =>
    told.push(`${source} ${subject}${by ? " by" : ""}`);
  watch = new ReconcilerWatch(
    { notified },
    (name) => name === "weave",
    () => [OWN_PORT],
  );
  watch.start([
    { index: WEAVE, name: "weave" },
    { index: VETH, name: "vethwepl1" },
    { index: OTHER, name: "eth0" },
  ]);
});

const event = (kind: RouteEvent["kind"], index: number | undefined, port = 0): RouteEvent => {
  return { kind, index, port, replaced: false, link: undefined };
};
const link = (index: number, name: string, removed = false, port = 0): RouteEvent => {
  return {
    kind: "links",
    index,
    port,
    replaced: false,
    link: { name, master: undefined, removed, leaving: false },
  };
};

test("links of ours, and those of containers, are told apart; others are nobody's business", () => {
  for (const each of [link(WEAVE, "weave"), link(VETH, "vethwepl1"), link(OTHER, "eth0")])
    watch.changed(each);
  expect(told).toEqual(["links weave", "ports vethwepl1"]);
});

test("what is about a link is known by its ifindex", () => {
  for (const kind of ["addresses", "routes", "trafficcontrol", "netconf"] as const) {
    watch.changed(event(kind, WEAVE));
    watch.changed(event(kind, OTHER));
  }
  expect(told).toEqual(["addresses weave", "routes weave", "trafficcontrol weave", "netconf weave"]);
});

test("settings of all links count; routes by several links do not", () => {
  watch.changed(event("netconf", undefined));
  watch.changed(event("routes", undefined));
  expect(told).toEqual(["netconf "]);
});

test("a route in the place of another one counts, whatever link it is by", () => {
  watch.changed({ ...event("routes", undefined), replaced: true });
  watch.changed({ ...event("routes", OTHER), replaced: true });
  expect(told).toEqual(["routes ", "routes "]);
});

test("a link that is renamed is told of by the name that it had, and is none of ours then", () => {
  watch.changed(link(WEAVE, "other0"));
  watch.changed(event("addresses", WEAVE));
  watch.changed(link(12, "weave"));
  watch.changed(event("addresses", 12));
  expect(told).toEqual(["links weave", "links weave", "addresses weave"]);
});

test("a link that has gone is told of, and its number forgotten", () => {
  watch.changed(link(WEAVE, "weave", true));
  watch.changed(event("addresses", WEAVE));
  expect(told).toEqual(["links weave"]);
});

test("what we do is not told, but followed", () => {
  watch.changed(link(12, "weave", false, OWN_PORT));
  expect(told).toEqual([]);
  watch.changed(event("addresses", 12));
  expect(told).toEqual(["addresses weave"]);
});

test("after lost notifications it begins with the links there are", () => {
  watch.start([{ index: 20, name: "weave" }]);
  watch.changed(event("addresses", WEAVE));
  watch.changed(event("addresses", 20));
  expect(told).toEqual(["addresses weave"]);
});
