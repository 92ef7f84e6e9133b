// One trace: find the ends, watch both, send probes until there is an answer or it is late, and judge.
import * as v from "valibot";
import { formatIPv4 } from "../address/ipv4.ts";
import type { Report } from "../api/report.ts";
import { type Clock, every, type Timer } from "../clock/clock.ts";
import { below, type Random } from "../clock/random.ts";
import { POLICY_TABLE } from "../host/names.ts";
import { detached } from "../log/unexpected.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { reasonOf } from "../sys/reason.ts";
import {
  askPeer,
  type Destination,
  findDestination,
  findSource,
  type Lookups,
  type Source,
  TraceError,
  unseenReason,
} from "./ends.ts";
import { endState, NOTHING_DROPPED } from "./endstate.ts";
import { type Evidence, fail, type Hop, type PolicyOpinion } from "./hops/hop.ts";
import { pathOf, reached } from "./hops/path.ts";
import { look } from "./look.ts";
import { type Place, placeOf, places } from "./places.ts";
import type { Probe, ProbeProtocol } from "./probe.ts";
import { LOOK_MS, lookQuestion } from "./question.ts";
import { sender } from "./send.ts";
import { hasAnswer, hasSeen, type Seen, Side, saw } from "./side.ts";
import { targetOf } from "./target.ts";

const SEND_MS = 100;
/** The other host may begin later; probes go on until it has ended, if that is later still. */
const MARGIN_MS = 500;
const LARGE_MS = 2_000;
const HOPELESS_MS = 100;
/** From the other end to this one: with sleeve, through two routers that may be busy. */
const ANSWER_MS = 1_000;
const FIRST_ID = 20_000;
const IDS = 40_000;

export interface Request {
  readonly from: string;
  readonly to: string;
  readonly protocol: ProbeProtocol;
  /** 0 for ICMP. */
  readonly port: number;
}

export interface Outcome {
  readonly from: { readonly name: string; readonly address: string; readonly host: string };
  readonly to: { readonly name: string; readonly address: string; readonly host: string | null };
  readonly protocol: ProbeProtocol;
  readonly port: number;
  readonly reached: boolean;
  readonly hops: readonly Hop[];
}

export interface Tools extends Lookups {
  readonly clock: Clock;
  readonly random: Random;
  /** Probes begin; they may take this long, in ms. */
  probing(ms: number): void;
  /** What the policies of the cluster say; undefined where they are not known. */
  policy(probe: Probe): Promise<PolicyOpinion | undefined>;
}

/** Traces; rejects with TraceError for ends that are not there, and as the API's client does. */
export async function trace(request: Request, tools: Tools): Promise<Outcome> {
  const report = JSON.parse(await tools.api("GET", "/report", { accept: "application/json" })) as Report;
  const source = await findSource(tools, report, request.from);
  const destination = await findDestination(tools, report, request.to);
  if (destination.address === source.address) throw new TraceError("FROM and TO are the same container");
  const { where } = destination;
  const here = report.Router.NickName;
  const hops =
    where.kind === "nowhere"
      ? [fail("", "address", where.why, "'weave ps' on each host, 'weave status dns' for names")]
      : pathOf(await gather(request, tools, report, source, destination));
  return {
    from: { name: request.from, address: formatIPv4(source.address), host: here },
    to: {
      name: request.to,
      address: formatIPv4(destination.address),
      host: where.kind === "nowhere" ? null : where.kind === "here" ? here : where.nickname,
    },
    protocol: request.protocol,
    port: request.port,
    reached: reached(hops),
    hops,
  };
}

async function gather(
  { protocol, port }: Request,
  tools: Tools,
  report: Report,
  source: Source,
  { address, where }: Destination,
): Promise<Evidence> {
  using host = new NetlinkSocket(NETLINK_ROUTE);
  const all = places(host);
  const place = placeOf(all, source.address);
  if (!place)
    throw new TraceError(
      `the link of container ${source.id.slice(0, 12)} with ${formatIPv4(source.address)} is gone; start it again`,
    );
  const id = FIRST_ID + below(tools.random, IDS);
  const probe: Probe = { source: source.address, destination: address, protocol, port, id };
  const ms = isHopeless(host, place, probe) ? HOPELESS_MS : LOOK_MS;
  tools.probing(ms + MARGIN_MS);
  const lookThere = () =>
    where.kind === "peer"
      ? askLook(tools, where.name, probe, ms)
      : lookHere(tools, placeOf(all, address), probe, ms);
  const watched = await watch(tools, place, probe, ms, lookThere);
  const { near, refused, other } = watched;
  const far = typeof other === "string" ? undefined : other;
  const unseen = typeof other === "string" ? other : undefined;
  const answered = saw(near, "inside", "answer", false);
  const bytes = near.end?.inside.mtu ?? 0;
  const large =
    answered && bytes > 0
      ? { bytes, outcome: await sendLarge(tools, place, { ...probe, id: id + 1 }, bytes) }
      : undefined;
  const denied = [near, far].some((side) => side?.drops.some(({ table }) => table === POLICY_TABLE));
  return {
    probe,
    here: report.Router.NickName,
    near,
    far,
    target: where.kind === "peer" ? targetOf(report, where, unseen) : { kind: "here" },
    nicknames: new Map(report.Router.Peers.map(({ ShortID, NickName }) => [ShortID, NickName])),
    refused,
    large,
    policy: denied ? await tools.policy(probe) : undefined,
  };
}

/** Whether no probe can leave the container: there is nothing to wait for. */
function isHopeless(host: NetlinkSocket, place: Place, { destination }: Probe): boolean {
  const { inside, route } = endState(host, place, destination, NOTHING_DROPPED);
  return !inside.up || !inside.carrier || route === null || route.link !== inside.name;
}

/** What the other side has seen, or why it could not be looked at. */
type Other = Promise<Side | string>;

async function askLook({ api }: Tools, peer: string, probe: Probe, ms: number): Other {
  try {
    return v.parse(Side, await askPeer(api, peer, lookQuestion(probe, ms)));
  } catch (error) {
    return unseenReason(error);
  }
}

/** The destination is on this host: its side is looked at here, the rules by the source's. */
async function lookHere({ clock }: Tools, place: Place | undefined, probe: Probe, ms: number): Other {
  const done = (seen: readonly Seen[]) => (place ? hasAnswer(seen, "inside", true) : seen.length > 0);
  return look({ address: probe.destination, place, probe, rules: false, done }, clock, ms);
}

/** `lookThere` is called once probes that are sent are seen here. */
async function watch(
  { clock }: Tools,
  place: Place,
  probe: Probe,
  ms: number,
  lookThere: () => Other,
  size = 0,
) {
  let other: Side | string | undefined;
  let patientUntil = Number.POSITIVE_INFINITY;
  const ask = async () => {
    other = await lookThere().catch((error: unknown) => `its side cannot be examined: ${reasonOf(error)}`);
    // That end has seen all there is to see; an answer may be on its way.
    if (typeof other !== "string") patientUntil = clock.now() + ANSWER_MS;
  };
  let refused: string | undefined;
  let timer: Timer | undefined;
  const sending = sender(place.container.netns, probe, size);
  let sequence = 0;
  const send = () => {
    refused = sending.send(++sequence);
  };
  const answered = (seen: readonly Seen[]) =>
    hasAnswer(seen, "inside", false) || hasSeen(seen, "inside", "too-large", false);
  try {
    const near = await look(
      {
        address: probe.source,
        probe,
        place,
        rules: true,
        done: (seen) => other !== undefined && (answered(seen) || clock.now() > patientUntil),
        waits: () => other === undefined || (typeof other !== "string" && clock.now() <= patientUntil),
        begun() {
          detached("the look at the other end", ask());
          send();
          timer = every(clock, SEND_MS, send);
        },
      },
      clock,
      ms + MARGIN_MS,
    );
    return { near, refused, other: other ?? "its router does not answer" };
  } finally {
    timer?.cancel();
    sending.close();
  }
}

/** What becomes of a probe as large as that. */
async function sendLarge(
  tools: Tools,
  place: Place,
  probe: Probe,
  bytes: number,
): Promise<"passed" | "told" | "lost"> {
  const nobody = async () => "no router to ask";
  const { near } = await watch(tools, place, probe, LARGE_MS - MARGIN_MS, nobody, bytes);
  if (saw(near, "inside", "answer", false)) return "passed";
  return saw(near, "inside", "too-large", false) ? "told" : "lost";
}
