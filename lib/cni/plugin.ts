// The verbs of the CNI plugin: https://www.cni.dev/docs/spec/#section-3-execution-of-network-configurations

import { formatCidr, type IPv4, parseCidr } from "../address/ipv4.ts";
import { type ApiClient, ApiError, NO_ANSWER, RouterDownError } from "../api/client.ts";
import {
  AlreadyAttachedError,
  type Attached,
  type Attachment,
  type ContainerRoute,
  NoGatewayError,
} from "../host/attach.ts";
import type { ContainerWork } from "../host/containerwork.ts";
import { EXPOSE_ID, vethAlias } from "../host/names.ts";
import { BusyError } from "../host/workthread.ts";
import { linkByName } from "../netlink/link.ts";
import { RT_SCOPE_LINK } from "../netlink/route.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { NetnsError } from "../sys/netns.ts";
import { reasonOf } from "../sys/reason.ts";
import { checkAttachment, previousAddress } from "./check.ts";
import type { CniConfig } from "./config.ts";
import type { Environment } from "./environment.ts";
import { CniError, CODE } from "./error.ts";
import { checkPorts, endPorts, forwardPorts, hostPortsOf } from "./hostports.ts";
import { type IpamSource, ipamSource } from "./ipam.ts";
import { type Addressing, formatResult } from "./result.ts";
import { wanted } from "./wanted.ts";

const DEFAULT_ROUTE = parseCidr("0.0.0.0/0");
/** Many containers at once, the first ones of a host, all expose it: the router does one after the other. */
const EXPOSE_TIMEOUT_MS = 10_000;

export interface Call {
  readonly environment: Environment;
  readonly config: CniConfig;
  /** The configuration as it came, for delegated plugins. */
  readonly input: string;
  readonly api: ApiClient;
  readonly work: ContainerWork;
  /** Fires when the caller has gone. */
  readonly caller?: AbortSignal | undefined;
}

/** Attach a container; resolves with the result in the configuration's version. */
export async function add(call: Call): Promise<object> {
  const { environment, config } = call;
  const { netns, ifName, containerId } = environment;
  const ipam = ipamSource(config, call.input, environment, call.api);
  const { mac } = wanted(config, environment);
  const given = await ipam.add(containerId).catch(async (error) => {
    // What is wrong with the container explains more, and does not pass.
    await requireNoLink(call);
    throw error;
  });
  try {
    const routes = given.routes ?? [{ destination: DEFAULT_ROUTE }];
    const addresses = given.addresses.map(({ cidr }) => cidr);
    const [own] = addresses;
    const ports = own ? hostPortsOf(config, own.address) : [];
    // A caller that has given up may have called DEL by now.
    if (call.caller?.aborted) throw new CniError(CODE.tryAgainLater, "the caller has gone");
    const attached = await attachBy(call, ipam, {
      netns,
      containerId,
      ifName,
      network: config.name,
      bridge: config.bridge,
      mtu: config.mtu,
      mac,
      addresses,
      gateway: gatewayFor(given),
      routes,
      hairpin: config.hairpinMode,
      allowed: config.allowedAddresses,
    });
    const { gateway } = attached;
    await forwardPorts(call, ports).catch(async (error) => {
      await detach(call);
      throw error;
    });
    return formatResult(
      config.cniVersion,
      {
        interfaces: [
          { name: attached.hostName, mac: attached.hostMac, mtu: attached.mtu },
          { name: ifName, mac: attached.mac, mtu: attached.mtu, sandbox: netns },
        ],
        inner: 1,
        addresses: given.addresses.map((address) => ({
          cidr: address.cidr,
          gateway: address.gateway ?? gateway,
        })),
        routes: routes.map((route: ContainerRoute) => ({
          ...route,
          gateway: route.gateway ?? (route.scope === RT_SCOPE_LINK ? undefined : gateway),
        })),
        dns: config.dns ?? given.dns,
      },
      config.prevResult,
    );
  } catch (error) {
    // Report the first error; the runtime's DEL cleans up what undo cannot.
    await ipam.undo().catch(() => {});
    throw error;
  }
}

/** Throw AlreadyAttachedError or NetnsError where the container cannot be attached. */
async function requireNoLink({ work, environment: { netns, ifName } }: Call): Promise<void> {
  if (await work.inspect(netns, ifName))
    throw new AlreadyAttachedError(`${netns} has an interface ${ifName} already`);
}

/** Return the given gateway; the host, unless there are routes of their own. */
function gatewayFor({ addresses: [first], routes }: Addressing): IPv4 | "bridge" | undefined {
  if (first?.gateway !== undefined) return first.gateway;
  return first === undefined || (routes && routes.length > 0) ? undefined : "bridge";
}

/** Attach the container, with the host exposed if it has to be the gateway. */
async function attachBy(call: Call, ipam: IpamSource, attachment: Attachment): Promise<Attached> {
  try {
    return await call.work.attach(attachment);
  } catch (error) {
    if (!(error instanceof NoGatewayError)) throw error;
    const [own] = (await ipam.add(EXPOSE_ID)).addresses;
    if (!own)
      throw new CniError(CODE.failed, "unable to allocate IP address for bridge", "", { cause: error });
    await call.api("POST", `/expose/${formatCidr(own.cidr)}`, { timeoutMs: EXPOSE_TIMEOUT_MS });
    return call.work.attach({ ...attachment, gateway: own.cidr.address });
  }
}

/** Detach a container; a missing link is no error. */
export async function del(call: Call): Promise<undefined> {
  const { config, environment } = call;
  await endPorts(call);
  const detached = await detach(call);
  await ipamSource(config, call.input, environment, call.api).release(detached);
}

function detach({ config, environment, work }: Call): Promise<boolean> {
  const { netns, ifName, containerId } = environment;
  const alias = vethAlias({ network: config.name, containerId, ifName });
  return work.detach({ netns: netns || undefined, ifName, bridge: config.bridge, alias });
}

/** Reject with CniError if the container differs from the result of its ADD. */
export async function check(call: Call): Promise<undefined> {
  const { environment, config, input, api, work } = call;
  const { netns, ifName } = environment;
  const found = await work.inspect(netns, ifName);
  checkAttachment(config, environment, found);
  const own = previousAddress(config.prevResult) ?? found?.addresses[0]?.address;
  if (own !== undefined) await checkPorts(call, hostPortsOf(config, own));
  await ipamSource(config, input, environment, api).check();
}

/** Reject with CniError if an ADD would fail now. */
export async function status({ environment, config, input, api }: Call): Promise<undefined> {
  using nl = new NetlinkSocket(NETLINK_ROUTE);
  const bridge = linkByName(nl, config.bridge);
  if (bridge?.kind !== "bridge" || !bridge.up) {
    const state = bridge ? "is down, or not a bridge" : "does not exist";
    throw new CniError(CODE.notAvailable, `bridge "${config.bridge}" ${state}; did you launch weave?`);
  }
  await ipamSource(config, input, environment, api).status();
}

/** Release addresses of this network's attachments that the runtime does not list. */
export async function gc({ environment, config, input, api }: Call): Promise<undefined> {
  await ipamSource(config, input, environment, api).gc();
}

const NETNS_CODE: Record<NetnsError["kind"], number> = {
  missing: CODE.unknownContainer,
  "not a namespace": CODE.invalidEnvironment,
  own: CODE.hostNetns,
  unreachable: CODE.invalidEnvironment,
};

/** Return the CNI error for any error. */
export function toCniError(error: unknown): CniError {
  if (error instanceof CniError) return error;
  const message = reasonOf(error);
  if (error instanceof RouterDownError || error instanceof BusyError)
    return new CniError(CODE.tryAgainLater, message);
  if (error instanceof ApiError && error.status === NO_ANSWER)
    return new CniError(CODE.tryAgainLater, message);
  if (error instanceof ApiError) return new CniError(CODE.failed, `the weave router refused: ${message}`);
  if (error instanceof AlreadyAttachedError)
    return new CniError(CODE.invalidEnvironment, `CNI_IFNAME: ${message}`);
  if (error instanceof NetnsError) return new CniError(NETNS_CODE[error.kind], `CNI_NETNS: ${message}`);
  return new CniError(CODE.failed, message);
}
