// One run of the plugin: environment and standard input in, one JSON document on standard output, an exit code.
import { readFileSync } from "node:fs";
import { apiClient } from "../api/client.ts";
import { controlSocket } from "../api/paths.ts";
import { checkVersion, parseConfig, SUPPORTED_VERSIONS } from "./config.ts";
import { readEnvironment } from "./environment.ts";
import { CniError, CODE } from "./error.ts";
import { add, type Call, check, del, gc, status, toCniError } from "./plugin.ts";

const VERBS = { ADD: add, DEL: del, CHECK: check, STATUS: status, GC: gc };

function readInput(): string {
  try {
    return readFileSync(0, "utf8");
  } catch (error) {
    throw new CniError(CODE.io, `cannot read the network configuration from standard input: ${error}`);
  }
}

/** Runs the plugin and returns what to print and the exit code. */
export async function runPlugin(
  variables: Record<string, string | undefined>,
): Promise<{ output: string; code: number }> {
  let cniVersion: string = SUPPORTED_VERSIONS[SUPPORTED_VERSIONS.length - 1] ?? "";
  try {
    const environment = readEnvironment(variables);
    const input = readInput();
    if (environment.command === "VERSION") {
      return { output: JSON.stringify({ cniVersion, supportedVersions: SUPPORTED_VERSIONS }), code: 0 };
    }
    const config = parseConfig(input);
    cniVersion = checkVersion(config.cniVersion);
    const call: Call = { environment, config, input, api: apiClient(controlSocket()) };
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
