// The query of the original's web service: "k8s-version=…&env.WEAVE_MTU=1337&seLinuxOptions.type=spc_t".
import { AddonError, type AddonParameters, PARAMETERS } from "./addon.ts";

const MAX_LENGTH = 65_536;

/** Read a query; throws AddonError for unknown parameters. */
export function queryParameters(query: string): AddonParameters {
  if (query.length > MAX_LENGTH) throw new AddonError(`a query of more than ${MAX_LENGTH} characters`);
  const plain: Record<string, unknown> = {};
  const env: Record<string, string> = {};
  const selinux: Record<string, string> = {};
  for (const [key, value] of new URLSearchParams(query)) {
    const [, group, name = ""] = /^(env|seLinuxOptions)\.(.*)$/s.exec(key) ?? [];
    if (group === "env") env[name] = value;
    else if (group === "seLinuxOptions") selinux[name] = value;
    else if (PARAMETERS.includes(key)) plain[key] = value;
    else
      throw new AddonError(
        `unknown parameter "${key}": known: ${PARAMETERS.join(", ")}, env.NAME and seLinuxOptions.NAME`,
      );
  }
  return { plain, env, selinux };
}
