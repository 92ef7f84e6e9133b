// CHECK: compare a container's interface with the result of its ADD.
import * as v from "valibot";
import { formatCidr, formatIPv4, type IPv4, parseCidr, parseIPv4 } from "../address/ipv4.ts";
import { parsed } from "../address/schema.ts";
import type { Inspected } from "../host/inspect.ts";
import { isVethAlias, ownerOf, vethAlias } from "../host/names.ts";
import type { CniConfig } from "./config.ts";
import type { Environment } from "./environment.ts";
import { CniError, CODE } from "./error.ts";

const IPv4Of = <T>(parse: (text: string) => T) =>
  parsed((text): T | undefined => (text.includes(":") ? undefined : parse(text)));

/** The comparable parts of a result; addresses of both families, those of IPv6 undefined. */
const Result = v.object({
  interfaces: v.nullish(
    v.array(v.object({ name: v.string(), mac: v.nullish(v.string()), sandbox: v.nullish(v.string()) })),
    [],
  ),
  ips: v.nullish(v.array(v.object({ address: IPv4Of(parseCidr), interface: v.nullish(v.number()) })), []),
  routes: v.nullish(
    v.array(
      v.object({
        dst: IPv4Of(parseCidr),
        gw: v.nullish(IPv4Of((text) => (text === "" ? undefined : parseIPv4(text)))),
        table: v.nullish(v.number()),
      }),
    ),
    [],
  ),
});

/** Throw CniError for the first difference. */
export function checkAttachment(
  config: CniConfig,
  { netns, ifName, containerId }: Environment,
  found: Inspected | undefined,
): void {
  const where = `interface ${ifName} in ${netns}`;
  const fail = (what: string) => {
    throw new CniError(CODE.checkFailed, `${where} ${what}`);
  };
  if (!found) throw new CniError(CODE.checkFailed, `interface ${ifName} is missing from ${netns}`);
  const { link, port, bridge } = found;
  const alias = port?.alias;
  if (isVethAlias(alias) && alias !== vethAlias({ network: config.name, containerId, ifName })) {
    const owner = ownerOf(alias);
    const network = owner?.network === undefined ? "no CNI network" : `network ${owner.network}`;
    const whose = owner ? `container ${owner.containerId} on ${network}` : "another container";
    fail(`belongs to ${whose}, not to ${containerId} on ${config.name}`);
  }
  if (!link.up) fail("is down");
  if (!port) fail("has no other end on this host");
  else if (bridge !== config.bridge)
    fail(`is not on bridge ${config.bridge}: ${port.name} is on ${bridge ?? "none"}`);
  else if (!port.up) fail(`has no carrier: ${port.name} is down`);
  if (config.prevResult) compare(config.prevResult, found, ifName, netns, fail);
}

/** Return the first IPv4 address of a result; undefined where it has none. Throws CniError. */
export function previousAddress(previous: unknown): IPv4 | undefined {
  if (previous === undefined) return undefined;
  return read(previous).ips?.find(({ address }) => address !== undefined)?.address?.address;
}

function read(previous: unknown): v.InferOutput<typeof Result> {
  const result = v.safeParse(Result, previous);
  if (!result.success) throw new CniError(CODE.decode, `prevResult: ${result.issues[0].message}`);
  return result.output;
}

function compare(
  previous: unknown,
  { link, addresses, routes }: Inspected,
  ifName: string,
  netns: string,
  fail: (what: string) => void,
): void {
  const { interfaces, ips, routes: wanted } = read(previous);
  const own =
    interfaces?.findIndex(({ name, sandbox }) => name === ifName && (sandbox ?? netns) === netns) ?? -1;
  const mac = interfaces?.[own]?.mac?.toLowerCase();
  if (mac && mac !== link.address) fail(`has Ethernet address ${link.address} instead of ${mac}`);
  for (const ip of ips ?? []) {
    // Earlier plugins of the chain may have added other interfaces.
    if (!ip.address || (own >= 0 && (ip.interface ?? own) !== own)) continue;
    const address = formatCidr(ip.address);
    if (!addresses.some((cidr) => formatCidr(cidr) === address)) fail(`lacks address ${address}`);
  }
  for (const { dst, gw, table } of wanted ?? []) {
    if (!dst) continue;
    const destination = formatCidr(dst);
    const gateway = gw ?? undefined;
    const there = routes.some(
      (route) =>
        formatCidr(route.destination) === destination &&
        (gateway === undefined || route.gateway === gateway) &&
        (table == null || route.table === table),
    );
    const via = gateway === undefined ? "" : ` via ${formatIPv4(gateway)}`;
    if (!there) fail(`lacks the route to ${destination}${via}`);
  }
}
