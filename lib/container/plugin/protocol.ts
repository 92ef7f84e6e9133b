// The plugin protocol of Docker: POST requests with JSON, errors as {"Err": text}. IPAM requests call it "Error" (moby:
// pkg/plugins, daemon/libnetwork/ipams/remote/api).
import * as v from "valibot";
import type { Log } from "../../log/log.ts";
import { reasonOf } from "../../sys/reason.ts";
import type { IpamDriver } from "./ipamdriver.ts";
import {
  CreateEndpoint,
  CreateNetwork,
  OfEndpoint,
  OfNetwork,
  OfPool,
  ReleaseAddress,
  RequestAddress,
  RequestPool,
} from "./messages.ts";
import type { NetworkDriver } from "./networkdriver.ts";

const CONTENT_TYPE = "application/vnd.docker.plugins.v1.1+json";
/** Time that a request may wait, for an address of another host: dockerd itself waits for ever. */
const TIMEOUT_MS = 30_000;
/** Requests at a time; dockerd has one for each container that it starts. */
const MAX_REQUESTS = 512;

/** Answer of a method to a body, which it checks. Throws and rejects with what is wrong. */
type Method = (body: unknown, signal: AbortSignal) => object | Promise<object>;

/** A method whose body has this schema. */
const taking =
  <S extends v.GenericSchema>(
    schema: S,
    method: (request: v.InferOutput<S>, signal: AbortSignal) => object | Promise<object>,
  ): Method =>
  (body, signal) =>
    method(v.parse(schema, body), signal);

/** Return the methods of the protocol by their names. */
export function pluginMethods(network: NetworkDriver, ipam: IpamDriver): ReadonlyMap<string, Method> {
  const nothing = () => ({});
  return new Map<string, Method>([
    ["Plugin.Activate", () => ({ Implements: ["NetworkDriver", "IpamDriver"] })],
    ["NetworkDriver.GetCapabilities", () => network.capabilities()],
    ["NetworkDriver.GwAllocCheck", () => network.gatewayCheck()],
    ["NetworkDriver.CreateNetwork", taking(CreateNetwork, (request) => network.createNetwork(request))],
    ["NetworkDriver.DeleteNetwork", taking(OfNetwork, (request) => network.deleteNetwork(request))],
    ["NetworkDriver.CreateEndpoint", taking(CreateEndpoint, (request) => network.createEndpoint(request))],
    ["NetworkDriver.EndpointOperInfo", taking(OfEndpoint, (request) => network.endpointInfo(request))],
    ["NetworkDriver.DeleteEndpoint", taking(OfEndpoint, (request) => network.deleteEndpoint(request))],
    ["NetworkDriver.Join", taking(OfEndpoint, (request) => network.join(request))],
    ["NetworkDriver.Leave", taking(OfEndpoint, (request) => network.leave(request))],
    // Hosts of a cluster: the mesh has its own.
    ["NetworkDriver.DiscoverNew", nothing],
    ["NetworkDriver.DiscoverDelete", nothing],
    ["IpamDriver.GetCapabilities", () => ipam.capabilities()],
    ["IpamDriver.GetDefaultAddressSpaces", () => ipam.spaces()],
    ["IpamDriver.RequestPool", taking(RequestPool, (request) => ipam.requestPool(request))],
    ["IpamDriver.ReleasePool", taking(OfPool, (request) => ipam.releasePool(request))],
    [
      "IpamDriver.RequestAddress",
      taking(RequestAddress, (request, signal) => ipam.requestAddress(request, signal)),
    ],
    ["IpamDriver.ReleaseAddress", taking(ReleaseAddress, (request) => ipam.releaseAddress(request))],
  ]);
}

/** Return an answerer of dockerd's requests, which never rejects. */
export function pluginAnswerer(
  methods: ReadonlyMap<string, Method>,
  log: Log,
  timeoutMs = TIMEOUT_MS,
): (request: Request) => Promise<Response> {
  let running = 0;
  return async (request) => {
    // The host of the URL is what dockerd makes of the socket's path.
    const [, name = ""] = /\/([A-Za-z]+\.[A-Za-z]+)$/.exec(request.url) ?? [];
    const method = methods.get(name);
    if (!method || request.method !== "POST") return new Response("404 page not found\n", { status: 404 });
    if (running >= MAX_REQUESTS) return failure(name, `${MAX_REQUESTS} requests are under way; try again`);
    running++;
    try {
      const signal = AbortSignal.any([request.signal, AbortSignal.timeout(timeoutMs)]);
      const answer = await method(bodyOf(await request.text()), signal);
      log.debug(name);
      return json(answer);
    } catch (error) {
      const why = v.isValiError<v.GenericSchema>(error) ? issueText(error) : reasonOf(error);
      log.warning(`${name}: ${why}`);
      return failure(name, why);
    } finally {
      running--;
    }
  };
}

const json = (body: object) => Response.json(body, { headers: { "content-type": CONTENT_TYPE } });

const failure = (name: string, why: string) =>
  json(name.startsWith("IpamDriver.") ? { Err: why, Error: why } : { Err: why });

function bodyOf(text: string): unknown {
  if (text === "") return {};
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`the request is not JSON: ${reasonOf(error)}`, { cause: error });
  }
}

function issueText({ issues }: Pick<v.ValiError<v.GenericSchema>, "issues">): string {
  const [issue] = issues;
  const path = issue?.path?.map(({ key }) => String(key)).join(".");
  return `the request is invalid: ${path ? `${path}: ` : ""}${issue?.message ?? ""}`;
}
