// What is taken in of a topology, however much is told: enough for networks far larger than any that is known, and
// little enough to walk over in milliseconds.

/** Bits of a short id; it has to fit half of a VXLAN network identifier. */
export const SHORT_ID_BITS = 12;
export const SHORT_IDS = 1 << SHORT_ID_BITS;
/** Peers: as many as have a short id of their own, which the fast datapath knows them by. */
export const MAX_PEERS = 1 << SHORT_ID_BITS;
/** Connections of all peers together, each counted at both ends: 512 peers connected to each other, 1,300 with 200 each. */
export const MAX_CONNECTIONS = 1 << 18;
/** Characters of a nickname; longer ones are cut. The longest host name has 253. */
export const MAX_NICKNAME = 255;
/** Characters of a connection's "ip:port"; longer ones are no addresses, and cut. */
export const MAX_ADDRESS = 64;
/** Bytes of one peer's connections in gossip; more is not looked at. */
export const MAX_CONNECTIONS_BYTES = 512 * 1024;
/** Bytes after which a message is ended and another begun. */
export const MAX_TOPOLOGY_MESSAGE = 256 * 1024;
/** The greatest version of a peer. Others refuse what is beyond, and numbers lose their last bit there. */
export const MAX_VERSION = Number.MAX_SAFE_INTEGER;
