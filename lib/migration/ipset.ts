// ipset over netlink (linux/netfilter/ipset/ip_set.h): list and destroy sets.
import { existsSync } from "node:fs";
import { AttributeEncoder, decodeAttributes } from "../netlink/attributes.ts";
import { NetlinkError } from "../netlink/message.ts";
import type { NetlinkSocket, Request } from "../netlink/socket.ts";
import { ENOENT, isErrno } from "../sys/errno.ts";

const SUBSYSTEM = 6;
const COMMAND = { protocol: 1, destroy: 3, flush: 4, list: 7 } as const;
const PROTOCOL = 6;
const ATTRIBUTE = { protocol: 1, setName: 2, flags: 6 } as const;
/** Names only. */
const LIST_SETNAME = 2;
/** Attributes flagged as big-endian (NLA_F_NET_BYTEORDER). */
const NET_BYTEORDER = 0x4000;
const HEADER = 4;
/** IPSET_ERR_BUSY: a rule or another set refers to it. */
const BUSY = 4100;

function message(
  command: keyof typeof COMMAND,
  operation: string,
  fill: (body: AttributeEncoder) => void,
): Request {
  const body = new AttributeEncoder().raw(Uint8Array.of(2, 0, 0, 0)).u8(ATTRIBUTE.protocol, PROTOCOL);
  fill(body);
  return { operation: `ipset ${operation}`, type: (SUBSYSTEM << 8) | COMMAND[command], body: body.done() };
}

/** Return the names of all sets; none if the module is not loaded: a request would load it. */
export function ipsetList(nl: NetlinkSocket): string[] {
  if (!existsSync("/sys/module/ip_set")) return [];
  try {
    return nl
      .dump(message("list", "list", (body) => body.u32be(ATTRIBUTE.flags | NET_BYTEORDER, LIST_SETNAME)))
      .flatMap(({ body }) => decodeAttributes(body.subarray(HEADER)).get(ATTRIBUTE.setName)?.string ?? []);
  } catch (error) {
    if (error instanceof NetlinkError) return [];
    throw error;
  }
}

/** Remove a set; false if it is in use, or absent. */
export function ipsetDestroy(nl: NetlinkSocket, name: string): boolean {
  const named = (body: AttributeEncoder) => body.string(ATTRIBUTE.setName, name);
  try {
    // A list of sets releases its members when it is flushed.
    nl.request(message("flush", `flush ${name}`, named));
    nl.request(message("destroy", `destroy ${name}`, named));
    return true;
  } catch (error) {
    if (isErrno(error, BUSY, ENOENT)) return false;
    throw error;
  }
}
