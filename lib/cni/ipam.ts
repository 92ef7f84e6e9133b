// Where addresses come from: the router, or another IPAM plugin that the configuration names.
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { formatCidr, parseCidr } from "../address/ipv4.ts";
import { type ApiClient, ApiError, RouterDownError } from "../api/client.ts";
import { releaseDirectory } from "../api/paths.ts";
import { forgetRelease, rememberRelease } from "../ipam/releases.ts";
import { reasonOf } from "../sys/reason.ts";
import type { CniConfig } from "./config.ts";
import type { Environment } from "./environment.ts";
import { CniError, CODE } from "./error.ts";
import { type Addressing, parseAddressing } from "./result.ts";

/** An address may have to be asked for at another host; a runtime would rather try again than wait for ever. */
const ALLOCATE_TIMEOUT_MS = 10_000;
const RELEASE_TIMEOUT_MS = 5_000;
const OWN_TYPES = ["", "weave-ipam"];

export interface IpamSource {
  /** Addresses for the container's attachment, or for the host's own end under another id. */
  add(containerId: string): Promise<Addressing>;
  /** Gives back what an `add` that turned out useless has newly allocated. */
  undo(): Promise<void>;
  /**
   * Gives back the addresses of the attachment; those that are gone already are no error. `detached`: its link has
   * just been removed.
   */
  release(detached: boolean): Promise<void>;
}

/** True where the addresses are to come from the router. */
export function isOurs({ ipam }: CniConfig): boolean {
  return OWN_TYPES.includes(ipam.type);
}

/** The source of addresses that the configuration asks for. */
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
  const attachment = attachmentName(config, environment);
  const path = (id: string) => `/ip/${encodeURIComponent(id)}${subnet ? `/${formatCidr(subnet)}` : ""}`;
  const query = (parameters: Record<string, string>) => `?${new URLSearchParams(parameters)}`;
  const giveBack = (detached: boolean) =>
    api(
      "DELETE",
      `/ip/${encodeURIComponent(containerId)}${query({ attachment, detached: String(detached) })}`,
      { timeoutMs: RELEASE_TIMEOUT_MS },
    );
  let fresh = false;
  return {
    async add(id) {
      const isContainer = id === containerId;
      if (isContainer) {
        forgetRelease(releaseDirectory(), id, attachment);
        const held = await api("GET", `${path(id)}${query({ attachment })}`, {
          timeoutMs: RELEASE_TIMEOUT_MS,
        });
        fresh = held.trim() === "";
      }
      const terms = isContainer ? { container: "true", attachment, wait: "false" } : { wait: "false" };
      const answer = await api("POST", `${path(id)}${query(terms)}`, { timeoutMs: ALLOCATE_TIMEOUT_MS });
      return {
        addresses: [{ cidr: parseCidr(answer.trim()), gateway }],
        routes: routes?.map(({ dst, gw }) => ({ destination: dst, gateway: gw })),
        dns: undefined,
      };
    },
    async undo() {
      if (fresh) await giveBack(true);
    },
    async release(detached) {
      try {
        await giveBack(detached);
      } catch (error) {
        if (error instanceof ApiError && error.status === 400) return;
        if (!(error instanceof RouterDownError)) throw error;
        remember(containerId, attachment);
      }
    },
  };
}

/** The key of an attachment at the router, beside the container's id. */
function attachmentName({ name = "" }: CniConfig, { ifName }: Environment): string {
  return `${name}/${ifName}`;
}

/**
 * The container is gone all the same; a DEL that fails would only be repeated for ever. What cannot be remembered, the
 * router finds out by itself: the link is gone.
 */
function remember(containerId: string, attachment: string): void {
  try {
    rememberRelease(releaseDirectory(), containerId, attachment);
  } catch (error) {
    console.error(`weave-net: cannot note that ${containerId} has gone: ${reasonOf(error)}`);
  }
}

function pluginSource(type: string, input: string, environment: Environment): IpamSource {
  const run = async (command: string, containerId: string) => {
    const child = Bun.spawn([find(type, environment.path)], {
      env: { ...process.env, CNI_COMMAND: command, CNI_CONTAINERID: containerId },
      stdin: new TextEncoder().encode(input),
      stdout: "pipe",
      stderr: "inherit",
    });
    const output = await new Response(child.stdout).text();
    if ((await child.exited) === 0) return output;
    throw pluginFailure(type, output);
  };
  return {
    add: async (id) => parseAddressing(await run("ADD", id), type),
    undo: async () => {
      await run("DEL", environment.containerId);
    },
    release: async () => {
      await run("DEL", environment.containerId);
    },
  };
}

function pluginFailure(type: string, output: string): CniError {
  try {
    const { code, msg } = JSON.parse(output);
    return new CniError(Number(code) || CODE.failed, `IPAM plugin ${type}: ${msg}`);
  } catch {
    return new CniError(CODE.failed, `IPAM plugin ${type} failed: ${output.trim() || "it said nothing"}`);
  }
}

function find(type: string, path: readonly string[]): string {
  for (const folder of path) {
    const file = join(folder, type);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {}
  }
  throw new CniError(CODE.invalidConfig, `ipam.type: no plugin "${type}" in CNI_PATH (${path.join(":")})`);
}
