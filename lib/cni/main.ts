// One call of the plugin: environment and configuration in, one JSON document and an exit code out.

import type { CniCall, CniOutcome } from "../api/bodies.ts";
import type { ApiClient } from "../api/client.ts";
import type { ContainerWork } from "../host/containerwork.ts";
import { netnsInode } from "../sys/netnsinode.ts";
import { checkVersion, parseConfig, SUPPORTED_VERSIONS } from "./config.ts";
import type { Variables } from "./environment.ts";
import { readEnvironment } from "./environment.ts";
import { isOurs } from "./ipam.ts";
import { add, type Call, check, del, gc, status, toCniError } from "./plugin.ts";

const VERBS = { ADD: add, DEL: del, CHECK: check, STATUS: status, GC: gc };

/**
 * Run one call; never rejects. `input` is the configuration, undefined if it was too long. `caller` fires when the caller
 * has gone.
 */
export async function runPlugin(
  variables: Variables,
  input: string | undefined,
  api: ApiClient,
  work: ContainerWork,
  caller?: AbortSignal,
): Promise<CniOutcome> {
  let cniVersion: string = SUPPORTED_VERSIONS[SUPPORTED_VERSIONS.length - 1] ?? "";
  try {
    const environment = readEnvironment(variables);
    if (environment.command === "VERSION") {
      return { output: JSON.stringify({ cniVersion, supportedVersions: SUPPORTED_VERSIONS }), code: 0 };
    }
    const config = parseConfig(input, environment.command);
    cniVersion = checkVersion(config.cniVersion);
    const call: Call = { environment, config, input: input ?? "", api, work, caller };
    const result = await VERBS[environment.command](call);
    return { output: result ? JSON.stringify(result) : "", code: 0 };
  } catch (error) {
    const { code, message, details } = toCniError(error);
    return {
      output: JSON.stringify({ cniVersion, code, msg: message, ...(details && { details }) }),
      code: 1,
    };
  }
}

/**
 * Run a call in the router for a plugin: the code is loaded there. Undefined if the plugin has to run it itself, because
 * the router, which may run in a container, cannot see the namespace or the IPAM plugin.
 */
export async function runInRouter(
  { variables, input, namespace }: CniCall,
  api: ApiClient,
  work: ContainerWork,
  caller: AbortSignal,
): Promise<CniOutcome | undefined> {
  // In a container, the same path may be another namespace.
  if (netnsInode(variables["CNI_NETNS"]) !== namespace) return undefined;
  try {
    if (!isOurs(parseConfig(input, variables["CNI_COMMAND"]))) return undefined;
  } catch {
    // Invalid: running it reports how.
  }
  return runPlugin(variables, input, api, work, caller);
}
