// The options of the router, as `weave launch` and `weave-router` both take them. Names and meanings are the original's.

import { readFileSync } from "node:fs";
import type { ArgsDef } from "citty";
import { reasonOf } from "../lib/sys/reason.ts";
import { UsageError } from "./main.ts";

export const ROUTER_OPTIONS = {
  password: { type: "string", description: "network password (or WEAVE_PASSWORD)", valueHint: "TEXT" },
  "password-file": { type: "string", description: "file that holds the network password", valueHint: "FILE" },
  "trusted-subnets": { type: "string", description: "networks that need no encryption", valueHint: "CIDR,…" },
  host: { type: "string", description: "address to listen on, and to connect from", valueHint: "IP" },
  port: {
    type: "string",
    description: "TCP port of the mesh (6783); the fast datapath takes the UDP port above",
    valueHint: "PORT",
  },
  name: { type: "string", description: "name of this peer: six octets", valueHint: "MAC" },
  nickname: { type: "string", description: "nickname of this peer (the host name)", valueHint: "TEXT" },
  discovery: {
    type: "boolean",
    default: true,
    negativeDescription: "connect to no peers but those that were named",
  },
  fastdp: {
    type: "boolean",
    default: true,
    negativeDescription: "do without the fast datapath: sleeve alone",
  },
  resume: {
    type: "boolean",
    default: false,
    description: "connect to the peers of the last time, as without any",
  },
  "conn-limit": {
    type: "string",
    description: "soft limit on the number of connections (200; 0 for none)",
    valueHint: "N",
  },
  "min-protocol-version": {
    type: "string",
    description: "lowest protocol version to accept (1; with a password 2)",
    valueHint: "N",
  },
  "ipalloc-range": {
    type: "string",
    description: "addresses that all peers share (10.32.0.0/12)",
    valueHint: "CIDR",
  },
  "ipalloc-default-subnet": {
    type: "string",
    description: "subnet to allocate in unless told otherwise",
    valueHint: "CIDR",
  },
  "ipalloc-init": {
    type: "string",
    description:
      "consensus[=COUNT] (with COUNT, peers that were named need not all answer), seed=NAME,… or observer",
    valueHint: "MODE",
  },
  dns: { type: "boolean", default: true, negativeDescription: "answer no DNS queries" },
  "dns-domain": {
    type: "string",
    description: "domain of containers' names (weave.local.)",
    valueHint: "DOMAIN",
  },
  "dns-listen-address": {
    type: "string",
    description: "where to answer DNS queries (port 53 of the bridge's addresses)",
    valueHint: "IP:PORT",
  },
  "dns-ttl": { type: "string", description: "how long answers may be remembered (1)", valueHint: "SECONDS" },
  "dns-fallback-timeout": {
    type: "string",
    description: "how long to wait for other nameservers (5s)",
    valueHint: "DURATION",
  },
  "resolv-conf": {
    type: "string",
    description: "file that names the other nameservers (/etc/resolv.conf)",
    valueHint: "FILE",
  },
  mtu: { type: "string", description: "MTU of the network (1376, or WEAVE_MTU)", valueHint: "BYTES" },
  "docker-api": {
    type: "string",
    description: "socket of Docker or podman (DOCKER_HOST, or where they are by default)",
    valueHint: "unix:///PATH",
  },
  "http-addr": {
    type: "string",
    description: "where to serve the control API for reading (127.0.0.1:6784)",
    valueHint: "IP:PORT",
  },
  "http-writes": {
    type: "boolean",
    default: false,
    description: "let the control API on TCP change things, too",
  },
  "status-addr": { type: "string", description: "where to serve the status (nowhere)", valueHint: "IP:PORT" },
  "metrics-addr": {
    type: "string",
    description: "where to serve metrics for Prometheus (nowhere)",
    valueHint: "IP:PORT",
  },
  "masq-local": {
    type: "boolean",
    default: true,
    negativeDescription: "what comes from outside to this host's containers keeps its source address",
  },
  "expect-npc": {
    type: "boolean",
    default: false,
    description: "isolate containers from all but this host until weave-npc has policies in force",
  },
  "anti-spoof": {
    type: "boolean",
    default: false,
    description: "let containers send from their own addresses only, also where no policies are enforced",
  },
  "log-level": { type: "string", description: "debug, info, warning or error (info)", valueHint: "LEVEL" },
} satisfies ArgsDef;

const ENVIRONMENT: Record<string, string> = {
  password: "WEAVE_PASSWORD",
  mtu: "WEAVE_MTU",
  port: "WEAVE_PORT",
  "docker-api": "DOCKER_HOST",
  "http-addr": "WEAVE_HTTP_ADDR",
  "status-addr": "WEAVE_STATUS_ADDR",
  "metrics-addr": "WEAVE_METRICS_ADDR",
};

/** Options as given, the environment's where none were; without those that nobody gave. */
export function givenOptions(
  options: Record<string, string | boolean | undefined>,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  for (const key of Object.keys(ROUTER_OPTIONS)) {
    // An option given empty switches off what it would be by default; an empty variable means nothing.
    const value = options[key] ?? (variable(env, ENVIRONMENT[key] ?? "") || undefined);
    if (value !== undefined) given[key] = value;
  }
  const file = given["password-file"];
  if (typeof file === "string") {
    delete given["password-file"];
    if (given["password"] === undefined) given["password"] = readPassword(file);
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
    if (password === "") throw new Error("it is empty");
    return password;
  } catch (error) {
    throw new UsageError(`--password-file ${file}: ${reasonOf(error)}`);
  }
}

/** Options without those that are what they are by default: these are nobody's choice. */
export function chosen(options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options).filter(([key, value]) => {
      const def = ROUTER_OPTIONS[key as keyof typeof ROUTER_OPTIONS];
      return !("default" in def) || def.default !== value;
    }),
  );
}
