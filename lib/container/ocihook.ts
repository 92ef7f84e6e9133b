// A hook of an OCI runtime: the container's state on standard input, and its configuration in its bundle
// (https://github.com/opencontainers/runtime-spec: runtime.md, config.md).
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { reasonOf } from "../sys/reason.ts";
import { declaredAddresses } from "./declared.ts";

/** Bytes of a config.json; those of containers have some 20 kB. */
const MAX_CONFIG = 16 * 1024 * 1024;

const Annotations = v.nullish(v.record(v.string(), v.string()), {});

const State = v.object({
  id: v.pipe(v.string(), v.regex(/^[\w.+-]{1,256}$/)),
  status: v.picklist(["creating", "created", "running", "stopped"]),
  pid: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 0),
  bundle: v.string(),
  annotations: Annotations,
});

const Config = v.object({
  hostname: v.optional(v.string(), ""),
  domainname: v.optional(v.string(), ""),
  annotations: Annotations,
  process: v.nullish(v.object({ env: v.nullish(v.array(v.string()), []) })),
  linux: v.nullish(
    v.object({
      namespaces: v.nullish(v.array(v.object({ type: v.string(), path: v.optional(v.string(), "") })), []),
    }),
  ),
});

/** Who keeps a container, by the annotation of podman and CRI-O. */
const MANAGER = "io.container.manager";
const PODMAN = "libpod";

export type OciState = v.InferOutput<typeof State>;
export type OciConfig = v.InferOutput<typeof Config>;

/** What a hook has to do. */
export type HookAction =
  | {
      readonly kind: "attach";
      readonly id: string;
      readonly pid: number;
      readonly addresses: string;
      readonly fqdn: string | undefined;
    }
  /** The container is gone for good: no runtime will start it again under its ID. */
  | { readonly kind: "release"; readonly id: string }
  | { readonly kind: "nothing"; readonly why: string };

/** Parse the state of a container; throws an Error that says what is wrong. */
export function parseState(text: string): OciState {
  const state = v.safeParse(v.pipe(v.string(), v.parseJson(), State), text);
  if (state.success) return state.output;
  throw new Error(
    "standard input is not the state of a container: 'weave oci-hook' is run by an OCI runtime, see 'weave help podman'",
  );
}

/** Read the configuration of a container; throws an Error that names the file. */
export function readConfig(bundle: string): OciConfig {
  const path = join(bundle, "config.json");
  try {
    if (statSync(path).size > MAX_CONFIG) throw new Error("the file is too long");
    return v.parse(Config, JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    throw new Error(`cannot read ${path}: ${reasonOf(error, path)}`, { cause: error });
  }
}

/** Return what to do for a container. */
export function hookAction(state: OciState, config: OciConfig): HookAction {
  const { id, pid, status } = state;
  const annotations = { ...config.annotations, ...state.annotations };
  const addresses = declaredAddresses({ env: config.process?.env ?? [], labels: annotations });
  if (addresses === undefined) return { kind: "nothing", why: "it asks for no address" };
  const network = config.linux?.namespaces?.find(({ type }) => type === "network");
  if (!network) return { kind: "nothing", why: "its network is the host's" };
  if (network.path?.startsWith("/proc/"))
    return { kind: "nothing", why: "its network is another container's" };
  if (status === "stopped")
    return annotations[MANAGER] === PODMAN
      ? { kind: "nothing", why: "podman may start it again" }
      : { kind: "release", id };
  if (pid === 0) return { kind: "nothing", why: "it has no process" };
  return { kind: "attach", id, pid, addresses, fqdn: fqdnOf(config) };
}

function fqdnOf({ hostname, domainname }: OciConfig): string | undefined {
  if (domainname !== "") return `${hostname}.${domainname}`;
  return hostname.includes(".") ? hostname : undefined;
}
