// One filter of others that forwarded packets traverse.
import type { IptablesMatch } from "../../netlink/iptables/table.ts";

/** The two kinds of iptables, and firewalld. */
export type Variant = "iptables-nft" | "iptables-legacy" | "firewalld";

/** The state of one of them. */
export interface Forwarding {
  /** Its FORWARD chain, or the like, drops what no rule accepts, and is not locked by its owner. */
  readonly drops: boolean;
  /** Positions of the rules of FORWARD that jump to our chain, from 0. */
  readonly jumps: readonly number[];
  /** The rules of our chain, as text; undefined where there is none. */
  readonly rules: readonly string[] | undefined;
}

/** One of them in the kernel; throws NetlinkError or SysError. */
export interface ForwardingTable {
  readonly variant: Variant;
  /** In the words of its tools: "table ip filter", "iptables-legacy". */
  readonly name: string;
  /** Return the text of these rules in our chain. */
  rules(matches: readonly IptablesMatch[]): string[];
  observe(): Forwarding;
  /** Put our chain in place with these rules, and the jump to it before all others of FORWARD. */
  accept(matches: readonly IptablesMatch[]): void;
  /** Remove our chain and the jumps to it. */
  remove(): void;
}
