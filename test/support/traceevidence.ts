// What a trace sees between two containers on two hosts whose probes and answers pass: tests take something away.
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import type { Evidence, Tunnel } from "../../lib/trace/hops/hop.ts";
import type { Probe } from "../../lib/trace/probe.ts";
import type { EndState, Seen, Side } from "../../lib/trace/side.ts";

export const WEB = "10.32.0.1";
export const DB = "10.40.0.3";
export const MAC = "5e:00:00:00:00:03";
export const PROBE: Probe = {
  source: parseIPv4(WEB),
  destination: parseIPv4(DB),
  protocol: "icmp",
  port: 0,
  id: 77,
};

export const seen = (text: string): Seen[] =>
  text
    .split(" ")
    .filter(Boolean)
    .map((each) => {
      const [point, sign, way] = each.split("-");
      return { point, sign, out: way === "out", link: "l" } as Seen;
    });

export const END: EndState = {
  id: "web",
  inside: {
    name: "eth0",
    up: true,
    carrier: true,
    mtu: 1376,
    mac: "5e:00:00:00:00:01",
    addresses: [`${WEB}/12`],
  },
  port: { name: "vethweplweb", up: true, carrier: true, mtu: 1376, bridge: "weave", bound: false },
  route: { link: "eth0", gateway: null, source: WEB },
  neighbour: { address: DB, mac: MAC, failed: false },
  dropped: { spoofed: 0, protocol: 0, flood: 0 },
};
export const FAR_END: EndState = {
  ...END,
  id: "db",
  inside: { ...END.inside, mac: MAC, addresses: [`${DB}/12`] },
  port: { ...END.port, name: "vethwepldb" },
  route: { link: "eth0", gateway: null, source: DB },
  neighbour: { address: WEB, mac: "5e:00:00:00:00:01", failed: false },
};
export const NEAR: Side = {
  end: END,
  exposed: false,
  seen: seen(
    "inside-probe-out port-probe-in overlay-probe-out overlay-answer-in port-answer-out inside-answer-in",
  ),
  drops: [],
  unfiltered: null,
  policies: null,
  forward: { peer: 2, hop: "10.99.0.2" },
};
export const FAR: Side = {
  ...NEAR,
  end: FAR_END,
  seen: seen(
    "overlay-probe-in port-probe-out inside-probe-in inside-answer-out port-answer-in overlay-answer-out",
  ),
};
export const TUNNEL: Tunnel = {
  neighbour: "hostb",
  port: 7000,
  state: "established",
  overlay: "fastdp",
  mtu: 1376,
  encrypted: false,
  reason: null,
  remedy: null,
};
export const GOOD: Evidence = {
  probe: PROBE,
  here: "hosta",
  near: NEAR,
  far: FAR,
  target: { kind: "peer", nickname: "hostb", shortId: 2, tunnel: TUNNEL },
  nicknames: new Map([
    [1, "hosta"],
    [2, "hostb"],
    [3, "hostc"],
  ]),
  refused: undefined,
  large: { bytes: 1376, outcome: "passed" },
  policy: undefined,
};

export const near = (change: Partial<Side>, end: Partial<EndState> = {}): Partial<Evidence> => ({
  near: { ...NEAR, end: { ...END, ...end }, ...change },
});
export const far = (change: Partial<Side>, end: Partial<EndState> = {}): Partial<Evidence> => ({
  far: { ...FAR, end: { ...FAR_END, ...end }, ...change },
});
