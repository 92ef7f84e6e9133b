// The app for Marathon (https://mesosphere.github.io/marathon/docs/rest-api.html) that runs a router on each agent of a
// Mesos cluster: our one file, at most once a host.
import * as v from "valibot";
import { formatCidr } from "../address/ipv4.ts";
import { parsed } from "../address/schema.ts";
import { parseAllocationSubnet } from "../address/subnet.ts";
import { AddonError, variable } from "./addon.ts";

const Schema = v.object({
  "host-prefix": v.pipe(v.string(), v.regex(/^[A-Za-z0-9][A-Za-z0-9-]{0,200}$/, "cannot begin a host name")),
  "ipalloc-range": v.pipe(v.string(), parsed(parseAllocationSubnet)),
  instances: v.pipe(v.string(), v.regex(/^[1-9]\d{0,3}$/, "should be 1 … 9999"), v.transform(Number)),
  uri: v.optional(v.pipe(v.string(), v.url("is not a URL"))),
  command: v.optional(
    v.pipe(v.string(), v.regex(/^\/[\w./-]+$/, "is not an absolute path")),
    "/usr/local/bin/weave",
  ),
  env: v.record(variable, v.string()),
});

export type MarathonParameters = { readonly [K in keyof v.InferInput<typeof Schema>]?: unknown };

/** Return the app; throws AddonError. */
export function marathonApp(parameters: MarathonParameters): object {
  const result = v.safeParse(Schema, parameters);
  if (!result.success) {
    const optionOf = (issue: (typeof result.issues)[number]) => `--${v.getDotPath(issue)}`;
    const missing = result.issues.filter(({ input }) => input === undefined).map(optionOf);
    if (missing.length > 0) throw new AddonError(`required: ${missing.join(", ")}; see 'weave help mesos'`);
    const [issue] = result.issues;
    throw new AddonError(`${optionOf(issue)}: ${JSON.stringify(issue.input)} ${issue.message}`);
  }
  const { "host-prefix": prefix, "ipalloc-range": range, instances, uri, command, env } = result.output;
  const weave = uri === undefined ? command : "./weave";
  return {
    id: "/weave",
    // Routers run as root, whatever the framework's user.
    user: "root",
    cmd: `exec ${weave} launch --mesos --foreground`,
    cpus: 0.1,
    mem: 128,
    instances,
    constraints: [["hostname", "UNIQUE"]],
    ...(uri === undefined
      ? {}
      : { fetch: [{ uri, executable: true, extract: false, cache: true, destPath: "weave" }] }),
    env: {
      HOST_PREFIX: prefix,
      IPALLOC_RANGE: formatCidr(range),
      // A quorum of them divides the range.
      IPALLOC_INIT: `consensus=${instances}`,
      ...env,
    },
    healthChecks: [
      {
        protocol: "COMMAND",
        command: { value: `${weave} status` },
        gracePeriodSeconds: 60,
        intervalSeconds: 30,
        timeoutSeconds: 10,
        maxConsecutiveFailures: 5,
      },
    ],
    // No host can run a second router during an upgrade.
    upgradeStrategy: { minimumHealthCapacity: 0.5, maximumOverCapacity: 0 },
  };
}
