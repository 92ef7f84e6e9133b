// Limits of the topology: enough for networks far larger than any that is known, and few enough to walk in milliseconds.

/** Bits of a short id; it has to fit half of a VXLAN network identifier. */
export const SHORT_ID_BITS = 12;
export const SHORT_IDS = 1 << SHORT_ID_BITS;
/** Peers; as many as there are short ids, by which the fast datapath knows them. */
export const MAX_PEERS = 1 << SHORT_ID_BITS;
/** Connections of all peers, each counted at both ends: 512 peers in a full mesh, or 1,300 with 200 each. */
export const MAX_CONNECTIONS = 1 << 18;
/** Characters of a nickname; longer ones are cut. The longest host name has 253. */
export const MAX_NICKNAME = 255;
/** Characters of a connection's "ip:port"; longer ones are no addresses, and cut. */
export const MAX_ADDRESS = 64;
/** Bytes of one peer's connections in gossip; more are not decoded. */
export const MAX_CONNECTIONS_BYTES = 512 * 1024;
/** Bytes of a message, after which the next one begins. */
export const MAX_TOPOLOGY_MESSAGE = 256 * 1024;
/** The greatest version of a peer: above it numbers lose their last bit, and peers refuse it. */
export const MAX_VERSION = Number.MAX_SAFE_INTEGER;
