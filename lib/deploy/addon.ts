// Parameters of the Kubernetes addon's manifest: those of the original's web service, checked.
import * as v from "valibot";
import { splitHostPort } from "../address/hostport.ts";
import { AddressError, formatCidr, parseCidr } from "../address/ipv4.ts";
import { parsed } from "../address/schema.ts";
import { VERSION } from "../version.ts";
import { DISTRIBUTION_NAMES, DISTRIBUTIONS } from "./distributions.ts";
import { CURRENT, KubeVersionError, parseKubeVersion } from "./version.ts";

/** An invalid parameter; the message names it and its value. */
export class AddonError extends Error {
  override readonly name = "AddonError";
  readonly failure = "usage" as const;
}

/** The image that `npm run image` builds. */
const IMAGE = "localhost/weave";

const name = (what: string, pattern: RegExp) =>
  v.pipe(v.string(), v.regex(pattern, `is not a valid ${what}`));
const flag = v.pipe(
  v.union(
    [
      v.boolean(),
      v.pipe(
        v.picklist(["true", "false"]),
        v.transform((text) => text === "true"),
      ),
    ],
    "should be true or false",
  ),
);
const list = <T>(item: (text: string) => T) => parsed((text) => text.split(",").filter(Boolean).map(item));
const host = (text: string) => {
  if (!splitHostPort(text)) throw new AddressError(`"${text}" is not a host`);
  return text;
};
/** The name of a variable of the environment. */
export const variable = name("name of a variable", /^[A-Za-z_][A-Za-z0-9_]{0,254}$/);
/** The type of privileged containers: others may not use the host's folders and namespaces. */
const SELINUX = { type: "spc_t" };
const NODES = "should be a number of nodes, or a percentage such as 10%";
const PATH = /^\/[\w./-]{1,254}$/;
const quantity = /^\d{1,9}(\.\d{1,3})?(m|k|Ki|M|Mi|G|Gi)?$/;

const Schema = v.object({
  "k8s-version": v.optional(parsed(parseKubeVersion, KubeVersionError), `1.${CURRENT}`),
  version: v.optional(name("tag of an image", /^[A-Za-z0-9_][\w.-]{0,127}$/)),
  image: v.optional(name("image", /^[a-z0-9][\w.:@/-]{0,254}$/)),
  "password-secret": v.optional(name("name of a secret", /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/)),
  "known-peers": v.optional(list(host), ""),
  "trusted-subnets": v.optional(
    list((text) => formatCidr(parseCidr(text))),
    "",
  ),
  "disable-npc": v.optional(flag, false),
  "use-legacy-netpol": v.optional(flag, false),
  distribution: v.optional(
    v.picklist(DISTRIBUTION_NAMES, `is not one of ${DISTRIBUTION_NAMES.join(", ")}`),
    "kubeadm",
  ),
  /** By default those of the distribution. */
  "cni-bin-dir": v.optional(name("absolute path", PATH)),
  "cni-conf-dir": v.optional(name("absolute path", PATH)),
  "startup-taint": v.optional(flag, false),
  "max-unavailable": v.optional(
    v.union(
      [
        v.pipe(
          v.string(),
          v.regex(/^[1-9]\d{0,4}$/, NODES),
          v.transform((text) => Number(text)),
        ),
        v.pipe(v.string(), v.regex(/^([1-9]\d?|100)%$/, NODES)),
      ],
      NODES,
    ),
    "1",
  ),
  guaranteed: v.optional(
    v.pipe(
      v.string(),
      v.transform((text) => text.split(",")),
      v.check(
        (parts) => parts.length === 2 && parts.every((part) => quantity.test(part)),
        "should be CPU,MEMORY, such as 100m,200Mi",
      ),
    ),
  ),
  env: v.optional(v.record(variable, v.pipe(v.string(), v.maxLength(4096, "is too long"))), {}),
  "selinux-options": v.optional(
    v.record(
      v.picklist(["level", "role", "type", "user"], "should be level, role, type or user"),
      v.pipe(v.string(), v.maxLength(255, "is too long")),
    ),
    {},
  ),
});

export type AddonSettings = Omit<v.InferOutput<typeof Schema>, "cni-bin-dir" | "cni-conf-dir"> & {
  readonly image: string;
  readonly "cni-bin-dir": string;
  readonly "cni-conf-dir": string;
};

/** Parameters, unchecked, by their names in the original's query; variables and SELinux options by names of their own. */
export interface AddonParameters {
  readonly plain: Readonly<Record<string, unknown>>;
  readonly env: Readonly<Record<string, string>>;
  readonly selinux: Readonly<Record<string, string>>;
}

/** Merge parameters; those of `more` win. */
export function mergeParameters(some: AddonParameters, more: AddonParameters): AddonParameters {
  return {
    plain: { ...some.plain, ...more.plain },
    env: { ...some.env, ...more.env },
    selinux: { ...some.selinux, ...more.selinux },
  };
}

/** Names of the parameters, without `env` and `selinux-options`, which contain names of their own. */
export const PARAMETERS = Object.keys(Schema.entries).filter(
  (key) => key !== "env" && key !== "selinux-options",
);

/** Check parameters; throws AddonError. */
export function addonSettings({ plain, env, selinux }: AddonParameters): AddonSettings {
  const result = v.safeParse(Schema, { ...plain, env, "selinux-options": selinux });
  if (!result.success) {
    const [issue] = result.issues;
    const path = v.getDotPath(issue) ?? "";
    throw new AddonError(`${path}: ${JSON.stringify(issue.input)} ${issue.message}`);
  }
  const { output } = result;
  if (output.image && output.version) throw new AddonError("image: has a tag; leave out the version");
  const { bin, conf } = DISTRIBUTIONS[output.distribution];
  return {
    ...output,
    image: output.image ?? `${IMAGE}:${output.version ?? VERSION}`,
    "cni-bin-dir": output["cni-bin-dir"] ?? bin,
    "cni-conf-dir": output["cni-conf-dir"] ?? conf,
    "selinux-options": { ...SELINUX, ...output["selinux-options"] },
  };
}
