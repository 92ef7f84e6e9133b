// Questions and answers between routers for a trace: read-only, and a few at a time.
import * as v from "valibot";
import { formatIPv4, type IPv4, parseCidr, parseIPv4 } from "../address/ipv4.ts";
import type { ApiClient } from "../api/client.ts";
import { systemClock } from "../clock/clock.ts";
import { bridgeAddresses } from "../host/bridge.ts";
import { AskError } from "../mesh/ask.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { locate } from "./locate.ts";
import { look } from "./look.ts";
import { type Place, placeAt, placeOf, places } from "./places.ts";
import { PROTOCOLS } from "./probe.ts";
import { hasAnswer, hasSeen, type Seen, type Side } from "./side.ts";

export const TRACE_SUBJECT = "trace";

/** Time-outs of a look, in ms. */
export const LOOK_MS = 2_000;
const MAX_LOOK_MS = 5_000;
/** Traces that are answered at a time. */
export const MAX_LOOKS = 4;

const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535));
const address = v.pipe(v.string(), v.ipv4());

export const TraceQuestion = v.variant("kind", [
  /** Which container is this, by its address, ID or name? */
  v.object({ kind: v.literal("locate"), name: v.pipe(v.string(), v.minLength(1), v.maxLength(256)) }),
  /** What is captured of this probe? */
  v.object({
    kind: v.literal("look"),
    source: address,
    destination: address,
    protocol: v.picklist(PROTOCOLS),
    port,
    id: port,
    ms: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MAX_LOOK_MS)),
  }),
]);
export type TraceQuestion = v.InferInput<typeof TraceQuestion>;

export const Located = v.object({
  container: v.nullable(v.object({ id: v.pipe(v.string(), v.maxLength(256)), address })),
});
export type Located = v.InferOutput<typeof Located>;

/** Return what answers a router's questions; `runtimes` are the sockets of Docker and podman. */
export function traceAnswerer(
  api: ApiClient,
  runtimes: readonly string[],
): (body: unknown) => Promise<Located | Side> {
  let looks = 0;
  return async (body) => {
    const asked = v.safeParse(TraceQuestion, body);
    if (!asked.success) throw new Error("a trace question that this version does not know");
    const question = asked.output;
    if (question.kind === "locate")
      return { container: (await locate(api, runtimes, question.name)) ?? null };
    if (looks >= MAX_LOOKS) throw new AskError("busy", `${MAX_LOOKS} traces are being answered; try again`);
    looks++;
    try {
      return await answerLook(api, question);
    } finally {
      looks--;
    }
  };
}

async function answerLook(
  api: ApiClient,
  { ms, ...asked }: Extract<TraceQuestion, { kind: "look" }>,
): Promise<Side> {
  const [source, destination] = [parseIPv4(asked.source), parseIPv4(asked.destination)];
  const { protocol, port: number, id } = asked;
  const probe = { source, destination, protocol, port: number, id };
  const known = await knownPlaces(api);
  using host = new NetlinkSocket(NETLINK_ROUTE);
  const place = findPlace(host, known, destination);
  const exposed = bridgeAddresses(host).some((cidr) => cidr.address === destination);
  const done = (seen: readonly Seen[]) => {
    const arrived = place ? hasSeen(seen, "inside", "probe", false) : seen.length > 0;
    return arrived && ((!place && !exposed) || hasAnswer(seen, "overlay", true));
  };
  return await look({ address: destination, place, probe, rules: true, done }, systemClock, ms);
}

const Containers = v.array(v.object({ Netns: v.string(), Port: v.string(), Addresses: v.array(v.string()) }));

type Known = v.InferOutput<typeof Containers>;

/** Return where containers are, from the router's report. */
async function knownPlaces(api: ApiClient): Promise<Known> {
  const format = encodeURIComponent("{{json .Containers}}");
  return v.parse(Containers, JSON.parse(await api("GET", `/report?format=${format}`)));
}

/** A container that was just attached is not known yet, or without its address; a full scan would take long. */
function findPlace(host: NetlinkSocket, known: Known, address: IPv4): Place | undefined {
  const found = known.find(({ Addresses }) => Addresses.some((cidr) => parseCidr(cidr).address === address));
  if (found) return placeAt(host, { port: found.Port, netns: found.Netns });
  const others = known.filter(({ Addresses }) => Addresses.length > 0).map(({ Port }) => Port);
  return placeOf(places(host, new Set(others)), address);
}

/** Return the question about a probe to another host's container. */
export function lookQuestion(probe: Parameters<typeof look>[0]["probe"], ms: number): TraceQuestion {
  const { source, destination } = probe;
  return {
    ...probe,
    kind: "look",
    source: formatIPv4(source),
    destination: formatIPv4(destination),
    ms,
  };
}
