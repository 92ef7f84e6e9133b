// What doctor, ping and weave-npc say, line by line: links of the network, ways to peers, objects that cannot be read.
import { expect, test } from "bun:test";
import { linkProblems } from "../../lib/doctor/links.ts";
import { hasPingProblem, pingText } from "../../lib/doctor/pingtext.ts";
import type { Link } from "../../lib/netlink/link.ts";
import { createMetrics } from "../../lib/npc/metrics.ts";
import type { KubeObject } from "../../lib/npc/objects.ts";
import { Unreadable } from "../../lib/npc/unreadable.ts";

const link = (name: string, change: Partial<Link> = {}): Link =>
  ({ index: 5, name, kind: "veth", up: true, master: 9, ...change }) as Link;
const bridge = link("weave", { index: 9, kind: "bridge", master: undefined });
const vxlan = link("vxlan-6784", {
  kind: "vxlan",
  vxlan: { port: 6784, external: true, learning: false },
});

test("links of a host: the bridge, and its port to other hosts, up and on it", () => {
  const say = (links: readonly Link[], running = true, port?: string) =>
    linkProblems(links, running, port).map(({ level, found }) => `${level}: ${found.split(":")[0]}`);
  expect(say([])).toEqual(["problem: bridge weave is missing"]);
  expect(say([], false)).toEqual([]);
  expect(say([link("weave", { kind: "dummy" })])).toEqual(["problem: bridge weave is missing"]);
  expect(say([bridge, vxlan])).toEqual(["ok: weave and vxlan-6784 are up"]);
  expect(say([{ ...bridge, up: false }, vxlan])).toEqual(["problem: bridge weave is down"]);
  expect(say([bridge])).toEqual(["problem: link vxlan-6784 is missing"]);
  expect(say([bridge, vxlan], true, "sleeve-6783")).toEqual(["problem: link sleeve-6783 is missing"]);
  expect(say([bridge, { ...vxlan, up: false, master: 3 }])).toEqual([
    "problem: link vxlan-6784 is down",
    "problem: link vxlan-6784 is off bridge weave",
  ]);
  // Another's VXLAN link, and sleeve's link that is not the port.
  const other = { ...vxlan, vxlan: { port: 6784, external: false, learning: true } };
  expect(say([bridge, other])).toEqual(["problem: link vxlan-6784 is missing"]);
  const sleeve = link("sleeve-6783", { kind: "tun" });
  expect(say([bridge, sleeve])).toEqual(["ok: weave and sleeve-6783 are up"]);
  expect(say([bridge, { ...sleeve, master: undefined }])).toEqual(["problem: link vxlan-6784 is missing"]);
});

test("ways to peers: lost, round trips, MTU, and what is wrong below", () => {
  const way = (change: object = {}) => ({
    overlay: "fastdp",
    inUse: true,
    sent: 10,
    received: 10,
    roundTripMs: { min: 0.1, median: 9.994, max: 10 },
    mtu: 1376,
    problem: null,
    remedy: null,
    ...change,
  });
  const ping = (overlays: object[], change: object = {}) =>
    ({
      peer: { name: "00:00:00:00:00:02", nickname: "host2" },
      via: null,
      networkMtu: 1376,
      note: null,
      problem: null,
      remedy: null,
      overlays,
      ...change,
    }) as never;
  const lines = (...pings: never[]) =>
    pingText(pings)
      .split("\n")
      .slice(1, -1)
      .map((line) => line.trim().replace(/ {2,}/g, " | "));
  expect(pingText([])).toBe("no peer is connected: 'weave status connections' shows why\n");
  expect(lines(ping([way(), way({ overlay: "sleeve", inUse: false, received: 7, mtu: 1375 })]))).toEqual([
    "host2 | fastdp | 0 of 10 | 0.10/9.99/10 | 1376",
    "(sleeve) | 3 of 10 | 0.10/9.99/10 | 1375 of 1376",
  ]);
  const dead = way({ received: 0, roundTripMs: null, mtu: null, problem: "blocked", remedy: "open it" });
  expect(lines(ping([dead]))).toEqual(["host2 | fastdp | all | - | -", "problem: blocked", "-> open it"]);
  expect(lines(ping([], { problem: "gone" }))).toEqual(["host2 | - | all | - | -", "problem: gone"]);
  expect(lines(ping([], { note: "an original" }))).toEqual(["host2 | - | - | - | -", "an original"]);
  const far = {
    peer: { name: "00:00:00:00:00:03", nickname: "" },
    via: { name: "n", nickname: "a-long-nickname" },
  };
  expect(lines(ping([way()], far))[0]).toBe(
    "00:00:00:00:00:03 | via a-long-ni | 0 of 10 | 0.10/9.99/10 | 1376",
  );
  expect([[ping([way()])], [ping([way(), dead])], [ping([], { problem: "x" })]].map(hasPingProblem)).toEqual([
    false,
    true,
    true,
  ]);
});

test("objects that cannot be read: told when found and when otherwise wrong, mended once, counted by name up to 100", async () => {
  const metrics = createMetrics();
  const told: string[] = [];
  const subject = new Unreadable(metrics, {
    found: (_object, text) => told.push(text),
    mended: ({ object }) => told.push(`mended ${object.name}`),
  });
  const pod = (name: string, ...problems: string[]) =>
    ({ kind: "Pod", object: { namespace: "x", name, labels: new Map(), problems } }) as unknown as KubeObject;
  const take = () => told.splice(0);
  subject.listed("Pod", [pod("a", "bad ip"), pod("b")]);
  expect(take()).toEqual(["Pod x/a cannot be read: bad ip; that part is ignored"]);
  subject.changed("set", pod("a", "bad ip"));
  expect(take()).toEqual([]);
  subject.changed("set", pod("a", "bad ip", "bad port"));
  expect(take()).toEqual(["Pod x/a cannot be read: bad ip; bad port; that part is ignored"]);
  subject.changed("set", pod("a"));
  subject.changed("set", pod("a"));
  expect([take(), subject.texts]).toEqual([["mended a"], []]);
  const policy = { kind: "NetworkPolicy", object: { namespace: "x", name: "p", problems: ["no"] } } as never;
  subject.changed("set", policy);
  subject.changed("set", pod("c", "bad"));
  // A list of one kind says nothing of others.
  subject.listed("Pod", []);
  expect(subject.texts).toEqual([
    "NetworkPolicy x/p cannot be read: no; it isolates the pods that it selects, and allows what could be read",
  ]);
  subject.changed("delete", policy);
  expect(subject.texts).toEqual([]);
  take();
  subject.listed(
    "Pod",
    Array.from({ length: 103 }, (_, i) => pod(`p${i}`, "bad")),
  );
  const { values } = await metrics.unreadable.get();
  expect([values.length, values.find(({ labels }) => labels.name === "")?.value]).toEqual([101, 3]);
});
