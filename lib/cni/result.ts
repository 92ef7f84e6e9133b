// Results in the shapes of the CNI specification's versions.

import * as v from "valibot";
import { type Cidr, formatCidr, formatIPv4, type IPv4, parseCidr, parseIPv4 } from "../address/ipv4.ts";
import type { ContainerRoute } from "../host/attach.ts";
import { reasonOf } from "../sys/reason.ts";
import type { CniConfig } from "./config.ts";
import { CniError, CODE } from "./error.ts";

/** The result of an IPAM plugin, or of the router. */
export interface Addressing {
  readonly addresses: readonly { readonly cidr: Cidr; readonly gateway: IPv4 | undefined }[];
  /** Undefined if the source specifies no routes. */
  readonly routes: readonly ContainerRoute[] | undefined;
  readonly dns: unknown;
}

interface Interface {
  readonly name: string;
  readonly mac: string;
  readonly mtu?: number;
  readonly sandbox?: string;
}

/** The result of an ADD, of no version. */
export interface AddResult {
  readonly interfaces: readonly Interface[];
  /** Index of the container's own interface in `interfaces`. */
  readonly inner: number;
  readonly addresses: readonly { readonly cidr: Cidr; readonly gateway: IPv4 | undefined }[];
  readonly routes: readonly ContainerRoute[];
  readonly dns: unknown;
}

const compact = (object: object) =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));

/** Return a route; since CNI 1.1 with all that was said of it. */
const route =
  (version: string) =>
  ({ destination, gateway, ...rest }: ContainerRoute) =>
    compact({
      dst: formatCidr(destination),
      gw: gateway === undefined ? undefined : formatIPv4(gateway),
      ...(version === "1.1.0" ? rest : {}),
    });

/** Format a result for `version`, appended to the result of earlier plugins in the chain. */
export function formatResult(version: string, result: AddResult, previous: CniConfig["prevResult"]): object {
  const dns = result.dns ?? {};
  const routes = result.routes.map(route(version));
  if (version === "0.1.0" || version === "0.2.0") {
    const [first] = result.addresses;
    const ip4 = first && {
      ip: formatCidr(first.cidr),
      ...(first.gateway === undefined ? {} : { gateway: formatIPv4(first.gateway) }),
      ...(routes.length > 0 ? { routes } : {}),
    };
    return { cniVersion: version, ip4, dns };
  }
  const list = (key: string): unknown[] => {
    const value = previous?.[key];
    return Array.isArray(value) ? value : [];
  };
  const offset = list("interfaces").length;
  const needsFamily = version.startsWith("0.");
  const hasMtu = version === "1.1.0";
  const ips = result.addresses.map(({ cidr, gateway }) =>
    compact({
      version: needsFamily ? "4" : undefined,
      interface: offset + result.inner,
      address: formatCidr(cidr),
      gateway: gateway === undefined ? undefined : formatIPv4(gateway),
    }),
  );
  const interfaces = result.interfaces.map(({ mtu, ...rest }) => (hasMtu ? { ...rest, mtu } : rest));
  return {
    cniVersion: version,
    interfaces: [...list("interfaces"), ...interfaces],
    ips: [...list("ips"), ...ips],
    ...(list("routes").length + routes.length > 0 ? { routes: [...list("routes"), ...routes] } : {}),
    dns,
  };
}

const Gateway = v.optional(v.string());
const Figure = v.optional(v.number());
const Routes = v.optional(
  v.nullable(
    v.array(
      v.object({
        dst: v.string(),
        gw: Gateway,
        mtu: Figure,
        advmss: Figure,
        priority: Figure,
        table: Figure,
        scope: Figure,
      }),
    ),
  ),
);
const Modern = v.object({
  ips: v.array(v.object({ address: v.string(), gateway: Gateway })),
  routes: Routes,
  dns: v.optional(v.unknown()),
});
const Legacy = v.object({
  ip4: v.object({ ip: v.string(), gateway: Gateway, routes: Routes }),
  dns: v.optional(v.unknown()),
});

/** Read the result of another IPAM plugin, of any version; throws CniError. */
export function parseAddressing(text: string, plugin: string): Addressing {
  try {
    const json: unknown = JSON.parse(text);
    const legacy = v.safeParse(Legacy, json);
    const { ips, routes, dns } = legacy.success
      ? {
          ips: [{ address: legacy.output.ip4.ip, gateway: legacy.output.ip4.gateway }],
          routes: legacy.output.ip4.routes,
          dns: legacy.output.dns,
        }
      : v.parse(Modern, json);
    if (ips.length === 0) throw new Error("it has no addresses");
    return {
      addresses: ips.map(({ address, gateway }) => ({
        cidr: parseCidr(address),
        gateway: gateway === undefined ? undefined : parseIPv4(gateway),
      })),
      routes: routes?.map(({ dst, gw, ...rest }) => ({
        destination: parseCidr(dst),
        gateway: gw ? parseIPv4(gw) : undefined,
        ...rest,
      })),
      dns,
    };
  } catch (error) {
    const reason = reasonOf(error);
    throw new CniError(CODE.decode, `unusable result from IPAM plugin ${plugin}: ${reason}`, "", {
      cause: error,
    });
  }
}
