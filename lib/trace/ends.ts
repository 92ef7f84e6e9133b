// Who the two ends are: names, ids, pods and addresses, here and on other hosts.
import * as v from "valibot";
import { cidrContains, formatIPv4, type IPv4, parseCidr, parseIPv4, resemblesIPv4 } from "../address/ipv4.ts";
import { type ApiClient, ApiError } from "../api/client.ts";
import type { Report } from "../api/report.ts";
import { reasonOf } from "../sys/reason.ts";
import { type Found, locate } from "./locate.ts";
import { Located, type Located as LocatedAnswer, TRACE_SUBJECT, type TraceQuestion } from "./question.ts";

/** Peers that are asked for a container that nobody else knows. */
const MAX_ASKED = 128;

/** An end that cannot be traced from, or to. */
export class TraceError extends Error {
  override readonly name = "TraceError";
}

export interface Lookups {
  readonly api: ApiClient;
  /** Sockets of Docker and podman. */
  readonly runtimes: readonly string[];
  /** The address of a pod "namespace/name". */
  pod(name: string): Promise<string>;
}

export interface Source {
  readonly id: string;
  readonly address: IPv4;
}

/** The end that a trace begins at; rejects with TraceError where it is not on this host. */
export async function findSource(lookups: Lookups, report: Report, name: string): Promise<Source> {
  const text = await addressOfPod(lookups, name);
  const here = await locate(lookups.api, lookups.runtimes, text);
  if (here) return { id: here.id, address: parseIPv4(here.address) };
  const elsewhere = await askAll(lookups.api, report, text);
  if (elsewhere)
    throw new TraceError(`${name} is on ${elsewhere.nickname}: a trace begins where FROM is; run it there`);
  throw new TraceError(`no container "${name}" on this host; 'weave ps' lists all`);
}

/** Where the destination is. */
type Location =
  | { readonly kind: "here" }
  | { readonly kind: "peer"; readonly name: string; readonly nickname: string }
  | { readonly kind: "nowhere"; readonly why: string };

export interface Destination {
  readonly address: IPv4;
  readonly where: Location;
}

/** The other end; rejects with TraceError for a name that nobody knows. */
export async function findDestination(lookups: Lookups, report: Report, name: string): Promise<Destination> {
  const text = await addressOfPod(lookups, name);
  const here = await locate(lookups.api, lookups.runtimes, text);
  if (here) return { address: parseIPv4(here.address), where: { kind: "here" } };
  if (resemblesIPv4(text)) return { address: parseIPv4(text), where: await whereIs(lookups, report, text) };
  const named = await dnsAddress(lookups.api, text);
  if (named !== undefined) {
    const local = await locate(lookups.api, lookups.runtimes, named);
    const where = local ? ({ kind: "here" } as const) : await whereIs(lookups, report, named);
    return { address: parseIPv4(named), where };
  }
  const elsewhere = await askAll(lookups.api, report, text);
  if (!elsewhere)
    throw new TraceError(
      `no container "${name}" on any host that could be asked; give its address, or a name of weaveDNS`,
    );
  return { address: parseIPv4(elsewhere.found.address), where: { kind: "peer", ...elsewhere } };
}

async function addressOfPod({ pod }: Lookups, name: string): Promise<string> {
  return name.includes("/") ? pod(name) : name;
}

/** The owner of the range that an address is in is asked first, then all others. */
async function whereIs({ api }: Lookups, report: Report, address: string): Promise<Location> {
  const number = parseIPv4(address);
  const { IPAM, Router } = report;
  const owner = (IPAM?.Entries ?? []).find(({ Token, Size }) => {
    const start = parseIPv4(Token);
    return number >= start && number < start + Size;
  });
  const nickname = (name: string) => Router.Peers.find(({ Name }) => Name === name)?.NickName ?? name;
  if (owner && owner.Peer !== Router.Name) {
    const answer = await askLocate(api, owner.Peer, address);
    if (answer === "silent" || answer?.container)
      return { kind: "peer", name: owner.Peer, nickname: nickname(owner.Peer) };
  }
  const other = await askAll(api, report, address, owner?.Peer);
  if (other) return { kind: "peer", ...other };
  if (owner?.Peer === Router.Name) return { kind: "here" };
  if (owner) return { kind: "peer", name: owner.Peer, nickname: nickname(owner.Peer) };
  const range = IPAM?.Range;
  const outside = range === undefined || !cidrContains(parseCidr(range), number);
  const why = outside
    ? `${formatIPv4(number)} is outside the range of the network, ${range ?? "which has none"}, and no container has it`
    : `no host owns ${formatIPv4(number)}: the range is not divided yet`;
  return { kind: "nowhere", why };
}

/** Return the peer that has a container, among those that answer questions. */
async function askAll(
  api: ApiClient,
  { Router }: Report,
  name: string,
  except?: string,
): Promise<{ name: string; nickname: string; found: Found } | undefined> {
  const others = Router.Peers.filter(({ Name }) => Name !== Router.Name && Name !== except);
  const answers = await Promise.all(
    others.slice(0, MAX_ASKED).map(async ({ Name, NickName }) => {
      const answer = await askLocate(api, Name, name);
      return answer === "silent" || !answer?.container
        ? undefined
        : { name: Name, nickname: NickName, found: answer.container };
    }),
  );
  return answers.find((each) => each !== undefined);
}

async function askLocate(
  api: ApiClient,
  peer: string,
  name: string,
): Promise<LocatedAnswer | "silent" | undefined> {
  try {
    return v.parse(Located, await askPeer(api, peer, { kind: "locate", name }));
  } catch {
    return "silent";
  }
}

/** Ask a peer's router; reject with ApiError, whose message says why there is no answer. */
export async function askPeer(api: ApiClient, peer: string, question: TraceQuestion): Promise<unknown> {
  const body = JSON.stringify(question);
  return JSON.parse(await api("POST", `/ask/${peer}/${TRACE_SUBJECT}`, { body }));
}

/** Return why a peer's side cannot be examined. */
export function unseenReason(error: unknown): string {
  if (!(error instanceof ApiError)) return `its answer cannot be read: ${reasonOf(error)}`;
  if (error.status === 501)
    return "runs Weave Net 2.x, or is reached through it: its side cannot be examined";
  if (error.status === 504) return "its router does not answer: its side cannot be examined";
  return `its side cannot be examined: ${error.message}`;
}

async function dnsAddress(api: ApiClient, name: string): Promise<string | undefined> {
  try {
    const [first] = (await api("GET", `/dns-lookup/${encodeURIComponent(name)}`)).split("\n");
    return first || undefined;
  } catch (error) {
    if (error instanceof ApiError) return undefined;
    throw error;
  }
}
