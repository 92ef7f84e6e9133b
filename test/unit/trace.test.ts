// What a trace makes of what was seen: each fault names its own hop, and only that one. Frames of strangers do no harm.
import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { ipv4Octets } from "../../lib/address/ipv4.ts";
import { commentIn } from "../../lib/netlink/nftables/rule.ts";
import type { Evidence } from "../../lib/trace/hops/hop.ts";
import { pathOf, reached } from "../../lib/trace/hops/path.ts";
import { type Probe, probePayload, signOf } from "../../lib/trace/probe.ts";
import { MAX_LOOKS, traceAnswerer } from "../../lib/trace/question.ts";
import { type EndState, type Seen, Side } from "../../lib/trace/side.ts";
import { Sightings } from "../../lib/trace/sightings.ts";
import { traceText } from "../../lib/trace/text.ts";
import { fc } from "../support/fastcheck.ts";
import {
  DB,
  END,
  FAR,
  FAR_END,
  far,
  GOOD,
  NEAR,
  near,
  PROBE,
  seen,
  TUNNEL,
  WEB,
} from "../support/traceevidence.ts";

const drop = (forth: boolean, table = "guard", chain = "c", handle: string | null = "7") => ({
  drops: [{ family: "inet", table, chain, handle, comment: null, forth }],
});
/** The near side's sightings as far as the probe came, without an answer. */
const lost = (text: string, answer: Partial<Evidence> = {}): Partial<Evidence> => ({
  ...near({ seen: seen(text) }),
  ...answer,
});
const ARP_OUT = "inside-arp-out port-arp-in overlay-arp-out";
const noArp = { neighbour: { address: DB, mac: null, failed: true } };

const CASES: [string, Partial<Evidence>, string, string][] = [
  ["container gone", { near: { ...NEAR, end: null } }, "hosta source", "has gone"],
  ["link down", near({}, { inside: { ...END.inside, up: false } }), "hosta link", "eth0 is down"],
  ["no route", near({}, { route: null }), "hosta route", "no route"],
  [
    "other link",
    near({}, { route: { link: "eth1", gateway: null, source: null } }),
    "hosta route",
    "by eth1",
  ],
  [
    "gateway on link",
    near({}, { route: { link: "eth0", gateway: "10.32.0.9", source: null } }),
    "hosta route",
    "on the link itself",
  ],
  [
    "gateway dead",
    near(
      {},
      {
        inside: { ...END.inside, addresses: ["10.32.0.1/16"] },
        route: { link: "eth0", gateway: "10.32.0.9", source: null },
        neighbour: { address: "10.32.0.9", mac: null, failed: true },
      },
    ),
    "hosta route",
    "gateway 10.32.0.9, which does not answer",
  ],
  ["refused", { ...lost(""), refused: "Operation not permitted" }, "hosta route", "Operation not permitted"],
  [
    "poisoned",
    near({}, { neighbour: { address: DB, mac: "02:00:00:00:00:99", failed: false } }),
    "hosta arp",
    "ARP cache has 02:",
  ],
  ["port down", near({}, { port: { ...END.port, up: false, carrier: false } }), "hosta port", "is down"],
  [
    "port elsewhere",
    near({}, { port: { ...END.port, bridge: "docker0" } }),
    "hosta port",
    "on bridge docker0",
  ],
  ["port alone", near({}, { port: { ...END.port, bridge: null } }), "hosta port", "on no bridge"],
  ["lost in the veth", lost("inside-probe-out"), "hosta port", "does not arrive"],
  [
    "spoofed",
    near(
      { seen: seen("inside-probe-out port-probe-in") },
      { dropped: { spoofed: 3, protocol: 0, flood: 0 } },
    ),
    "hosta port",
    "anti-spoofing",
  ],
  ["rule", near({ ...drop(true) }), "hosta firewall", "table inet guard, chain c, rule 7"],
  ["policy of a chain", near({ ...drop(true, "guard", "c", null) }), "hosta firewall", "chain c, policy"],
  ["egress", near({ ...drop(true, "weave-npc", "blocked-egress") }), "hosta policy", `deny egress of ${WEB}`],
  ["unknown pod", near({ ...drop(true, "weave-npc", "postrouting") }), "hosta policy", "does not know"],
  ["programs gone", near({ forward: null }), "hosta forward", "missing"],
  ["stale MAC", near({ forward: { peer: 3, hop: "10.99.0.3" } }), "hosta forward", "at hostc, but"],
  ["no hop", near({ forward: { peer: 2, hop: null } }), "hosta forward", "no way to hostb"],
  [
    "lost in the bridge",
    lost("inside-probe-out port-probe-in", far({ seen: [] })),
    "hosta forward",
    "does not leave",
  ],
  [
    "no connection",
    { target: { kind: "peer", nickname: "hostb", shortId: 2, tunnel: undefined } },
    " tunnel",
    "not connected",
  ],
  [
    "pending",
    { target: { kind: "peer", nickname: "hostb", shortId: 2, tunnel: { ...TUNNEL, state: "pending" } } },
    " tunnel",
    "is pending",
  ],
  [
    "lost on the way",
    { ...lost("inside-probe-out port-probe-in overlay-probe-out"), ...far({ seen: [] }) },
    " tunnel",
    "does not arrive at hostb",
  ],
  [
    "destination gone",
    { ...lost(ARP_OUT), far: { ...FAR, end: null, seen: seen("overlay-arp-in") } },
    "hostb container",
    "no container here",
  ],
  ["far rule", far({ ...drop(true) }), "hostb firewall", "guard"],
  [
    "ingress",
    far({ ...drop(true, "weave-npc", "blocked-ingress") }),
    "hostb policy",
    `deny ingress of ${DB}`,
  ],
  ["far port down", far({}, { port: { ...FAR_END.port, up: false } }), "hostb port", "is down"],
  ["far port elsewhere", far({}, { port: { ...FAR_END.port, bridge: null } }), "hostb port", "on no bridge"],
  ["lost in the far bridge", far({ seen: seen("overlay-probe-in") }), "hostb port", "does not leave it"],
  ["far link down", far({}, { inside: { ...FAR_END.inside, up: false } }), "hostb inside", "eth0 is down"],
  [
    "lost in the far veth",
    far({ seen: seen("overlay-probe-in port-probe-out") }),
    "hostb inside",
    "does not arrive",
  ],
  [
    "no ARP there",
    {
      ...near({ seen: seen(ARP_OUT) }, noArp),
      ...far({ seen: seen("overlay-arp-in port-arp-out inside-arp-in") }),
    },
    "hostb inside",
    "does not answer",
  ],
  [
    "ARP lost",
    { ...near({ seen: seen(ARP_OUT) }, noArp), ...far({ seen: [] }) },
    " tunnel",
    "does not arrive",
  ],
  [
    "no answer",
    {
      ...lost("inside-probe-out port-probe-in overlay-probe-out"),
      ...far({ seen: seen("overlay-probe-in port-probe-out inside-probe-in") }),
    },
    "hostb answer",
    "sends no echo reply",
  ],
  [
    "no way back",
    {
      ...lost("inside-probe-out port-probe-in overlay-probe-out"),
      ...far({ seen: seen("overlay-probe-in port-probe-out inside-probe-in") }, { route: null }),
    },
    "hostb answer",
    "has no route",
  ],
  [
    "poisoned there",
    {
      ...lost("inside-probe-out port-probe-in overlay-probe-out"),
      ...far(
        { seen: seen("overlay-probe-in port-probe-out inside-probe-in") },
        { neighbour: { address: WEB, mac: "02:00:00:00:00:99", failed: false } },
      ),
    },
    "hostb answer",
    "its ARP cache has 02:00:00:00:00:99",
  ],
  [
    "answer dropped",
    { ...lost("inside-probe-out port-probe-in overlay-probe-out"), ...far({ ...drop(false) }) },
    "hostb answer",
    "drops the answer",
  ],
  [
    "answer lost",
    { ...lost("inside-probe-out port-probe-in overlay-probe-out"), ...far({}) },
    " answer",
    "lost between hostb and hosta",
  ],
  [
    "refused",
    lost("inside-probe-out port-probe-in overlay-probe-out inside-refused-in"),
    " answer",
    "nothing listens",
  ],
  ["large", { large: { bytes: 1500, outcome: "lost" } }, " size", "packets of 1500 bytes"],
];

describe("a path stops at", () => {
  test.each(CASES)("%s", (_name, change, hop, found) => {
    const hops = pathOf({ ...GOOD, ...change });
    const last = hops.at(-1);
    expect(`${last?.host} ${last?.name}`).toBe(hop);
    expect(last?.found).toContain(found);
    expect(last?.advice ?? "").not.toBe("");
    expect(hops.filter(({ state }) => state === "fail")).toHaveLength(1);
    expect(reached(hops)).toBe(false);
  });

  test("nothing, where all is well", () => {
    const hops = pathOf(GOOD);
    expect(hops.map(({ state }) => state)).toEqual(hops.map(() => "ok"));
    expect(reached(hops)).toBe(true);
  });

  test("nothing, where the container is told to send smaller packets", () => {
    const hops = pathOf({ ...GOOD, large: { bytes: 1376, outcome: "told" } });
    expect(hops.at(-1)).toMatchObject({
      name: "size",
      state: "ok",
      found: expect.stringContaining("is told"),
    });
  });

  test("the answer alone, where the other side cannot be looked at", () => {
    const target = { kind: "peer", nickname: "old", shortId: 2, tunnel: TUNNEL, unseen: "runs 2.x" } as const;
    const hops = pathOf({ ...GOOD, far: undefined, target });
    expect(hops.map(({ name, state }) => `${name} ${state}`)).toContain("look unknown");
    expect(reached(hops)).toBe(true);
    const silent = pathOf({
      ...GOOD,
      ...lost("inside-probe-out port-probe-in overlay-probe-out"),
      far: undefined,
      target,
    });
    expect(silent.at(-1)).toMatchObject({ name: "answer", state: "fail" });
  });
});

test("80 columns, whatever a host is called and a rule says", () => {
  const outcome = {
    from: { name: "web", address: WEB, host: "a".repeat(60) },
    to: { name: "\u001b[2Jdb", address: DB, host: "b".repeat(60) },
    protocol: "icmp",
    port: 0,
    reached: false,
  } as const;
  for (const [, change] of CASES) {
    const text = traceText({ ...outcome, hops: pathOf({ ...GOOD, here: "a".repeat(60), ...change }) });
    // A word that is longer than the column stays whole, alone on its line.
    const long = text.split("\n").filter((line) => line.length > 80 && line.trim().includes(" "));
    expect(long).toEqual([]);
    expect(text).not.toContain("\u001b");
  }
});

describe("frames", () => {
  /** The probe, or its answer, as a frame. */
  function frame(probe: Probe, payload: Uint8Array, back = false, tag = 0): Uint8Array {
    const ip = new Uint8Array(20);
    ip[0] = 0x45;
    ip[9] = { icmp: 1, tcp: 6, udp: 17 }[probe.protocol];
    ip.set(ipv4Octets(back ? probe.destination : probe.source), 12);
    ip.set(ipv4Octets(back ? probe.source : probe.destination), 16);
    const ethernet = new Uint8Array(14);
    ethernet.set([8, 0], 12);
    return Buffer.concat([new Uint8Array(tag), ethernet, ip, payload]);
  }

  test("of a probe and its answers are known, also behind sleeve's tag", () => {
    for (const protocol of ["icmp", "tcp", "udp"] as const) {
      const probe = { ...PROBE, protocol, port: protocol === "icmp" ? 0 : 80 };
      const sent = probePayload(probe, 1);
      expect(signOf(frame(probe, sent), probe)).toBe("probe");
      expect(signOf(frame(probe, sent, false, 4), probe)).toBe("probe");
      expect(signOf(frame(probe, sent), { ...probe, id: 78 })).toBeUndefined();
      const answer = sent.slice();
      if (protocol === "icmp") answer[0] = 0;
      else answer.set([sent[2] ?? 0, sent[3] ?? 0, sent[0] ?? 0, sent[1] ?? 0]);
      if (protocol === "tcp") answer[13] = 0x12;
      expect(signOf(frame(probe, answer, true), probe)).toBe("answer");
      if (protocol === "tcp") answer[13] = 0x14;
      expect(signOf(frame(probe, answer, true), probe)).toBe(protocol === "tcp" ? "refused" : "answer");
    }
  });

  test("a UDP port that nobody listens on is refused by ICMP that quotes the probe", () => {
    const probe = { ...PROBE, protocol: "udp", port: 53 } as const;
    const quoted = frame(probe, probePayload(probe, 1)).subarray(14);
    const icmp = Buffer.concat([Uint8Array.of(3, 3, 0, 0, 0, 0, 0, 0), quoted]);
    expect(signOf(frame({ ...probe, protocol: "icmp" }, icmp, true), probe)).toBe("refused");
    icmp[1] = 4;
    expect(signOf(frame({ ...probe, protocol: "icmp" }, icmp, true), probe)).toBe("too-large");
  });

  test("of strangers are none, and never throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
        const sign = signOf(bytes, PROBE);
        expect(sign === undefined || sign === "arp").toBe(true);
      }),
    );
  });

  test("the payload is as large as asked, and its checksum right", () => {
    const sum = (bytes: Uint8Array) => {
      let total = 0;
      for (let i = 0; i < bytes.length; i += 2) total += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
      return (total & 0xffff) + (total >>> 16);
    };
    const payload = probePayload(PROBE, 5, 1376);
    expect(payload).toHaveLength(1356);
    expect(sum(payload) & 0xffff).toBe(0xffff);
  });
});

describe("questions of other routers", () => {
  const unused = () => Promise.reject(new Error("not to be asked"));
  const look = { kind: "look", source: WEB, destination: DB, protocol: "icmp", port: 0, id: 7, ms: 10 };

  test.each([
    [undefined],
    [{}],
    [{ kind: "write" }],
    [{ kind: "locate", name: "" }],
    [{ kind: "locate", name: "x".repeat(257) }],
    [{ ...look, ms: 5001 }],
    [{ ...look, ms: -1 }],
    [{ ...look, source: "10.32.0.300" }],
    [{ ...look, protocol: "sctp" }],
    [{ ...look, port: 65_536 }],
    [{ ...look, id: 1.5 }],
  ])("%j is refused before anything is looked at", async (body) => {
    await expect(traceAnswerer(unused, [])(body)).rejects.toThrow(
      "a trace question that this version does not know",
    );
  });

  test("a few are answered at a time, and others after them", async () => {
    const pending: ((error: Error) => void)[] = [];
    const api = () => new Promise<string>((_resolve, reject) => pending.push(reject));
    const answerer = traceAnswerer(api, []);
    const first = Array.from({ length: MAX_LOOKS }, () => answerer(look));
    await expect(answerer(look)).rejects.toThrow("traces are being answered");
    const ended = Promise.allSettled(first);
    for (const each of pending.splice(0)) each(new Error("router stopping"));
    expect((await ended).map(({ status }) => status)).toEqual(first.map(() => "rejected"));
    const next = answerer(look);
    pending[0]?.(new Error("still stopping"));
    await expect(next).rejects.toThrow("still stopping");
  });

  test("the longest that a host can have is taken", () => {
    const [ADDRESS, LINK] = ["255.255.255.255", "l".repeat(15)];
    const longest: EndState = {
      id: "c".repeat(256),
      inside: {
        ...{ name: LINK, up: true, carrier: true, mtu: 0xffff_ffff, mac: "ff:ff:ff:ff:ff:ff" },
        addresses: Array(256).fill(`${ADDRESS}/32`),
      },
      port: { name: LINK, up: true, carrier: true, mtu: 0xffff_ffff, bridge: LINK, bound: true },
      route: { link: LINK, gateway: ADDRESS, source: ADDRESS },
      neighbour: { address: ADDRESS, mac: "ff:ff:ff:ff:ff:ff", failed: true },
      dropped: { spoofed: 2 ** 53, protocol: 2 ** 53, flood: 2 ** 53 },
    };
    const rule = {
      ...{ family: "netdev", table: "t".repeat(256), chain: "c".repeat(256), forth: true },
      ...{ handle: String(2n ** 64n - 1n), comment: "x".repeat(256) },
    };
    const side: Side = {
      ...FAR,
      end: longest,
      seen: Array.from({ length: 64 }, () => ({ ...(FAR.seen[0] as Seen), link: LINK })),
      drops: Array.from({ length: 16 }, () => rule),
      unfiltered: "x".repeat(256),
      forward: { peer: 4_095, hop: ADDRESS },
    };
    expect(v.parse(Side, JSON.parse(JSON.stringify(side)))).toEqual(side);
  });

  test("answers beyond their bounds are not taken", () => {
    expect(v.is(Side, FAR)).toBe(true);
    expect(v.is(Side, { ...FAR, seen: Array(65).fill(FAR.seen[0]) })).toBe(false);
    expect(v.is(Side, { ...FAR, unfiltered: "x".repeat(257) })).toBe(false);
    expect(v.is(Side, { ...FAR, drops: Array(17).fill(drop(true).drops[0]) })).toBe(false);
    expect(
      v.is(Side, { ...FAR, end: { ...FAR_END, neighbour: { address: "x", mac: null, failed: true } } }),
    ).toBe(false);
  });
});

test("comments of rules are read whatever user data there is", () => {
  expect(commentIn(Buffer.from("\0\x04abc\0", "latin1"))).toBe("abc");
  expect(commentIn(Buffer.from("\x05\x01x\0\x02ab", "latin1"))).toBe("ab");
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => void commentIn(bytes)));
});

test("broadcasts to many containers of a host leave room for sightings on the path", () => {
  const sightings = new Sightings();
  const arp = (link: string): Seen => ({ point: "elsewhere", sign: "arp", out: true, link });
  for (let port = 0; port < 200; port++) sightings.add(arp(`${port}`));
  const path = seen("inside-arp-out port-arp-in overlay-arp-out inside-probe-out");
  for (const each of [...path, ...path]) sightings.add(each);
  expect(sightings.all).toEqual([arp("0"), ...path]);
  for (let link = 0; link < 200; link++) sightings.add({ ...arp(`${link}`), point: "overlay" });
  expect(sightings.all).toHaveLength(64);
});
