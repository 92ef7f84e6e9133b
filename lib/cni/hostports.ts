// Host ports (capability portMappings): the router keeps them in force. A runtime passes them to plugins that declare the
// capability: a portmap that is chained behind gets them, too, where it declares it, and comes to the same.
import * as v from "valibot";
import { formatIPv4, type IPv4, parseIPv4 } from "../address/ipv4.ts";
import { type ApiClient, ApiError, NO_ANSWER, RouterDownError } from "../api/client.ts";
import { type HostPort, HostPorts, hostPortText, targetText } from "../host/hostports/mapping.ts";
import { removeHostPorts } from "../host/hostports/remove.ts";
import { attachmentKey, vethAlias } from "../host/names.ts";
import { reasonOf } from "../sys/reason.ts";
import type { CniConfig } from "./config.ts";
import type { Environment } from "./environment.ts";
import { CniError, CODE } from "./error.ts";

const TIMEOUT_MS = 5_000;

interface Call {
  readonly config: CniConfig;
  readonly environment: Environment;
  readonly api: ApiClient;
}

const pathOf = ({ config, environment: { containerId, ifName } }: Call) => {
  const attachment = attachmentKey({ network: config.name, ifName });
  return `/hostports/${encodeURIComponent(containerId)}?${new URLSearchParams({ attachment })}`;
};

/** Return the host ports of a container with this address. Throws CniError. */
export function hostPortsOf({ runtimeConfig }: CniConfig, address: IPv4): HostPort[] {
  return (runtimeConfig?.portMappings ?? []).flatMap(({ hostPort, containerPort, protocol, hostIP }) => {
    // Those of IPv6 are for containers that have an IPv6 address.
    if (hostIP.includes(":")) return [];
    const hostIp = hostIP === "" ? 0 : hostAddress(hostIP);
    return [{ protocol, hostPort, address, port: containerPort, ...(hostIp === 0 ? {} : { hostIp }) }];
  });
}

function hostAddress(text: string): IPv4 {
  try {
    return parseIPv4(text);
  } catch (error) {
    const message = `runtimeConfig: portMappings: hostIP: ${reasonOf(error)}`;
    throw new CniError(CODE.invalidConfig, message, "", { cause: error });
  }
}

/** Forward the host ports of a container. Rejects with CniError, or as the client does. */
export async function forwardPorts(call: Call, ports: readonly HostPort[]): Promise<void> {
  if (ports.length === 0) return;
  try {
    await call.api("PUT", pathOf(call), { body: JSON.stringify(ports), timeoutMs: TIMEOUT_MS });
  } catch (error) {
    if (!(error instanceof ApiError) || error.status === NO_ANSWER) throw error;
    throw new CniError(CODE.failed, `cannot forward host ports: ${error.message}`, "", { cause: error });
  }
}

/** End the host ports of a container; without a router, which forgets them when it is back, in the kernel. */
export async function endPorts(call: Call): Promise<void> {
  try {
    await call.api("DELETE", pathOf(call), { timeoutMs: TIMEOUT_MS });
  } catch (error) {
    const silent = error instanceof ApiError && error.status === NO_ANSWER;
    if (!silent && !(error instanceof RouterDownError)) throw error;
    const { config, environment } = call;
    const { containerId, ifName } = environment;
    try {
      removeHostPorts(vethAlias({ network: config.name, containerId, ifName }));
    } catch (failure) {
      // The router does it when it is back: a DEL that failed would be repeated for ever.
      console.error(`weave-net: cannot end the host ports of ${containerId}: ${reasonOf(failure)}`);
    }
  }
}

/** Reject with CniError where a host port is not in force. */
export async function checkPorts(call: Call, wanted: readonly HostPort[]): Promise<void> {
  if (wanted.length === 0) return;
  const answer = await call.api("GET", pathOf(call), { timeoutMs: TIMEOUT_MS });
  const found = v.parse(HostPorts, JSON.parse(answer));
  for (const port of wanted) {
    const same = found.find((other) => hostPortText(other) === hostPortText(port));
    if (!same || targetText(same) !== targetText(port))
      throw new CniError(
        CODE.checkFailed,
        `host port ${hostPortText(port)} is not forwarded to ${formatIPv4(port.address)}:${port.port}`,
      );
  }
}
