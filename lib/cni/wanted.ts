// Addresses and the Ethernet address that a runtime or a user asks for: CNI_ARGS ("IP=10.32.0.5;MAC=…"), args.cni of the
// configuration, runtimeConfig; the last goes first (https://github.com/containernetworking/cni/blob/main/CONVENTIONS.md).
import { type Cidr, parseCidr } from "../address/ipv4.ts";
import { parseMac } from "../address/mac.ts";
import { reasonOf } from "../sys/reason.ts";
import type { CniConfig } from "./config.ts";
import type { Environment } from "./environment.ts";
import { CniError, CODE } from "./error.ts";

const GROUP_BIT = 1;

/** Addresses with the length of their prefix, where it was said. */
export interface Wanted {
  readonly addresses: readonly { readonly cidr: Cidr; readonly hasPrefix: boolean }[];
  readonly mac: string | undefined;
}

/** Return what is asked for. Throws CniError. */
export function wanted({ runtimeConfig, args }: CniConfig, { args: words }: Environment): Wanted {
  const sources = [
    { where: "runtimeConfig", ips: runtimeConfig?.ips, mac: runtimeConfig?.mac },
    { where: "args.cni", ips: args?.cni?.ips, mac: args?.cni?.mac },
    {
      where: "CNI_ARGS",
      ips: words.get("IP")?.split(",").filter(Boolean),
      mac: words.get("MAC"),
    },
  ];
  const addressed = sources.find(({ ips }) => (ips?.length ?? 0) > 0);
  const named = sources.find(({ mac }) => mac);
  return {
    addresses: (addressed?.ips ?? []).map((text) => address(`${addressed?.where}: ips`, text)),
    mac: named?.mac ? etherAddress(`${named.where}: mac`, named.mac) : undefined,
  };
}

function address(where: string, text: string): Wanted["addresses"][number] {
  const hasPrefix = text.includes("/");
  if (text.includes(":"))
    throw new CniError(CODE.unsupportedField, `${where}: "${text}": containers have no IPv6 addresses`);
  try {
    return { cidr: parseCidr(hasPrefix ? text : `${text}/32`), hasPrefix };
  } catch (error) {
    throw new CniError(CODE.invalidConfig, `${where}: ${reasonOf(error)}`, "", { cause: error });
  }
}

function etherAddress(where: string, text: string): string {
  const valid = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text);
  const [first = 0, ...others] = valid ? parseMac(text) : [];
  const usable = valid && (first & GROUP_BIT) === 0 && [first, ...others].some((octet) => octet !== 0);
  if (usable) return text.toLowerCase();
  throw new CniError(
    CODE.invalidConfig,
    `${where}: "${text}" is not a unicast Ethernet address, such as 02:00:00:00:00:05`,
  );
}
