// All hosts of the network: ask each router over the mesh for its health, and to ping all others.
import * as v from "valibot";
import { type ApiClient, ApiError } from "../api/client.ts";
import { type Cluster, Pings, type Shape } from "../api/shapes.ts";
import { reasonOf } from "../sys/reason.ts";
import { HEALTH_SUBJECT, Health } from "./health.ts";

const PING_SUBJECT = "ping";
const HEALTH_MS = 8_000;
/** A run by all overlays to 48 peers, where some do not answer. */
const PING_MS = 28_000;
/** Routers asked at once. */
const AT_ONCE = 8;
/** Status of a question to a version without the channel or the doctor, and of one without an answer. */
const STATUS = { older: 501, silent: 504 } as const;

const Members = v.object({
  Router: v.object({
    Name: v.string(),
    NickName: v.string(),
    Peers: v.array(v.object({ Name: v.string(), NickName: v.string() })),
    Lost: v.optional(
      v.array(
        v.object({
          Name: v.string(),
          NickName: v.string(),
          Address: v.string(),
          Reason: v.string(),
        }),
      ),
      [],
    ),
  }),
});

const MAX_PINGS = 64;
const MAX_OVERLAYS = 4;
const MAX_TEXT = 512;
const short = (given: string | null) => given === null || given.length <= MAX_TEXT;

/** Pings of another router, bounded. */
const TheirPings = v.pipe(
  Pings,
  v.maxLength(MAX_PINGS),
  v.check((pings) =>
    pings.every(
      ({ peer, overlays, problem, remedy, note }) =>
        [peer.name, peer.nickname, problem, remedy, note].every(short) &&
        overlays.length <= MAX_OVERLAYS &&
        overlays.every((way) => [way.overlay, way.problem, way.remedy].every(short)),
    ),
  ),
);

type Host = Shape<typeof Cluster>["hosts"][number];
type Path = Shape<typeof Cluster>["paths"][number];
type Named = Host["peer"];

/** Ask all routers that can be reached. Reject where this host's own does not answer. */
export async function diagnoseCluster(api: ApiClient): Promise<Shape<typeof Cluster>> {
  const answer = await api("GET", "/report", { accept: "application/json" });
  const { Router } = v.parse(Members, JSON.parse(answer));
  const named = ({ Name, NickName }: { Name: string; NickName: string }) => ({
    name: Name,
    nickname: NickName,
  });
  const others = Router.Peers.filter(({ Name }) => Name !== Router.Name).map(named);
  const peers = [named(Router), ...others.sort((a, b) => (a.nickname < b.nickname ? -1 : 1))];
  const hosts = await inTurns(peers, (peer) => askHealth(api, peer));
  const asked = hosts.filter(({ state }) => state === "answers").map(({ peer }) => peer);
  const paths = await inTurns(asked, (peer) => askPings(api, peer));
  const lost = Router.Lost.map(lostHost);
  // A hanging peer may still list a lost one as connected.
  const known = hosts.map((host) =>
    host.state === "silent" ? (lost.find(({ peer }) => peer.name === host.peer.name) ?? host) : host,
  );
  const gone = lost.filter(({ peer }) => !peers.some(({ name }) => name === peer.name));
  return { hosts: [...known, ...gone], paths: paths.flat() };
}

function lostHost({
  Name,
  NickName,
  Address,
  Reason,
}: v.InferOutput<typeof Members>["Router"]["Lost"][number]): Host {
  return {
    ...unknown({ name: Name, nickname: NickName }, "lost"),
    problems: [
      {
        level: "problem",
        check: "peers",
        found: `not connected any more: ${Reason}`,
        advice: `start weave at ${Address.replace(/:\d+$/, "")} again, or 'weave rmpeer ${Name}' if it is gone for good`,
      },
    ],
  };
}

async function inTurns<T, R>(list: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let i = 0; i < list.length; i += AT_ONCE)
    results.push(...(await Promise.all(list.slice(i, i + AT_ONCE).map(work))));
  return results;
}

const ask = async (api: ApiClient, peer: Named, subject: string, timeoutMs: number): Promise<unknown> =>
  JSON.parse(await api("POST", `/ask/${peer.name}/${subject}?timeout=${timeoutMs}`, { body: "{}" }));

const unknown = (peer: Named, state: Host["state"]): Host => ({
  peer,
  state,
  version: null,
  problems: [],
  more: 0,
});

async function askHealth(api: ApiClient, peer: Named): Promise<Host> {
  try {
    const health = v.safeParse(Health, await ask(api, peer, HEALTH_SUBJECT, HEALTH_MS));
    if (!health.success) return unclear(peer, "it answers in a way that this version does not understand");
    const { version, findings, more } = health.output;
    return { peer, state: "answers", version, problems: findings, more };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === STATUS.older) return unknown(peer, "older");
    if (error.status === STATUS.silent) {
      return {
        ...unknown(peer, "silent"),
        problems: [
          {
            level: "problem",
            check: "router",
            found: "its router does not answer over the mesh",
            advice: "see 'weave doctor' there: it is stopped, hangs or is overloaded",
          },
        ],
      };
    }
    return unclear(peer, `it refuses the question: ${reasonOf(error)}`);
  }
}

const unclear = (peer: Named, found: string): Host => ({
  ...unknown(peer, "refused"),
  problems: [{ level: "warning", check: "router", found, advice: "see 'weave doctor' there" }],
});

async function askPings(api: ApiClient, from: Named): Promise<Path[]> {
  try {
    const pings = v.safeParse(TheirPings, await ask(api, from, PING_SUBJECT, PING_MS));
    return pings.success ? pings.output.map((ping) => ({ from, ping })) : [];
  } catch (error) {
    // Reported with the hosts.
    if (error instanceof ApiError) return [];
    throw error;
  }
}
