// The environment of the Kubernetes addon: the variables of the original's manifest and launch script, as options of the
// router. What the command line says goes before a variable, a variable before EXTRA_ARGS.
import { AddressError, formatCidr, parseCidr } from "../lib/address/ipv4.ts";
import { DEFAULT_RANGE, OptionError, parseOptions, type RouterOptions } from "../lib/router/options.ts";
import { type Arguments, readArguments, UsageError } from "./arguments.ts";
import { givenOptions, ROUTER_OPTIONS, withoutDefaults } from "./routeroptions.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Settings of a router in a pod of the addon. */
export interface Addon {
  /** The node that this host is. */
  readonly node: string;
  /** Named peers; undefined to ask the API server. */
  readonly peers: readonly string[] | undefined;
  readonly exposeAddress: string | undefined;
  /** Whether weave-npc enforces policies here. */
  readonly policies: boolean;
  /** The router's options, with those from the cluster once known. */
  options(cluster?: { readonly name?: string; readonly peers: readonly string[] }): RouterOptions;
}

/** Variables that are options of the router by another name. */
const OPTIONS: Record<string, string> = {
  CONN_LIMIT: "conn-limit",
  IPALLOC_RANGE: "ipalloc-range",
  IPALLOC_INIT: "ipalloc-init",
  HOSTNAME: "nickname",
  LOG_LEVEL: "log-level",
};

/** Defaults of the original's launch script. */
const DEFAULTS = { "status-addr": "", "metrics-addr": "0.0.0.0:6782", "ipalloc-range": DEFAULT_RANGE };

/** Read the addon's variables and the command line; throw UsageError or OptionError for what makes no sense. */
export function readAddon(env: Environment, { options, positionals }: Arguments): Addon {
  const node = env["HOSTNAME"];
  if (!node) throw new UsageError("HOSTNAME is not set; in Kubernetes, set it to the name of the node");
  const policies = flag(env, "EXPECT_NPC", true);
  const extra = extraArguments(env["EXTRA_ARGS"]);
  const named: Record<string, unknown> = {};
  for (const [variable, option] of Object.entries(OPTIONS)) {
    if (env[variable]) named[option] = env[variable];
  }
  const raw = {
    ...DEFAULTS,
    ...withoutDefaults(givenOptions(extra.options, {})),
    ...named,
    ...withoutDefaults(givenOptions(options, env)),
    // The cluster has a DNS of its own, and a runtime that tells us of its containers.
    dns: false,
    "docker-api": "",
    "expect-npc": policies,
    "masq-local": !flag(env, "NO_MASQ_LOCAL", true),
  };
  const known = (env["KUBE_PEERS"] ?? "").split(/[\s,]+/).filter(Boolean);
  const routerOptions: Addon["options"] = ({ name, peers } = { peers: known }) => {
    const told = name === undefined ? {} : { name };
    // The quorum is that of all present nodes, including this one.
    const init = { "ipalloc-init": `consensus=${peers.length + 1}` };
    return checked({ ...init, ...raw, ...told }, named, [...extra.positionals, ...positionals, ...peers]);
  };
  return {
    node,
    peers: known.length > 0 ? known : undefined,
    exposeAddress: exposeAddress(env["WEAVE_EXPOSE_IP"], routerOptions().defaultSubnet.prefix),
    policies,
    options: routerOptions,
  };
}

function flag(env: Environment, variable: string, otherwise: boolean): boolean {
  const value = env[variable] ?? "";
  if (value === "") return otherwise;
  if (/^(0|false)$/i.test(value)) return false;
  if (/^(1|true)$/i.test(value)) return true;
  throw new OptionError(`${variable}: "${value}": should be 0 or 1`);
}

function extraArguments(text = ""): Arguments {
  try {
    return readArguments({ options: ROUTER_OPTIONS }, text.split(/\s+/).filter(Boolean));
  } catch (error) {
    if (error instanceof UsageError) throw new OptionError(`EXTRA_ARGS: ${error.message}`, { cause: error });
    throw error;
  }
}

/** An address, with the prefix of the subnet unless it has one of its own. */
function exposeAddress(text: string | undefined, prefix: number): string | undefined {
  if (!text) return undefined;
  try {
    return formatCidr(parseCidr(text.includes("/") ? text : `${text}/${prefix}`));
  } catch (error) {
    if (error instanceof AddressError)
      throw new OptionError(`WEAVE_EXPOSE_IP: ${error.message}`, { cause: error });
    throw error;
  }
}

/** Like parseOptions, but errors name the variable. */
function checked(
  raw: Record<string, unknown>,
  named: Record<string, unknown>,
  peers: readonly string[],
): RouterOptions {
  try {
    return parseOptions(raw, peers);
  } catch (error) {
    if (!(error instanceof OptionError)) throw error;
    const [variable] =
      Object.entries(OPTIONS).find(([, option]) => error.message.startsWith(`--${option}: `)) ?? [];
    if (!variable || raw[OPTIONS[variable] ?? ""] !== named[OPTIONS[variable] ?? ""]) throw error;
    throw new OptionError(error.message.replace(/^--[\w-]+/, variable), { cause: error });
  }
}
