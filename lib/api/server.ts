// The control API: the paths of the original over HTTP, and what they do. What a handler throws becomes an answer of one
// line.

import * as v from "valibot";
import {
  AddressError,
  type AddressRange,
  type Cidr,
  formatCidr,
  formatIPv4,
  hostRange,
  type IPv4,
  parseIPv4,
} from "../address/ipv4.ts";
import { parseAllocationSubnet, parseContainerCidr } from "../address/subnet.ts";
import { DomainNameError, fullyQualified } from "../dns/name.ts";
import type { Allocator } from "../ipam/allocator.ts";
import { CancelledError, ExhaustedError, IpamError, UnknownPeerError } from "../ipam/errors.ts";
import type { Log } from "../log/log.ts";
import { AskError } from "../mesh/ask.ts";
import { ProtocolError } from "../mesh/framing.ts";
import { PeerAddressError } from "../mesh/maker.ts";
import { type PeerName, parsePeerName } from "../mesh/name.ts";
import { requestUrl } from "../sys/httpserver.ts";
import { reasonOf } from "../sys/reason.ts";
import { connectionsText } from "./connections.ts";
import { PingError } from "./pingerror.ts";
import { type DnsSources, nameJson, type Report, reportJson } from "./report.ts";
import type { Pings, Shape } from "./shapes.ts";
import { ipamText, namesText, peersText, statusText, targetsText } from "./status.ts";
import { fillTemplate } from "./template/evaluate.ts";
import { TemplateError } from "./template/lexer.ts";
import type { TrafficSample } from "./traffic.ts";

/** Of a call of the CNI plugin: what it is to print, and its exit code. */
export interface CniOutcome {
  readonly output: string;
  readonly code: number;
}

/** What the API acts on. */
export interface ApiTarget {
  readonly log: Log;
  readonly allocator: Allocator;
  /** Whether addresses are allocated. */
  readonly allocates: boolean;
  readonly defaultSubnet: Cidr;
  report(): Report;
  /** Resolves with what is wrong with any of the peers, which stay; rejects with PeerAddressError. */
  connect(peers: readonly string[], replace: boolean): Promise<string[]>;
  forget(peers: readonly string[]): void;
  /** What the containers have received and sent. */
  traffic(): TrafficSample;
  /** Attachments that outlive a restart of their container. */
  readonly attachments: {
    note(
      id: string,
      addresses: readonly (Cidr & { readonly asked: boolean })[],
      multicastRoute: boolean,
    ): void;
    forget(id: string, addresses?: readonly IPv4[]): void;
  };
  expose(cidr: Cidr, masquerade: boolean): Promise<void>;
  hide(cidr: Cidr): Promise<boolean>;
  /** False for a container that Docker or podman, where there is one, does not know or says is not running. */
  isRunning(id: string): Promise<boolean>;
  /** Asks a peer's router; rejects with AskError or ProtocolError. */
  ask(peer: PeerName, subject: string, body: unknown, timeoutMs: number): Promise<unknown>;
  /** Sends probes to peers, all where none is named; rejects with PingError for one that there is not. */
  ping(peers: readonly string[], count: number): Promise<Shape<typeof Pings>>;
  /** Undefined where there is no DNS. */
  readonly dns: DnsSources | undefined;
  /** Whether this host is ready for containers; it lives in any case. */
  isReady(): boolean;
  /** Runs a call of the CNI plugin, for as long as its caller waits; undefined where the plugin has to run it itself. */
  cni(call: CniCall, caller: AbortSignal): Promise<CniOutcome | undefined>;
}

/** Addresses in one request. */
const MAX_ADDRESSES = 64;

type Parameters = Record<string, string>;
/** `signal` fires when nobody waits for the answer any more. */
type Handler = (
  request: Request,
  parameters: Parameters,
  target: ApiTarget,
  signal: AbortSignal,
) => Response | Promise<Response>;

/** A request that is wrong in itself. */
class BadRequest extends Error {}

/** A request for what is not there. */
class NotFound extends Error {}

/** Peers that may be named for one ping. */
const MAX_PINGED = 48;

/** No answerer of a question takes longer. */
const MAX_ASK_MS = 30_000;

/** Status of a question to a peer without an answer. */
const ASK_STATUS = { "not-ours": 501, silent: 504, refused: 502, busy: 503 } as const;

const text = (body: string, status = 200) => new Response(body, { status });
const json = (value: unknown) =>
  new Response(`${reportJson(value)}\n`, { headers: { "content-type": "application/json" } });
/** Why a router that was launched with an empty range gives no address. */
const NO_ALLOCATION =
  'no addresses are allocated (launched with --ipalloc-range ""): name one with its prefix length, such as 10.32.0.5/12';

const done = () => new Response(null, { status: 204 });

const CniCallSchema = v.object({
  variables: v.record(v.pipe(v.string(), v.startsWith("CNI_")), v.string()),
  input: v.string(),
  /** Which network namespace CNI_NETNS is, as the plugin sees it: the inode; "" where there is none. */
  namespace: v.optional(v.string(), ""),
});

/** What a container was given by 'weave attach'; `asked`: somebody chose the address. */
const AttachmentSchema = v.object({
  addresses: v.pipe(
    v.array(v.object({ cidr: v.string(), asked: v.boolean() })),
    v.minLength(1),
    v.maxLength(MAX_ADDRESSES),
  ),
  multicastRoute: v.boolean(),
});

export type NotedAttachment = v.InferOutput<typeof AttachmentSchema>;

/** A call of the CNI plugin that it would have the router run. */
export type CniCall = v.InferOutput<typeof CniCallSchema>;

function statusRoute(format: (report: Report) => string): Handler {
  return (_request, _parameters, target) => {
    const report = target.report();
    return text(format(report), report.Ready ? 200 : 503);
  };
}

async function form(request: Request): Promise<URLSearchParams> {
  const body = await request.text();
  const values = new URLSearchParams(body);
  for (const [key, value] of requestUrl(request).searchParams) values.append(key, value);
  return values;
}

const query = (request: Request, key: string) => requestUrl(request).searchParams.get(key);

function identifier(parameters: Parameters): string {
  const id = parameters["id"] ?? "";
  if (id === "" || id.length > 256) throw new BadRequest("a container id has 1 to 256 characters");
  return id;
}

/** "NETWORK/INTERFACE" of CNI, where an address is for one of several attachments of a container. */
function attachmentOf(request: Request): string | undefined {
  const attachment = query(request, "attachment") ?? undefined;
  if (attachment !== undefined && !/^[^/\s]{0,256}\/[^/\s]{1,15}$/.test(attachment)) {
    throw new BadRequest("an attachment is NETWORK/INTERFACE");
  }
  return attachment;
}

function cidrOf(parameters: Parameters): Cidr {
  return parseContainerCidr(`${parameters["ip"]}/${parameters["prefix"]}`);
}

/** The default subnet; what is allocated from it does not exist where nothing is. */
function defaultSubnetOf({ allocates, defaultSubnet }: ApiTarget): Cidr {
  if (!allocates) throw new NotFound(NO_ALLOCATION);
  return defaultSubnet;
}

function subnetOf(parameters: Parameters, { allocates }: ApiTarget): Cidr {
  if (!allocates) throw new NotFound(NO_ALLOCATION);
  return parseAllocationSubnet(`${parameters["ip"]}/${parameters["prefix"]}`);
}

async function allocate(
  request: Request,
  parameters: Parameters,
  target: ApiTarget,
  subnet: Cidr,
  signal: AbortSignal,
): Promise<Response> {
  const id = identifier(parameters);
  const isContainer = await isLiveContainer(request, id, target);
  const attachment = attachmentOf(request);
  const failWhenExhausted = query(request, "wait") === "false";
  const given = query(request, "gateway");
  const gateway = given === null ? undefined : parseIPv4(given);
  const options = { isContainer, attachment, gateway, failWhenExhausted, signal };
  const address = await target.allocator.allocate(id, subnet, options);
  return text(formatCidr({ address, prefix: subnet.prefix }));
}

/**
 * Whether addresses are for a container, to be released when that is gone: one that only we know of ("container"), or
 * one of Docker's or podman's ("check-alive"), which may have ended by now.
 */
async function isLiveContainer(request: Request, id: string, target: ApiTarget): Promise<boolean> {
  if (query(request, "container") === "true") return true;
  if (query(request, "check-alive") !== "true") return false;
  if (!(await target.isRunning(id))) throw new CancelledError(`container ${id} is not running`);
  return true;
}

function lookup(request: Request, parameters: Parameters, target: ApiTarget, range: AddressRange): Response {
  const held = target.allocator.lookup(identifier(parameters), range, attachmentOf(request));
  return text(held.map(formatCidr).join(" "));
}

/** What requests for addresses wait for, a line each. */
const waits = (reasons: readonly string[]) => text(reasons.map((reason) => `${reason}\n`).join(""));

/** Whether a container could have an address now; where not, why: the reason, or as JSON with cause and remedy. */
function available(request: Request, { allocator }: ApiTarget, subnet: Cidr): Response {
  const obstacle = allocator.obstacle(subnet);
  if (obstacle === undefined) return text("ok\n");
  return wantsJson(request) ? Response.json(obstacle, { status: 503 }) : text(`${obstacle.reason}\n`, 503);
}

const wantsJson = (request: Request) => request.headers.get("accept")?.includes("application/json") === true;

/** weaveDNS; its paths do not exist where there is none. */
function dnsOf({ dns }: ApiTarget): DnsSources {
  if (!dns) throw new NotFound("no DNS: the router was launched with --no-dns");
  return dns;
}

function dnsAddress(target: ApiTarget): string {
  const address = dnsOf(target).address();
  if (!address)
    throw new BadRequest("not answering DNS queries yet: the host has no address; 'weave expose' adds one");
  return address;
}

/** Addresses by a name, or a name by its address; a name of one label is one in our domain. */
function lookupName(name: string, target: ApiTarget): string {
  const { nameserver, server } = dnsOf(target);
  const answers = /^[\d.]+$/.test(name)
    ? [nameserver.reverse(parseIPv4(name)) ?? ""].filter(Boolean)
    : nameserver
        .lookup(
          fullyQualified(/\.[^.]/.test(name) ? name : `${name.replace(/\.$/, "")}.${server.config.domain}`),
        )
        .map(formatIPv4);
  return answers.map((answer) => `${answer}\n`).join("");
}

async function deleteNames(request: Request, parameters: Parameters, target: ApiTarget): Promise<Response> {
  const fqdn = (await form(request)).get("fqdn");
  const { ip, id } = parameters;
  dnsOf(target).nameserver.delete({
    hostname: fqdn ? fullyQualified(fqdn) : undefined,
    containerId: id,
    address: ip === undefined ? undefined : parseIPv4(ip),
  });
  return done();
}

/** "METHOD /path/with/:parameters" and what answers it. */
const ROUTES: Record<string, Handler> = {
  "GET /healthz": () => text("ok\n"),
  "GET /readyz": (_request, _parameters, target) =>
    target.isReady() ? text("ok\n") : text("not ready for containers yet\n", 503),
  "GET /metrics": async (_request, _parameters, target) => {
    // Loaded by those who ask.
    const { metricsResponse } = await import("./metrics.ts");
    return metricsResponse(target.report());
  },
  "GET /status": statusRoute(statusText),
  "GET /status/targets": statusRoute(targetsText),
  "GET /status/connections": statusRoute(connectionsText),
  "GET /status/peers": statusRoute(peersText),
  "GET /status/ipam": (request, parameters, target, signal) => {
    defaultSubnetOf(target);
    return statusRoute(ipamText)(request, parameters, target, signal);
  },
  "GET /status/dns": (request, parameters, target, signal) => {
    dnsOf(target);
    return statusRoute(namesText)(request, parameters, target, signal);
  },
  "GET /report": (request, _parameters, target) => {
    const report = target.report();
    const format = query(request, "format");
    if (format !== null) return text(fillTemplate(format, report, (part) => reportJson(part, 0)));
    if (!wantsJson(request)) {
      throw new BadRequest("error: must supply one format parameter");
    }
    return new Response(reportJson(report), { headers: { "content-type": "application/json" } });
  },
  "GET /traffic": (_request, _parameters, target) => json(target.traffic()),
  "POST /connect": async (request, _parameters, target) => {
    const values = await form(request);
    const warnings = await target.connect(values.getAll("peer"), values.get("replace") === "true");
    return text(warnings.map((warning) => `${warning}\n`).join(""));
  },
  "POST /forget": async (request, _parameters, target) => {
    target.forget((await form(request)).getAll("peer"));
    return text("");
  },
  "POST /ping": async (request, _parameters, target) => {
    const values = await form(request);
    const count = values.get("count") ?? "10";
    if (!/^[1-9]\d{0,2}$/.test(count)) throw new BadRequest(`count ${count} is not a number from 1 to 999`);
    return json(await target.ping(values.getAll("peer").slice(0, MAX_PINGED), Number(count)));
  },
  "POST /expose/:ip/:prefix": async (request, parameters, target) => {
    const skip = query(request, "skipNAT") ?? "false";
    if (skip !== "true" && skip !== "false")
      throw new BadRequest(`unable to parse skipNAT option: "${skip}"`);
    await target.expose(cidrOf(parameters), skip === "false");
    return done();
  },
  "DELETE /expose/:ip/:prefix": async (_request, parameters, target) => {
    const cidr = cidrOf(parameters);
    if (!(await target.hide(cidr))) throw new BadRequest(`${formatCidr(cidr)} is not exposed`);
    return done();
  },
  "POST /cni": async (request, _parameters, target, signal) => {
    const call = v.safeParse(CniCallSchema, await request.json().catch(() => undefined));
    if (!call.success) throw new BadRequest("a CNI call has variables and input");
    const outcome = await target.cni(call.output, signal);
    return outcome ? Response.json(outcome) : text("run it yourself\n", 409);
  },
  "POST /ask/:peer/:subject": async (request, parameters, target) => {
    const body: unknown = await request.json().catch(() => {
      throw new BadRequest("a question is JSON");
    });
    const timeout = query(request, "timeout") ?? "10000";
    if (!/^[1-9]\d{0,4}$/.test(timeout) || Number(timeout) > MAX_ASK_MS)
      throw new BadRequest(`timeout ${timeout} is not a number from 1 to ${MAX_ASK_MS} ms`);
    const peer = parsePeerName(parameters["peer"] ?? "");
    return json(await target.ask(peer, parameters["subject"] ?? "", body, Number(timeout)));
  },
  "PUT /attachment/:id": async (request, parameters, target) => {
    const noted = v.safeParse(AttachmentSchema, await request.json().catch(() => undefined));
    if (!noted.success) throw new BadRequest("an attachment has addresses and multicastRoute");
    const { addresses, multicastRoute } = noted.output;
    const kept = addresses.map(({ cidr, asked }) => ({ ...parseContainerCidr(cidr), asked }));
    target.attachments.note(identifier(parameters), kept, multicastRoute);
    return done();
  },
  "DELETE /attachment/:id": async (request, parameters, target) => {
    const addresses = (await form(request)).getAll("address").map(parseIPv4);
    target.attachments.forget(identifier(parameters), addresses.length > 0 ? addresses : undefined);
    return done();
  },
  "GET /domain": (_request, _parameters, target) => text(dnsOf(target).server.config.domain),
  "GET /dns-address": (_request, _parameters, target) => text(dnsAddress(target).replace(/:\d+$/, "")),
  "GET /dns-address-port": (_request, _parameters, target) => text(dnsAddress(target)),
  "GET /dns-lookup/:name": (_request, parameters, target) =>
    text(lookupName(parameters["name"] ?? "", target)),
  "GET /name": (_request, _parameters, target) =>
    json(Array.from(dnsOf(target).nameserver.entries.all(), nameJson)),
  "PUT /name/:id/:ip": async (request, parameters, target) => {
    const { nameserver } = dnsOf(target);
    const values = await form(request);
    const id = identifier(parameters);
    const address = parseIPv4(parameters["ip"] ?? "");
    if (values.get("check-alive") === "true" && !(await target.isRunning(id))) return done();
    nameserver.add(values.get("fqdn") ?? "", id, address);
    return done();
  },
  "DELETE /name/:id/:ip": deleteNames,
  "DELETE /name/:id": deleteNames,
  "DELETE /name": deleteNames,
  "GET /ring": async (_request, _parameters, target, signal) => {
    defaultSubnetOf(target);
    await target.allocator.prime(signal);
    return text("");
  },
  "GET /ipinfo/defaultsubnet": (_request, _parameters, target) => text(formatCidr(defaultSubnetOf(target))),
  "GET /ipinfo/available": (request, _parameters, target) =>
    available(request, target, defaultSubnetOf(target)),
  "GET /ipinfo/available/:ip/:prefix": (request, parameters, target) =>
    available(request, target, subnetOf(parameters, target)),
  "GET /ipinfo/waits": (_request, _parameters, { allocator }) => waits(allocator.waits()),
  "GET /ipinfo/waits/:id": (_request, parameters, { allocator }) =>
    waits(allocator.waits(identifier(parameters))),
  "GET /ipinfo/tracker": () => text("\n"),
  "GET /ip": (_request, _parameters, { allocator }) => {
    const owned = Array.from(allocator.owned.entries(), ([containerid, { cidrs }]) => ({
      containerid,
      addrs: cidrs.map(formatCidr),
    }));
    return json({ owned });
  },
  "GET /ip/:id": (request, parameters, target) =>
    lookup(request, parameters, target, hostRange(target.defaultSubnet)),
  "GET /ip/:id/:ip/:prefix": (request, parameters, target) =>
    lookup(request, parameters, target, hostRange(subnetOf(parameters, target))),
  "POST /ip/:id": (request, parameters, target, signal) =>
    allocate(request, parameters, target, defaultSubnetOf(target), signal),
  "POST /ip/:id/:ip/:prefix": (request, parameters, target, signal) =>
    allocate(request, parameters, target, subnetOf(parameters, target), signal),
  "PUT /ip/:id/:ip/:prefix": async (request, parameters, target, signal) => {
    const { allocator } = target;
    const id = identifier(parameters);
    const cidr = cidrOf(parameters);
    const isContainer = await isLiveContainer(request, id, target);
    const noErrorOnUnknown = query(request, "noErrorOnUnknown") === "true";
    try {
      await allocator.claim(id, cidr, { isContainer, noErrorOnUnknown, signal });
    } catch (error) {
      if (error instanceof IpamError && !(error instanceof CancelledError)) {
        throw new BadRequest(`Unable to claim: ${error.message}`);
      }
      throw error;
    }
    return done();
  },
  "DELETE /ip/:id": async (request, parameters, { allocator }) => {
    const detached = query(request, "detached") === "true";
    await allocator.delete(identifier(parameters), { attachment: attachmentOf(request), detached });
    return done();
  },
  "POST /gc/:network": async (request, parameters, { allocator }) => {
    const valid = new Set((await form(request)).getAll("valid"));
    await allocator.releaser.collect(parameters["network"] ?? "", valid);
    return done();
  },
  "DELETE /ip/:id/:ip": async (_request, parameters, { allocator }) => {
    try {
      await allocator.free(identifier(parameters), parseIPv4(parameters["ip"] ?? ""));
    } catch (error) {
      if (error instanceof IpamError) throw new BadRequest(`Unable to free: ${error.message}`);
      throw error;
    }
    return done();
  },
  "DELETE /peer": async (_request, _parameters, { allocator }) => {
    await allocator.shutdown();
    return done();
  },
  "DELETE /peer/:id": async (request, parameters, { allocator }) => {
    const id = identifier(parameters);
    const force = query(request, "force") === "true";
    return text(`${await allocator.sharing.takeOver(id, force)} IPs taken over from ${id}\n`);
  },
};

const COMPILED = Object.entries(ROUTES).map(([route, handler]) => {
  const [method, path] = route.split(" ");
  const pattern = new RegExp(`^${path?.replace(/:(\w+)/g, "(?<$1>[^/]+)")}$`);
  return { method, pattern, handler };
});

function find(
  method: string,
  path: string,
): { handler: Handler; parameters: Parameters } | "not found" | "wrong method" {
  let known = false;
  for (const route of COMPILED) {
    const match = route.pattern.exec(path);
    if (!match) continue;
    known = true;
    if (route.method !== method) continue;
    const groups = Object.entries(match.groups ?? {}).map(([key, value]) => [key, decodeURIComponent(value)]);
    return { handler: route.handler, parameters: Object.fromEntries(groups) };
  }
  return known ? "wrong method" : "not found";
}

function failure(error: unknown, log: Log, what: string): Response {
  if (error instanceof CancelledError) return text("cancelled");
  if (error instanceof AskError) return text(`${error.message}\n`, ASK_STATUS[error.code]);
  if (error instanceof NotFound || error instanceof UnknownPeerError || error instanceof PingError)
    return text(`${error.message}\n`, 404);
  const expected =
    error instanceof BadRequest ||
    error instanceof ProtocolError ||
    error instanceof IpamError ||
    error instanceof AddressError ||
    error instanceof TemplateError ||
    error instanceof DomainNameError ||
    error instanceof PeerAddressError ||
    error instanceof URIError;
  const message = reasonOf(error);
  // Runtimes try again every few seconds; the allocator logs it once a minute.
  if (error instanceof ExhaustedError) return text(`${message}\n`, 400);
  // Whoever can reach a port can ask for nonsense without end; the answer says what is wrong with it.
  if (expected && what.startsWith("GET ")) log.debug(message, { request: what });
  else if (expected) log.warning(message, { request: what });
  else log.error(message, { request: what });
  return text(`${message}\n`, expected ? 400 : 500);
}

/** Answers a request; `signal` fires when nobody waits for it any more. Never rejects. */
export async function answer(
  request: Request,
  target: ApiTarget,
  signal = request.signal,
): Promise<Response> {
  let what = request.method;
  try {
    const { pathname } = requestUrl(request);
    what = `${request.method} ${pathname}`;
    const route = find(request.method, pathname);
    if (route === "not found") return text("404 page not found\n", 404);
    if (route === "wrong method") return text(`${request.method} is not possible on ${pathname}\n`, 405);
    return await route.handler(request, route.parameters, target, signal);
  } catch (error) {
    return failure(error, target.log, what);
  }
}
