// Messages of NETLINK_NETFILTER (linux/netfilter/nfnetlink.h): a subsystem in the upper byte of the type, and struct nfgenmsg
// in front of the attributes.

export const NFNL_SUBSYS_ULOG = 4;
export const NFNL_SUBSYS_NFTABLES = 10;
export const NFNL_MSG_BATCH_BEGIN = 16;
export const NFNL_MSG_BATCH_END = 17;

/** Protocol families of netfilter (linux/netfilter.h), by the names that nft(8) has for them. */
export const NFPROTO = { inet: 1, ip: 2, arp: 3, netdev: 5, bridge: 7, ip6: 10 } as const;

/** Bytes of struct nfgenmsg. */
export const NFGENMSG = 4;

/** Return struct nfgenmsg; `resource` is big-endian in it. */
export function nfgenmsg(family: number, resource = 0): Uint8Array {
  return Uint8Array.of(family, 0, resource >> 8, resource & 255);
}

/** Return the type of a message of a subsystem. */
export function nfnlType(subsystem: number, message: number): number {
  return (subsystem << 8) | message;
}
