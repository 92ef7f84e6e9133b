// Fixes as data, listed in the words of ip, sysctl and nft before anything is changed.
import type { Variant } from "../host/forwarding/table.ts";
import { BRIDGE, FORWARDING_CHAIN, TABLE } from "../host/names.ts";
import type { OriginalRules } from "../migration/kernel.ts";

/** A link as it was examined. */
interface LinkSeen {
  readonly link: string;
  readonly index: number;
}

export type Fix =
  /** `name` as below /proc/sys: "net/ipv4/ip_forward". */
  | { readonly action: "set-sysctl"; readonly name: string; readonly value: string }
  | { readonly action: "load-module"; readonly module: string }
  | ({ readonly action: "delete-link"; readonly kind: string | undefined } & LinkSeen)
  | ({ readonly action: "set-mtu"; readonly mtu: number } & LinkSeen)
  /** Our chain in the FORWARD of these kinds of iptables, which drop what is forwarded. */
  | { readonly action: "accept-forwarded"; readonly variants: readonly Variant[] }
  /** Our table of nftables, and our chain in these kinds of iptables. */
  | { readonly action: "remove-filter"; readonly table: boolean; readonly variants: readonly Variant[] }
  | {
      readonly action: "remove-original-rules";
      readonly rules: readonly OriginalRules[];
      readonly sets: readonly string[];
    }
  | { readonly action: "install-plugin"; readonly folder: string; readonly executable: string }
  | {
      readonly action: "write-cni-configuration";
      readonly folder: string;
      readonly file: string;
      readonly hairpin: boolean;
    }
  /** `whileNoRouter`: a router that was launched meanwhile has one of that name. */
  | { readonly action: "remove-file"; readonly file: string; readonly whileNoRouter?: true };

/** A fix and the finding that it is for. */
export interface PlannedFix {
  readonly check: string;
  readonly found: string;
  readonly fix: Fix;
  /** See describeFix. */
  readonly does: string;
}

/** Return the fixes of these findings, in order, each once. */
export function planFixes(
  findings: readonly { readonly check: string; readonly found: string; readonly fixes?: readonly Fix[] }[],
): PlannedFix[] {
  const planned = new Map<string, PlannedFix>();
  for (const { check, found, fixes = [] } of findings) {
    for (const fix of fixes) {
      const does = describeFix(fix);
      if (!planned.has(does)) planned.set(does, { check, found, fix, does });
    }
  }
  return [...planned.values()];
}

/** Describe a fix, as a command if one does it. */
export function describeFix(fix: Fix): string {
  switch (fix.action) {
    case "set-sysctl":
      // A name with a dot in a part of it, such as a link eth0.5, is written with slashes.
      return `sysctl -w ${fix.name.includes(".") ? fix.name : fix.name.replaceAll("/", ".")}=${fix.value}`;
    case "load-module":
      return `modprobe ${fix.module}`;
    case "delete-link":
      return `ip link del ${fix.link}`;
    case "set-mtu":
      return `ip link set ${fix.link} mtu ${fix.mtu}`;
    case "accept-forwarded":
      return fix.variants
        .map((variant) => `${insertJump(variant)} (accepting what is from and to ${BRIDGE})`)
        .join("; ");
    case "remove-filter":
      return [
        ...(fix.table ? [`nft delete table ip ${TABLE}`] : []),
        ...fix.variants.map((variant) => `${deleteChain(variant)}, and the jumps to it`),
      ].join("; ");
    case "remove-original-rules":
      return [
        ...fix.rules.map(
          ({ variant, chains, rules }) =>
            `remove ${chains} chains WEAVE* and ${rules} rules of the original from ${variant}`,
        ),
        ...fix.sets.map((set) => `ipset destroy ${set}`),
      ].join("; ");
    case "install-plugin":
      return `ln -f ${fix.executable} ${fix.folder}/weave-net`;
    case "write-cni-configuration":
      return `write ${fix.folder}/${fix.file}`;
    case "remove-file":
      return `rm ${fix.file}`;
  }
}

function insertJump(variant: Variant): string {
  return variant === "firewalld"
    ? `nft insert rule inet firewalld filter_FORWARD jump ${FORWARDING_CHAIN}`
    : `${variant} -I FORWARD -j ${FORWARDING_CHAIN}`;
}

function deleteChain(variant: Variant): string {
  return variant === "firewalld"
    ? `nft delete chain inet firewalld ${FORWARDING_CHAIN}`
    : `${variant} -F, -X ${FORWARDING_CHAIN}`;
}
