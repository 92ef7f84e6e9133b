// Connections as the kernel tracks them (linux/netfilter/nfnetlink_conntrack.h): a list, and taking one out of it.
import { type Ip, ipFromOctets } from "../address/ip.ts";
import { ENOENT, isErrno } from "../sys/errno.ts";
import { AttributeEncoder, type Attributes, decodeAttributes } from "./attributes.ts";
import type { NetlinkSocket } from "./socket.ts";

const SUBSYSTEM = 1;
const MESSAGE = { get: 1, delete: 2 } as const;
const FAMILY_HEADER = 4;
const ATTRIBUTE = { original: 1, reply: 2, id: 12, zone: 18 } as const;
const TUPLE = { ip: 1, protocol: 2 } as const;
const ADDRESS = { v4Source: 1, v4Destination: 2, v6Source: 3, v6Destination: 4 } as const;
const PROTOCOL = { number: 1, sourcePort: 2, destinationPort: 3 } as const;

/** One direction of a connection. */
export interface Tuple {
  readonly source: Ip;
  readonly destination: Ip;
  /** IANA's number. */
  readonly protocol: number;
  /** 0 where the protocol has none. */
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export interface TrackedConnection {
  /** As it was opened; before address translation. */
  readonly original: Tuple;
  /** As the answers come; so its source is the true destination. */
  readonly reply: Tuple;
  /** What the kernel knows it by, as attributes. */
  readonly identity: Uint8Array;
  /** AF_INET or AF_INET6. */
  readonly family: number;
}

/** All connections that are tracked. Throws NetlinkError. */
export function connectionList(nl: NetlinkSocket): TrackedConnection[] {
  const messages = nl.dump({
    operation: "list connections",
    type: (SUBSYSTEM << 8) | MESSAGE.get,
    body: new Uint8Array(FAMILY_HEADER),
  });
  return messages.map(({ body }) => {
    const attributes = decodeAttributes(body.subarray(FAMILY_HEADER));
    return {
      original: tuple(attributes.need(ATTRIBUTE.original).nested),
      reply: tuple(attributes.need(ATTRIBUTE.reply).nested),
      identity: identity(attributes),
      family: body[0] ?? 0,
    };
  });
}

/** Takes a connection out: its next packet is the first of a new one. False if there is none such any more. */
export function connectionDelete(
  nl: NetlinkSocket,
  { identity, family, original }: TrackedConnection,
): boolean {
  const body = new AttributeEncoder()
    .raw(Uint8Array.of(family, 0, 0, 0))
    .raw(identity)
    .done();
  const operation = `delete connection ${original.source} -> ${original.destination}`;
  try {
    nl.request({ operation, type: (SUBSYSTEM << 8) | MESSAGE.delete, body });
    return true;
  } catch (error) {
    if (isErrno(error, ENOENT)) return false;
    throw error;
  }
}

function tuple(attributes: Attributes): Tuple {
  const ip = attributes.need(TUPLE.ip).nested;
  const protocol = attributes.need(TUPLE.protocol).nested;
  const address = (v4: number, v6: number) => ipFromOctets((ip.get(v4) ?? ip.need(v6)).payload);
  return {
    source: address(ADDRESS.v4Source, ADDRESS.v6Source),
    destination: address(ADDRESS.v4Destination, ADDRESS.v6Destination),
    protocol: protocol.need(PROTOCOL.number).u8,
    sourcePort: protocol.get(PROTOCOL.sourcePort)?.u16be ?? 0,
    destinationPort: protocol.get(PROTOCOL.destinationPort)?.u16be ?? 0,
  };
}

/** Its first direction, and its id: another one of the same addresses and ports is not meant. */
function identity(attributes: Attributes): Uint8Array {
  const encoder = new AttributeEncoder();
  for (const type of [ATTRIBUTE.original, ATTRIBUTE.id, ATTRIBUTE.zone]) {
    const attribute = attributes.get(type);
    if (!attribute) continue;
    if (type === ATTRIBUTE.original) encoder.nested(type, (inner) => inner.raw(attribute.payload));
    else encoder.bytes(type, attribute.payload);
  }
  return encoder.done();
}
