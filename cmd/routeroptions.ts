// The options of the router, as `weave launch` and `weave-router` both take them. Names and meanings are the original's.

import { readFileSync } from "node:fs";
import type { OptionTable } from "../lib/help/spec.ts";
import { reasonOf } from "../lib/sys/reason.ts";
import { UsageError } from "./arguments.ts";

const PEERS = "Peers";
const SECURITY = "Security";
const ADDRESSES = "Addresses";
const DNS = "Names";
const OVERLAY = "Overlay";
const SERVERS = "Servers";

export const ROUTER_OPTIONS = {
  host: {
    group: PEERS,
    type: "string",
    description: "Listen on, and connect from, this address",
    defaultText: "all",
    valueHint: "IP",
  },
  port: {
    group: PEERS,
    type: "string",
    description: "TCP and UDP port of the mesh; the fast datapath uses the next UDP port",
    defaultText: "6783",
    valueHint: "PORT",
    env: "WEAVE_PORT",
  },
  name: {
    group: PEERS,
    type: "string",
    description: "Unique name of this peer, six octets",
    defaultText: "kept from the last launch, else derived from the machine's IDs",
    valueHint: "MAC",
  },
  nickname: {
    group: PEERS,
    type: "string",
    description: "Nickname of this peer",
    defaultText: "the host name",
    valueHint: "TEXT",
  },
  discovery: {
    group: PEERS,
    type: "boolean",
    default: true,
    description: "Find further peers through known peers",
  },
  resume: {
    group: PEERS,
    type: "boolean",
    default: false,
    description: "Also connect to the peers of the last launch, as without PEER arguments",
  },
  "conn-limit": {
    group: PEERS,
    type: "string",
    description: "Soft limit on connections; 0 for none",
    defaultText: "200",
    valueHint: "N",
  },
  "min-protocol-version": {
    group: PEERS,
    type: "string",
    description: "Lowest mesh protocol version to accept",
    defaultText: "1, with a password 2",
    valueHint: "N",
  },
  password: {
    group: SECURITY,
    type: "string",
    description: "Encrypt with this password, the same on all peers",
    valueHint: "TEXT",
    env: "WEAVE_PASSWORD",
  },
  "password-file": {
    group: SECURITY,
    type: "string",
    description: "Read the password from a file",
    valueHint: "FILE",
    completes: "files",
  },
  "trusted-subnets": {
    group: SECURITY,
    type: "string",
    description: "Do not encrypt between hosts in these networks",
    valueHint: "CIDR,…",
  },
  "anti-spoof": {
    group: SECURITY,
    type: "boolean",
    default: false,
    description: "Drop frames from source addresses that are not the container's own, even without policies",
  },
  "expect-npc": {
    group: SECURITY,
    type: "boolean",
    default: false,
    description: "Deny traffic of containers by default until weave-npc enforces policies",
  },
  "ipalloc-range": {
    group: ADDRESSES,
    formerly: "iprange",
    type: "string",
    description: "Address range of the network, the same on all peers; empty to allocate no addresses",
    defaultText: "10.32.0.0/12",
    valueHint: "CIDR",
  },
  "ipalloc-default-subnet": {
    group: ADDRESSES,
    type: "string",
    description: "Allocate in this subnet unless told otherwise",
    defaultText: "the range",
    valueHint: "CIDR",
  },
  "ipalloc-init": {
    group: ADDRESSES,
    type: "string",
    description:
      "Initial division of the range: consensus[=COUNT] (a majority of the peers named, or of COUNT), seed=NAME,… or observer",
    defaultText: "consensus",
    valueHint: "MODE",
  },
  "masq-local": {
    group: ADDRESSES,
    type: "boolean",
    default: true,
    description: "Masquerade traffic from outside to containers of this host; off keeps its source address",
  },
  dns: { group: DNS, type: "boolean", default: true, description: "Answer DNS queries" },
  "dns-domain": {
    group: DNS,
    type: "string",
    description: "Domain of container names",
    defaultText: "weave.local.",
    valueHint: "DOMAIN",
  },
  "dns-listen-address": {
    group: DNS,
    type: "string",
    description: "Answer DNS queries at this address",
    defaultText: "port 53 of the bridge's addresses",
    valueHint: "IP:PORT",
  },
  "docker-bridge": {
    group: DNS,
    type: "string",
    description: "Answer DNS queries at the addresses of this bridge, too; empty for none",
    defaultText: "docker0",
    valueHint: "NAME",
    env: "DOCKER_BRIDGE",
  },
  "dns-ttl": {
    group: DNS,
    type: "string",
    description: "Time to live of answers",
    defaultText: "1",
    valueHint: "SECONDS",
  },
  "dns-fallback-timeout": {
    group: DNS,
    type: "string",
    description: "Timeout of queries to upstream nameservers",
    defaultText: "5s",
    valueHint: "DURATION",
  },
  "resolv-conf": {
    group: DNS,
    type: "string",
    description: "Read upstream nameservers from this file",
    defaultText: "/etc/resolv.conf",
    valueHint: "FILE",
    completes: "files",
  },
  fastdp: {
    group: OVERLAY,
    type: "boolean",
    default: true,
    description: "Use the fast datapath (VXLAN and eBPF); off: sleeve only",
    envOff: "WEAVE_NO_FASTDP",
  },
  "flow-cache": {
    group: OVERLAY,
    type: "boolean",
    default: true,
    description: "Send established flows past bridge and packet filter",
    envOff: "WEAVE_NO_FLOW_CACHE",
  },
  mtu: {
    group: OVERLAY,
    type: "string",
    description: "MTU of the network; auto: the most that all paths carry, 1376 beside Weave Net 2.x",
    defaultText: "auto",
    valueHint: "BYTES",
    env: "WEAVE_MTU",
  },
  "docker-api": {
    group: SERVERS,
    type: "string",
    description: "Socket of Docker or podman; empty for none",
    defaultText: "/var/run/docker.sock, /run/podman/podman.sock",
    valueHint: "unix:///PATH",
    env: "DOCKER_HOST",
  },
  "docker-plugin": {
    group: SERVERS,
    type: "boolean",
    description: "Serve Docker's networks of driver weave; --no-docker-plugin: never",
    defaultText: "where Docker is installed",
  },
  "http-addr": {
    group: SERVERS,
    type: "string",
    description: "Serve the control API read-only at this address",
    defaultText: "127.0.0.1:6784",
    valueHint: "IP:PORT",
    env: "WEAVE_HTTP_ADDR",
  },
  "http-writes": {
    group: SERVERS,
    type: "boolean",
    default: false,
    description: "Allow writes through --http-addr",
  },
  "status-addr": {
    group: SERVERS,
    type: "string",
    description: "Serve status and metrics at this address; empty for nowhere",
    defaultText: "127.0.0.1:6782",
    valueHint: "IP:PORT",
    env: "WEAVE_STATUS_ADDR",
    emptyCounts: true,
  },
  "metrics-addr": {
    group: SERVERS,
    type: "string",
    description: "Serve only metrics at this address, for Prometheus",
    defaultText: "nowhere",
    valueHint: "IP:PORT",
    env: "WEAVE_METRICS_ADDR",
  },
  "log-level": {
    type: "string",
    description: "Log messages of this level and above",
    values: ["debug", "info", "warning", "error"],
    defaultText: "info",
    valueHint: "LEVEL",
  },
  "log-format": {
    type: "string",
    description: "Format of the log",
    values: ["text", "json"],
    defaultText: "text",
    valueHint: "FORMAT",
    env: "WEAVE_LOG_FORMAT",
  },
} as const satisfies OptionTable;

/** Return the options given on the command line or, failing that, in the environment; without defaults. */
export function givenOptions(
  options: Record<string, string | boolean | undefined>,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  const table: OptionTable = ROUTER_OPTIONS;
  for (const [key, { env: name = "", envOff = "", emptyCounts = false }] of Object.entries(table)) {
    // An empty option switches a default off; an empty variable is ignored, with few exceptions.
    const value = options[key] ?? (variable(env, name) || (emptyCounts && env[name] === "" ? "" : undefined));
    if (value !== undefined) given[key] = value;
    if (env[envOff]) given[key] = false;
  }
  const file = given["password-file"];
  if (typeof file === "string") {
    if (options["password"] !== undefined) throw new UsageError("--password or --password-file, not both");
    delete given["password-file"];
    // The command line goes before WEAVE_PASSWORD.
    given["password"] = readPassword(file);
  }
  return given;
}

/**
 * Return a variable of ours. For a Service named "weave", Kubernetes sets WEAVE_PORT to "tcp://10.96.0.7:80", as do
 * Docker's links.
 */
function variable(env: Readonly<Record<string, string | undefined>>, name: string): string | undefined {
  const value = env[name];
  return value !== undefined && name.endsWith("_PORT") && /^(tcp|udp|sctp):\/\//.test(value)
    ? undefined
    : value;
}

function readPassword(file: string): string {
  try {
    const password = readFileSync(file, "utf8").replace(/\r?\n$/, "");
    if (password === "") throw new Error("the file is empty");
    return password;
  } catch (error) {
    throw new UsageError(`--password-file ${file}: ${reasonOf(error, file)}`, { cause: error });
  }
}

/** Return the options that differ from their defaults. */
export function withoutDefaults(options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options).filter(([key, value]) => {
      const def = ROUTER_OPTIONS[key as keyof typeof ROUTER_OPTIONS];
      return !("default" in def) || def.default !== value;
    }),
  );
}
