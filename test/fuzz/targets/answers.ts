// Answers to this host's own questions: of other routers, printed for people, and of container runtimes.

import * as v from "valibot";
import { ApiError } from "../../../lib/api/client.ts";
import { endpointsOf, networkedContainer } from "../../../lib/container/networks.ts";
import { containerNames, findContainer, runningIds } from "../../../lib/container/runtime.ts";
import { diagnoseCluster } from "../../../lib/doctor/cluster.ts";
import { clusterText } from "../../../lib/doctor/clustertext.ts";
import { pathOf, reached } from "../../../lib/trace/hops/path.ts";
import { PROTOCOL_NUMBER, probePayload, signOf } from "../../../lib/trace/probe.ts";
import { Side } from "../../../lib/trace/side.ts";
import { traceText } from "../../../lib/trace/text.ts";
import { ipv4Frame } from "../../support/frames.ts";
import { type Decoder, encoded, inWays, jsonSeeds, type Target, textOf, wayOf } from "../target.ts";

/** What a terminal would take for more than text. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are looked for.
const CONTROL = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;

function printed(text: string): string {
  if (CONTROL.test(text)) throw new TypeError("a control character is printed");
  return text;
}

const PEERS = [
  { Name: "02:00:00:00:00:01", NickName: "h1" },
  { Name: "02:00:00:00:00:02", NickName: "h2" },
];
const REPORT = JSON.stringify({ Router: { ...PEERS[0], Peers: PEERS } });
const HEALTH = {
  version: "3.0.0",
  findings: [{ check: "links", level: "problem", found: "a link is down", advice: "set it up" }],
  more: 2,
};
const OVERLAY = {
  overlay: "fastdp",
  inUse: true,
  sent: 3,
  received: 3,
  roundTripMs: { min: 0.1, median: 0.2, max: 0.4 },
  mtu: 1376,
  problem: null,
  remedy: null,
};
const PINGS = [
  {
    peer: { name: "02:00:00:00:00:01", nickname: "h1" },
    overlays: [OVERLAY, { ...OVERLAY, overlay: "sleeve", problem: "no answer", remedy: "open UDP 6783" }],
    problem: null,
    remedy: null,
    note: null,
  },
];

/** Another router's health and pings, as `weave doctor --cluster` prints them. */
const peerAnswers = (): Decoder => ({
  seeds: jsonSeeds({ health: HEALTH, pings: PINGS }),
  format: "json",
  words: ["\u001b[2J", "\u009b", "\u202e"],
  async run(input) {
    let given: { readonly health?: unknown; readonly pings?: unknown } | null;
    try {
      given = JSON.parse(textOf(input));
    } catch {
      return undefined;
    }
    const found = await diagnoseCluster(async (_method, path) => {
      if (path === "/report") return REPORT;
      if (path.includes(PEERS[0]?.Name ?? "")) throw new ApiError(501, "not asked");
      return JSON.stringify((path.includes("/health") ? given?.health : given?.pings) ?? null);
    });
    return [found, printed(clusterText(found))];
  },
});

const LINK = { name: "eth0", up: true, carrier: true, mtu: 1376 };
const SIDE: Side = {
  end: {
    id: "a".repeat(64),
    inside: { ...LINK, mac: "02:00:00:00:00:01", addresses: ["10.32.0.1/12"] },
    port: { ...LINK, name: "vethwepl1", bridge: "weave", bound: true },
    route: { link: "eth0", gateway: null, source: "10.32.0.1" },
    neighbour: { address: "10.40.0.1", mac: "02:00:00:00:00:02", failed: false },
    dropped: { spoofed: 0, protocol: 0, flood: 0 },
  },
  exposed: false,
  seen: [
    { point: "inside", sign: "probe", out: true, link: "eth0" },
    { point: "port", sign: "probe", out: false, link: "vethwepl1" },
    { point: "overlay", sign: "probe", out: true, link: "vxlan-6784" },
    { point: "inside", sign: "answer", out: false, link: "eth0" },
  ],
  drops: [{ family: "inet", table: "t", chain: "c", handle: "7", comment: "x", forth: true }],
  unfiltered: null,
  policies: { ingress: true, egress: false, defaultDeny: false },
  forward: { peer: 2, hop: "192.168.0.2" },
};
const PROBE = { source: 0x0a200001, destination: 0x0a280001, protocol: "icmp", port: 0, id: 7 } as const;
const TUNNEL = {
  neighbour: "h2",
  port: 6783,
  state: "established",
  overlay: "fastdp",
  mtu: 1376,
  encrypted: false,
  reason: null,
  remedy: null,
};

/** The other side of a trace, as `weave trace` prints the path. */
const trace = (): Decoder => ({
  seeds: jsonSeeds(
    SIDE,
    { ...SIDE, drops: [], seen: [{ ...SIDE.seen[0], out: false }] },
    { ...SIDE, end: null },
  ),
  refuses: ["ValiError"],
  format: "json",
  run(input) {
    let json: unknown;
    try {
      json = JSON.parse(textOf(input));
    } catch {
      return undefined;
    }
    const far = v.parse(Side, json);
    const near = { ...SIDE, drops: [] };
    const target = { kind: "peer", nickname: "h2", shortId: 2, tunnel: TUNNEL } as const;
    const hops = pathOf({
      probe: PROBE,
      here: "h1",
      near,
      target,
      far,
      nicknames: new Map([[2, "h2"]]),
      refused: undefined,
      large: { bytes: 1376, outcome: "passed" },
      policy: undefined,
    });
    const ends = {
      from: { name: "a", address: "10.32.0.1", host: "h1" },
      to: { name: "b", address: "10.40.0.1", host: "h2" },
    };
    return printed(traceText({ ...ends, protocol: "icmp", port: 0, hops, reached: reached(hops) }));
  },
});

/** Frames that a trace captures: probes, answers, refusals with the probe in them, and what else is on the link. */
function traceFrames(): Decoder {
  const probes = (["icmp", "tcp", "udp"] as const).map(
    (protocol) => ({ ...PROBE, protocol, port: protocol === "icmp" ? 0 : 80 }) as const,
  );
  return {
    seeds: inWays(
      probes.length,
      probes.flatMap((probe) => {
        const sent = ipv4Frame(probePayload(probe, 1), { protocol: PROTOCOL_NUMBER[probe.protocol] });
        const unreachable = Buffer.concat([Uint8Array.of(3, 3, 0, 0, 0, 0, 0, 0), sent.subarray(14)]);
        const refusal = ipv4Frame(unreachable, { protocol: 1 });
        // From the destination.
        refusal.set(sent.subarray(30, 34), 26);
        refusal.set(sent.subarray(26, 30), 30);
        return [sent, refusal];
      }),
    ),
    run(input) {
      const [way, bytes] = wayOf(input, probes.length);
      const probe = probes[way];
      return probe && signOf(bytes, probe);
    },
  };
}

const ID = "a".repeat(64);
const INSPECTED = {
  Id: ID,
  Name: "/web",
  HostsPath: "/var/lib/docker/containers/x/hosts",
  State: { Running: true, Pid: 7 },
  Config: {
    Hostname: "web",
    Domainname: "weave.local",
    Env: ["WEAVE_CIDR=10.32.0.7/12", "PATH=/bin"],
    Labels: { "works.weave.cidr": "net:default" },
  },
  Image: "sha256:1",
  HostConfig: { NetworkMode: "bridge" },
  NetworkSettings: {
    Networks: { app: { EndpointID: "e", Aliases: ["db", "aaaaaaaaaaaa"] }, none: { Aliases: null } },
  },
  Components: [{ Name: "Engine" }],
  Containers: { [ID]: { EndpointID: "e" } },
  Names: ["/web"],
  Labels: { "io.kubernetes.pod.name": "p", "io.kubernetes.pod.namespace": "n" },
};
/** Any file that is there, in place of a socket. */
const SOCKETS = ["/dev/null"];
const QUESTIONS: readonly (() => Promise<unknown>)[] = [
  () => findContainer(SOCKETS, "web"),
  () => networkedContainer(SOCKETS, ID),
  () => endpointsOf(SOCKETS, ["weave"]),
  () => containerNames(SOCKETS),
  () => runningIds(SOCKETS),
];

/** Docker and podman answer every question alike. */
const docker = (): Decoder => ({
  seeds: inWays(QUESTIONS.length, jsonSeeds(INSPECTED, [INSPECTED])).concat(
    inWays(QUESTIONS.length, encoded("no such container")),
  ),
  refuses: ["ContainerError"],
  format: "text",
  words: [
    "null",
    "{}",
    "[]",
    '"Id":',
    '"Config":',
    '"Env":',
    "WEAVE_CIDR=",
    '"Labels":',
    '"__proto__":',
    "true",
  ],
  async run(input) {
    const [way, bytes] = wayOf(input, QUESTIONS.length);
    const { fetch } = globalThis;
    globalThis.fetch = Object.assign(async () => new Response(bytes.slice()), fetch);
    try {
      return await QUESTIONS[way]?.();
    } finally {
      globalThis.fetch = fetch;
    }
  },
});

export const ANSWER_TARGETS: readonly Target[] = [
  { name: "peer-answers", open: peerAnswers },
  { name: "trace-side", open: trace },
  { name: "trace-frames", open: traceFrames },
  { name: "docker-answers", open: docker },
];
