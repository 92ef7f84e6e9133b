// HOST:PORT of options, variables and peers. Text behind an address is an error, never part of a name.
import { isIP, isIPv6 } from "./family.ts";
import { isIPv4 } from "./ipv4.ts";

export interface HostPort {
  readonly host: string;
  readonly port: number | undefined;
}

/** RFC 1123, section 2.1, and the underscore of containers' names. */
const LABEL = /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;
const MAX_NAME = 253;

/** An IPv4 address, or a name that does not look like one. */
function isHost(text: string): boolean {
  if (/^[\d.]+$/.test(text)) return isIPv4(text);
  const name = text.endsWith(".") ? text.slice(0, -1) : text;
  return name.length <= MAX_NAME && name.split(".").every((label) => LABEL.test(label));
}

/**
 * Split "HOST" or "HOST:PORT", with brackets around an IPv6 address; the port is 1 … 65535, undefined where there is
 * none. Return undefined for anything else.
 */
export function splitHostPort(text: string): HostPort | undefined {
  const [, six, other, digits] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = six ?? other;
  if (host === undefined || !(six === undefined ? isHost(host) : isIPv6(host))) return undefined;
  const port = digits === undefined ? undefined : Number(digits);
  return port !== undefined && (port < 1 || port > 65_535) ? undefined : { host, port };
}

/** Return "HOST:PORT", with brackets around an IPv6 address. */
export function joinHostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Read where to listen: "IP:PORT", "localhost:PORT", or ":PORT" for all IPv4 addresses of the host. Return undefined for
 * anything else.
 */
export function listenAddress(text: string): { readonly host: string; readonly port: number } | undefined {
  const { host, port } = splitHostPort(text.startsWith(":") ? `0.0.0.0${text}` : text) ?? {};
  if (host === undefined || port === undefined) return undefined;
  return isIP(host) || host === "localhost" ? { host, port } : undefined;
}
