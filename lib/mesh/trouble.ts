// Causes for which a peer is not connected, and their remedies.
import { splitHostPort } from "../address/hostport.ts";
import type { Trouble } from "../sys/trouble.ts";
import { DEFAULT_PORT } from "./port.ts";

/** Causes of a refused handshake; its error has the remedy. */
export type Refusal =
  | "password"
  | "password missing here"
  | "password missing there"
  | "version"
  | "no router"
  | "name"
  | "range"
  | "division"
  | "overlay";

/** Other causes. */
export const CONNECTION_CAUSES = [
  "refused",
  "no route",
  "no network",
  "no own address",
  "no answer",
  "prohibited",
  "blocked",
  "closed",
  "silent",
  "unresolved",
  "name servers",
  "self",
  "duplicate name",
  "limit",
  "forwarders",
  "protocol",
  "invalid address",
  "other",
] as const;
export type ConnectionCause = (typeof CONNECTION_CAUSES)[number];

/** Causes at this host: nothing is wrong at the peer. */
export const OWN_CAUSES: readonly string[] = ["no network", "no own address", "prohibited", "blocked"];

export type PeerTrouble = Trouble<ConnectionCause | Refusal>;

/** By the address that was dialled, "host:port". */
const REMEDIES: Record<ConnectionCause, (host: string, port: number, address: string) => string> = {
  refused: (host, port, address) =>
    `${host} is up and no router listens on TCP ${port}: 'weave launch' there, or 'weave forget ${address}'`,
  "no route": (host, _port, address) =>
    `${host} is down or a firewall rejects: 'ping ${host}', then 'weave forget ${address}' if it is gone`,
  "no network": (host) => `this host has no route to ${host}: see 'ip route get ${host}'`,
  "no own address": () => "give this host an address again, in the network of its peers: see 'ip address'",
  "no answer": (host, port) => `open TCP ${port} in the firewalls on the way to ${host}, or start ${host}`,
  prohibited: (host) => `a route of this host forbids packets to ${host}: see 'ip route get ${host}'`,
  blocked: (host, port) => `remove the firewall rule of this host that drops TCP ${port} to ${host}`,
  closed: (host) => `${host} has ended the connection: 'weave logs' there says why`,
  silent: (host, port) => `'weave doctor' on ${host}; if it is well, open TCP ${port} on the way there`,
  unresolved: (host) => `the name ${host} does not resolve: see /etc/resolv.conf and /etc/hosts`,
  "name servers": () => "no name server answers: see /etc/resolv.conf",
  self: (_host, _port, address) => `that is this host: 'weave forget ${address}'`,
  "duplicate name": () => "two hosts have one peer name: 'weave reset' one of them, launch it with --name",
  limit: (host) => `raise --conn-limit, here and on ${host}`,
  forwarders: (host, port) => `open UDP ${port} and the UDP port above it between this host and ${host}`,
  protocol: (host) => `'weave version' here and on ${host}: upgrade the older of the two`,
  "invalid address": (_host, _port, address) =>
    `'weave forget ${address}', then name it as HOST or HOST:PORT`,
  other: (host) => `'weave logs', here and on ${host}, says more`,
};

/** Return the trouble with a peer at an address ("host:port", or "host"). */
export function connectionTrouble(cause: ConnectionCause, reason: string, address: string): PeerTrouble {
  const { host, port = DEFAULT_PORT } = splitHostPort(address) ?? { host: address };
  return { cause, reason, remedy: REMEDIES[cause](host, port, address) };
}

/** The codes of lib/sys/cause.ts that have a cause here. */
const BY_CODE: ReadonlyMap<string, ConnectionCause> = new Map(
  Object.entries({
    ECONNREFUSED: "refused",
    ConnectionRefused: "refused",
    EHOSTUNREACH: "no route",
    EHOSTDOWN: "no route",
    ENETUNREACH: "no network",
    ENETDOWN: "no network",
    ETIMEDOUT: "no answer",
    EACCES: "prohibited",
    EINVAL: "prohibited",
    EPERM: "blocked",
    ECONNRESET: "closed",
    ECONNABORTED: "closed",
    EPIPE: "closed",
    ConnectionClosed: "closed",
    ENOTFOUND: "unresolved",
    ENODATA: "unresolved",
    EAI_AGAIN: "name servers",
    EAI_FAIL: "name servers",
  } as const),
);

/** Return the cause of a code such as "ECONNREFUSED"; "other" for unknown ones. */
export const connectionCause = (code: string | undefined): ConnectionCause =>
  BY_CODE.get(code ?? "") ?? "other";
