// What each hop of a trace says and advises, word for word, at the turns of its decisions.
import { describe, expect, test } from "bun:test";
import type { Evidence, Hop, Tunnel } from "../../lib/trace/hops/hop.ts";
import { pathOf, reached } from "../../lib/trace/hops/path.ts";
import type { Probe } from "../../lib/trace/probe.ts";
import type { EndState } from "../../lib/trace/side.ts";
import {
  DB,
  END,
  FAR,
  FAR_END,
  far,
  GOOD,
  MAC,
  near,
  PROBE,
  seen,
  TUNNEL,
  WEB,
} from "../support/traceevidence.ts";

/** The near side's sightings as far as the probe came, without an answer. */
const lost = (text: string, answer: Partial<Evidence> = {}): Partial<Evidence> => ({
  ...near({ seen: seen(text) }),
  ...answer,
});
const ARP_OUT = "inside-arp-out port-arp-in overlay-arp-out";
const noArp = { neighbour: { address: DB, mac: null, failed: true } };

const path = (change: Partial<Evidence>) => pathOf({ ...GOOD, ...change });
const line = ({ host, name, state, found }: Hop) => `${host} ${name} ${state}: ${found}`;
const hop = (change: Partial<Evidence>, name: string, host?: string) => {
  const found = path(change).find((each) => each.name === name && (host === undefined || each.host === host));
  return found === undefined ? undefined : [found.found, found.advice];
};
const tunnel = (change: Partial<Tunnel>, nickname = "hostb"): Partial<Evidence> => ({
  target: { kind: "peer", nickname, shortId: 2, tunnel: { ...TUNNEL, ...change } },
});

test("a path without a fault is told from end to end", () => {
  const hops = path({});
  expect(hops.filter(({ name }) => !["firewall", "policy", "rules"].includes(name)).map(line)).toEqual([
    "hosta link ok: eth0 is up, MTU 1376",
    `hosta route ok: ${DB} by eth0`,
    `hosta arp ok: ${DB} is at ${MAC}`,
    "hosta port ok: vethweplweb is up, on bridge weave",
    `hosta forward ok: ${MAC} -> hostb, by VXLAN to 10.99.0.2`,
    " tunnel ok: fastdp to hostb, MTU 1376",
    "hostb port ok: vethwepldb is up, on bridge weave",
    `hostb inside ok: eth0 is up, has ${DB}`,
    ` answer ok: echo reply from ${DB}`,
    " size ok: packets of 1376 bytes, its MTU, pass unfragmented",
  ]);
  expect(reached(hops)).toBe(true);
});

describe("the source", () => {
  test("has a gateway, a bound port and an entry of its own", () => {
    const off = { inside: { ...END.inside, addresses: ["10.32.0.1/16"] } };
    const by = { ...off, route: { link: "eth0", gateway: "10.32.0.9", source: null } };
    const answered = { neighbour: { address: "10.32.0.9", mac: MAC, failed: false } };
    expect(hop(near({}, { ...by, ...answered }), "route")).toEqual([
      `${DB} by eth0, gateway 10.32.0.9`,
      undefined,
    ]);
    expect(hop(near({}, { ...by, ...answered }), "arp")?.[0]).toBe(`10.32.0.9 is at ${MAC}`);
    expect(hop(near({}, { ...by, neighbour: null }), "route")).toEqual([
      `${DB} goes to gateway 10.32.0.9, which does not answer`,
      `in the container: ip route del ${DB} via 10.32.0.9 dev eth0`,
    ]);
    expect(hop(near({}, { port: { ...END.port, bound: true } }), "port", "hosta")?.[0]).toEndWith(
      ", anti-spoofing on",
    );
    expect(hop(near({}, { neighbour: null }), "arp")?.[0]).toBe(`${DB} has answered`);
    expect(hop(near({}, { route: { link: "eth1", gateway: null, source: null } }), "route")?.[1]).toBe(
      `in the container: ip route del ${DB} dev eth1`,
    );
  });

  test("is not blamed for what the kernel refused, where the probe has left, nor for drops, where it got past", () => {
    expect(reached(path({ refused: "Message too long" }))).toBe(true);
    expect(reached(path(near({}, { dropped: { spoofed: 2, protocol: 1, flood: 0 } })))).toBe(true);
    const stuck = near(
      { seen: seen("inside-probe-out port-probe-in") },
      { dropped: { spoofed: 2, protocol: 1, flood: 9 } },
    );
    expect(hop(stuck, "port")?.[0]).toBe(
      "anti-spoofing at vethweplweb has dropped 3 frames: not from an address that is the container's",
    );
    const here = { target: { kind: "here" } as const, far: { ...FAR, seen: [] } };
    expect(hop({ ...stuck, ...here }, "port")?.[0]).toContain("dropped 3 frames");
    expect(hop(near({}, { port: { ...END.port, carrier: false } }), "port")).toEqual([
      "vethweplweb has no carrier",
      "in the container: ip link set eth0 up",
    ]);
  });

  test("whose ARP has no answer is the end only where nothing later fails", () => {
    const silent = { ...near({ seen: seen(ARP_OUT) }, noArp), large: undefined };
    const alone = path({
      ...silent,
      ...far({ seen: seen("overlay-arp-in port-arp-out inside-arp-in inside-arp-out") }),
    });
    expect([alone.at(-1)?.name, alone.at(-1)?.state]).toEqual(["arp", "fail"]);
    const later = path({ ...silent, ...far({ seen: [] }) });
    expect(later.filter(({ name }) => name === "arp" || name === "tunnel").map(line)).toEqual([
      `hosta arp unknown: ${DB} does not answer ARP: see below`,
      " tunnel fail: it leaves for hostb by fastdp, and does not arrive at hostb",
    ]);
    expect(later.find(({ name }) => name === "arp")?.advice).toBeUndefined();
  });
});

describe("between hosts", () => {
  test("the maps say where a frame goes", () => {
    expect(hop(near({ forward: { peer: 2, hop: "sleeve" } }), "forward")?.[0]).toBe(
      `${MAC} -> hostb, by sleeve`,
    );
    expect(hop(near({ forward: { peer: null, hop: null } }), "forward")?.[0]).toBe(
      "Ethernet address not known yet: to all hosts",
    );
    expect(hop(near({ forward: { peer: 9, hop: "10.0.0.9" } }), "forward")?.[0]).toContain(
      "at peer number 9, but",
    );
    // A peer whose number we do not know may be the other host.
    expect(
      hop(
        { ...near({ forward: { peer: 3, hop: "10.0.0.3" } }), nicknames: new Map([[3, "hostc"]]) },
        "forward",
      )?.[0],
    ).toBe(`${MAC} -> hostb, by VXLAN to 10.0.0.3`);
  });

  test("the tunnel has its overlay, who passes on, its MTU, encryption, and why it is not faster", () => {
    expect(hop(tunnel({ overlay: null, mtu: null, encrypted: true }), "tunnel")?.[0]).toBe(
      "no overlay to hostb, encrypted",
    );
    expect(hop(tunnel({ neighbour: "hostc", reason: "r".repeat(120) }), "tunnel")?.[0]).toBe(
      `fastdp to hostc, which passes it on to hostb, MTU 1376; not faster: ${"r".repeat(120)}`,
    );
    expect(hop(tunnel({ reason: "r".repeat(121) }), "tunnel")?.[0]).toEndWith(`${"r".repeat(120)}…`);
  });

  test.each([
    ["fastdp", 7001],
    ["sleeve", 7000],
  ])("a loss by %s names UDP port %d", (overlay, port) => {
    const on = {
      ...tunnel({ overlay }),
      ...lost("inside-probe-out port-probe-in overlay-probe-out"),
      ...far({ seen: [] }),
    };
    expect(hop(on, "tunnel")).toEqual([
      `it leaves for hostb by ${overlay}, and does not arrive at hostb`,
      `let UDP port ${port} pass between the hosts; 'weave status connections'`,
    ]);
  });

  test("a connection that there is not has its reason and remedy, or what to open", () => {
    expect(hop(tunnel({ state: "failed", reason: "refused", remedy: "start it" }), "tunnel")).toEqual([
      "connection to hostb is failed: refused",
      "start it",
    ]);
    expect(hop(tunnel({ state: "pending" }), "tunnel")).toEqual([
      "connection to hostb is pending: no answer yet",
      "let TCP and UDP port 7000 pass between the hosts, and UDP 7001 for speed",
    ]);
  });
});

describe("the destination", () => {
  test("may be the host itself, or where nobody can look", () => {
    expect(path({ far: { ...FAR, end: null, exposed: true } }).map(line)).toContain(
      `hostb host ok: ${DB} is the host's own address on the network`,
    );
    const unseen = { ...GOOD.target, unseen: "an older version" } as Evidence["target"];
    expect(path({ target: unseen, far: undefined }).map(line)).toContain(
      "hostb look unknown: an older version",
    );
    expect(reached(path({ target: unseen, far: undefined }))).toBe(true);
  });

  test("on this host has no overlay between, and its rules are looked at once", () => {
    const here = path({ target: { kind: "here" } });
    expect(here.filter(({ name }) => ["forward", "tunnel"].includes(name))).toEqual([]);
    expect(here.every(({ host }) => host !== "hostb")).toBe(true);
    expect(here.filter(({ name }) => name === "port").length).toBe(2);
  });

  test("without a carrier is down inside, or unplugged", () => {
    const port = { ...FAR_END.port, carrier: false };
    expect(hop(far({}, { port }), "port", "hostb")).toEqual([
      "vethwepldb has no carrier",
      "ip link set vethwepldb up",
    ]);
    expect(hop(far({}, { port, inside: { ...FAR_END.inside, up: false } }), "inside")?.[0]).toBe(
      "eth0 is down in the container",
    );
  });
});

describe("the answer", () => {
  const OUT = "inside-probe-out port-probe-in overlay-probe-out";
  const IN = "overlay-probe-in port-probe-out inside-probe-in";
  const on = (protocol: Probe["protocol"]) => ({ probe: { ...PROBE, protocol, port: 80 } });

  test.each([
    ["icmp", "echo reply"],
    ["tcp", "SYN-ACK"],
    ["udp", "answer"],
  ] as const)("to %s is called %s", (protocol, what) => {
    expect(hop(on(protocol), "answer")?.[0]).toBe(`${what} from ${DB}`);
    expect(
      hop(
        { ...on(protocol), ...lost(OUT), target: { ...GOOD.target, unseen: "x" } as never, far: undefined },
        "answer",
      ),
    ).toEqual([`no ${what} from ${DB}`, "look at the other host: 'weave status', 'weave ps'"]);
  });

  test("that is lost is followed from the other side", () => {
    const at = (text: string) => hop({ ...lost(OUT), ...far({ seen: seen(`${IN} ${text}`) }) }, "answer");
    const ways = [
      ["inside-answer-out port-answer-in overlay-answer-out", "between hostb and hosta"],
      ["inside-answer-out port-answer-in", "on hostb, behind its port of the bridge"],
      ["inside-answer-out", "on hostb, before its port of the bridge"],
      ["inside-refused-out port-refused-in", "on hostb, behind its port of the bridge"],
    ];
    for (const [text = "", where] of ways)
      expect(at(text)).toEqual([
        `${DB} answers, and the answer is lost ${where}`,
        `'weave trace ${DB} ${WEB}' on hostb follows that way`,
      ]);
  });

  test("to UDP is none that is needed; to others the container says why there is none", () => {
    const silent = (end: Partial<EndState> = {}) => ({ ...lost(OUT), ...far({ seen: seen(IN) }, end) });
    expect(path({ ...on("udp"), ...silent() }).map(line)).toContain(
      "hostb answer ok: the container received it; UDP needs no answer",
    );
    expect(hop(silent({ route: { link: "eth9", gateway: null, source: null } }), "answer")?.[0]).toBe(
      `${DB} received it and cannot answer: its route to ${WEB} goes by eth9, not by eth0`,
    );
    expect(hop(silent({ neighbour: { address: WEB, mac: null, failed: true } }), "answer")?.[0]).toBe(
      `${DB} received it and cannot answer: no ARP entry for ${WEB}`,
    );
    const gateway = { route: { link: "eth0", gateway: "10.40.0.1", source: null } };
    expect(
      hop(
        silent({ ...gateway, neighbour: { address: "10.40.0.1", mac: null, failed: true } }),
        "answer",
      )?.[0],
    ).toBe(`${DB} received it and cannot answer: no ARP entry for 10.40.0.1`);
    // The entry of a gateway is not the container's.
    expect(
      hop(
        silent({ ...gateway, neighbour: { address: "10.40.0.1", mac: "02:00:00:00:00:99", failed: false } }),
        "answer",
      )?.[0],
    ).toBe(`${DB} received it, and sends no echo reply`);
  });

  test.each<[number, "passed" | "told" | "lost", number | null, string, string | undefined]>([
    [
      1_500,
      "told",
      1_376,
      "packets of 1500 bytes are too large; the tunnel carries 1376; the container is told, and sends smaller ones",
      undefined,
    ],
    [
      1_500,
      "told",
      null,
      "packets of 1500 bytes are too large; the container is told, and sends smaller ones",
      undefined,
    ],
    [
      1_500,
      "lost",
      1_376,
      "packets of 1500 bytes, the MTU of eth0, are lost on the way; the tunnel carries 1376",
      " mtu 1376",
    ],
    [
      1_376,
      "lost",
      1_376,
      "packets of 1376 bytes, the MTU of eth0, are lost on the way; the tunnel carries 1376",
      " mtu BYTES",
    ],
    [1_376, "lost", null, "packets of 1376 bytes, the MTU of eth0, are lost on the way", " mtu BYTES"],
  ])("to packets of %d bytes that are %s over a tunnel of %p", (bytes, outcome, mtu, found, size) => {
    const advice = size && `in the container: ip link set eth0${size}; for new ones: weave launch --mtu`;
    expect(hop({ ...tunnel({ mtu }), large: { bytes, outcome } }, "size")).toEqual([found, advice]);
  });

  test("to large packets is not looked at where small ones have none", () => {
    expect(
      path({ ...lost(OUT), large: { bytes: 1_500, outcome: "lost" } }).some(({ name }) => name === "size"),
    ).toBe(false);
    expect(path({ large: undefined }).some(({ name }) => name === "size")).toBe(false);
  });
});
