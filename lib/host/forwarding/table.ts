// What has to be known and done about forwarded packets in one filter of others.
import type { IptablesMatch } from "../../netlink/iptables/table.ts";

/** The two kinds of iptables, and what has a table of nftables of its own. */
export type Variant = "iptables-nft" | "iptables-legacy" | "firewalld";

/** What one of them has to say of forwarded packets. */
export interface Forwarding {
  /** Its chain FORWARD, or what that is called there, drops what no rule accepts, and others may change it. */
  readonly drops: boolean;
  /** Which rules of FORWARD jump to our chain, by number from 0. */
  readonly jumps: readonly number[];
  /** Those of our chain, as text; undefined where there is none. */
  readonly rules: readonly string[] | undefined;
}

/** One of them in the kernel; what it throws is a NetlinkError or SysError. */
export interface ForwardingTable {
  readonly variant: Variant;
  /** In the words of those who change it: "table ip filter", "iptables-legacy". */
  readonly name: string;
  /** The text of these rules in our chain. */
  rules(matches: readonly IptablesMatch[]): string[];
  observe(): Forwarding;
  /** Puts our chain in place with these rules, and the jump to it before all others of FORWARD. */
  accept(matches: readonly IptablesMatch[]): void;
  /** Removes our chain and the jumps to it. */
  remove(): void;
}
