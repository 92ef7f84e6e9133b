// Sources of addresses: the router, or an IPAM plugin that the configuration names.
import { type Cidr, formatCidr, formatIPv4, parseCidr } from "../address/ipv4.ts";
import { type ApiClient, ApiError, NO_ANSWER, RouterDownError } from "../api/client.ts";
import { releaseDirectory } from "../api/paths.ts";
import type { ContainerRoute } from "../host/attach.ts";
import { attachmentKey } from "../host/names.ts";
import { forgetRelease, rememberRelease } from "../ipam/releases.ts";
import { reasonOf } from "../sys/reason.ts";
import type { CniConfig } from "./config.ts";
import { delegate } from "./delegate.ts";
import type { Environment } from "./environment.ts";
import { CniError, CODE } from "./error.ts";
import { type Addressing, parseAddressing } from "./result.ts";
import { type Wanted, wanted } from "./wanted.ts";

/** An address may come from another host; a runtime retries rather than waits. */
const ALLOCATE_TIMEOUT_MS = 10_000;
const RELEASE_TIMEOUT_MS = 5_000;
const ASK_TIMEOUT_MS = 1_500;
const OWN_TYPES = ["", "weave-ipam"];

export interface IpamSource {
  /** Allocate for the container's attachment, or for the host under another id. */
  add(containerId: string): Promise<Addressing>;
  /** Release what a failed `add` has newly allocated. */
  undo(): Promise<void>;
  /**
   * Release the addresses of the attachment; none is no error. `detached`: its link was just removed.
   */
  release(detached: boolean): Promise<void>;
  /** Rejects if the container's addresses are wrong. */
  check(): Promise<void>;
  /** Rejects if `add` would fail now. */
  status(): Promise<void>;
  /** Release addresses of attachments that the configuration does not list. */
  gc(): Promise<void>;
}

/** Whether the router allocates the addresses. */
export function isOurs({ ipam }: CniConfig): boolean {
  return OWN_TYPES.includes(ipam.type);
}

/** Return the source of addresses of a configuration. */
export function ipamSource(
  config: CniConfig,
  input: string,
  environment: Environment,
  api: ApiClient,
): IpamSource {
  return isOurs(config)
    ? routerSource(config, environment, api)
    : pluginSource(config.ipam.type, input, environment);
}

function routerSource(config: CniConfig, environment: Environment, api: ApiClient): IpamSource {
  const { subnet, gateway, routes } = config.ipam;
  const { containerId } = environment;
  const attachment = attachmentKey({ network: config.name, ifName: environment.ifName });
  const inSubnet = subnet ? `/${formatCidr(subnet)}` : "";
  const path = (id: string) => `/ip/${encodeURIComponent(id)}${inSubnet}`;
  const query = (parameters: Record<string, string>) => `?${new URLSearchParams(parameters)}`;
  const giveBack = (detached: boolean) =>
    api(
      "DELETE",
      // Runtimes repeat a DEL.
      `/ip/${encodeURIComponent(containerId)}${query({ attachment, detached: String(detached), noErrorOnUnknown: "true" })}`,
      { timeoutMs: RELEASE_TIMEOUT_MS },
    );
  /** Reject with the reason why ADD would fail. */
  const requireAvailable = async () => {
    await api("GET", `/ipinfo/available${inSubnet}`, { timeoutMs: ASK_TIMEOUT_MS });
  };
  /** Replace a timeout by the reason for the wait: the router knows it, or waits for other peers. */
  const explain = async (error: unknown): Promise<never> => {
    if (!(error instanceof ApiError) || error.status !== NO_ANSWER) throw error;
    const reason = await requireAvailable().catch((refusal) => refusal);
    if (reason instanceof ApiError && reason.status === 503)
      throw new ApiError(NO_ANSWER, reason.message, { cause: reason });
    if (reason !== undefined) throw error;
    const what = `no address${subnet ? ` in ${formatCidr(subnet)}` : ""} came from other peers`;
    throw new ApiError(
      NO_ANSWER,
      `${what} within ${ALLOCATE_TIMEOUT_MS / 1000} s: 'weave status ipam' shows who has which`,
      { cause: error },
    );
  };
  const addressing = (cidrs: readonly Cidr[]): Addressing => ({
    addresses: cidrs.map((cidr) => ({ cidr, gateway })),
    routes: routes?.map(containerRoute),
    dns: undefined,
  });
  /** Claim the addresses that were asked for. */
  const named = async (addresses: Wanted["addresses"]): Promise<Addressing> => {
    const prefix = subnet?.prefix ?? (await defaultPrefix(api));
    const cidrs = addresses.map(({ cidr, hasPrefix }) => (hasPrefix ? cidr : { ...cidr, prefix }));
    for (const cidr of cidrs) {
      const terms = query({ container: "true", attachment });
      const place = `/ip/${encodeURIComponent(containerId)}/${formatCidr(cidr)}`;
      await api("PUT", `${place}${terms}`, { timeoutMs: ALLOCATE_TIMEOUT_MS }).catch(async (error) => {
        if (fresh) await giveBack(true).catch(() => {});
        return explain(error);
      });
    }
    return addressing(cidrs);
  };
  let fresh = false;
  return {
    async add(id) {
      const isContainer = id === containerId;
      const { addresses } = wanted(config, environment);
      if (isContainer) {
        const held = await api("GET", `${path(id)}${query({ attachment })}`, {
          timeoutMs: RELEASE_TIMEOUT_MS,
        });
        fresh = held.trim() === "";
        forgetRelease(releaseDirectory(), id, attachment);
      }
      if (isContainer && addresses.length > 0) return named(addresses);
      const terms = {
        wait: "false",
        ...(isContainer ? { container: "true", attachment } : {}),
        ...(gateway === undefined ? {} : { gateway: formatIPv4(gateway) }),
      };
      const answer = await api("POST", `${path(id)}${query(terms)}`, {
        timeoutMs: ALLOCATE_TIMEOUT_MS,
      }).catch(explain);
      return addressing([parseCidr(answer.trim())]);
    },
    async undo() {
      if (fresh) await giveBack(true);
    },
    async release(detached) {
      try {
        await giveBack(detached);
      } catch (error) {
        if (error instanceof ApiError && error.status === 400) return;
        const silent = error instanceof ApiError && error.status === NO_ANSWER;
        if (!silent && !(error instanceof RouterDownError)) throw error;
        remember(containerId, attachment);
      }
    },
    // CHECK has compared the addresses with the link already.
    check: async () => {},
    async status() {
      try {
        await requireAvailable();
      } catch (error) {
        if (!(error instanceof RouterDownError || error instanceof ApiError)) throw error;
        throw new CniError(
          CODE.notAvailable,
          `the weave router has no address to give: ${error.message}`,
          "",
          { cause: error },
        );
      }
    },
    async gc() {
      const form = new URLSearchParams();
      for (const { containerID, ifname } of config["cni.dev/valid-attachments"] ?? [])
        form.append("valid", `${containerID}/${ifname}`);
      const network = encodeURIComponent(config.name);
      await api("POST", `/gc/${network}`, { form, timeoutMs: RELEASE_TIMEOUT_MS });
    },
  };
}

async function defaultPrefix(api: ApiClient): Promise<number> {
  const subnet = await api("GET", "/ipinfo/defaultsubnet", { timeoutMs: ASK_TIMEOUT_MS });
  return parseCidr(subnet.trim()).prefix;
}

/** Return a route of the configuration as the container gets it. */
function containerRoute({
  dst,
  gw,
  ...rest
}: NonNullable<CniConfig["ipam"]["routes"]>[number]): ContainerRoute {
  return { destination: dst, gateway: gw, ...rest };
}

/**
 * Note a release for the router's return: the container is gone, and a failed DEL would only be repeated. If the note
 * cannot be written, the router still notices that the link is gone.
 */
function remember(containerId: string, attachment: string): void {
  try {
    rememberRelease(releaseDirectory(), containerId, attachment);
  } catch (error) {
    console.error(`weave-net: cannot save the release of container ${containerId}: ${reasonOf(error)}`);
  }
}

function pluginSource(type: string, input: string, { path, containerId }: Environment): IpamSource {
  const run = (command: string, id: string) =>
    delegate({ type, path, input, variables: { CNI_COMMAND: command, CNI_CONTAINERID: id } });
  const order = (command: string, id: string) => async () => {
    await run(command, id);
  };
  return {
    add: async (id) => parseAddressing(await run("ADD", id), type),
    undo: order("DEL", containerId),
    release: order("DEL", containerId),
    check: order("CHECK", containerId),
    status: order("STATUS", ""),
    gc: order("GC", ""),
  };
}
