// Ids by which one network namespace knows others: RTM_GETNSID (linux/net_namespace.h).
import { AttributeEncoder, decodeAttributes } from "./attributes.ts";
import type { NetlinkSocket } from "./socket.ts";

const RTM_GETNSID = 90;
const NETNSA_NSID = 1;
const NETNSA_FD = 3;
const UNKNOWN = 0xffffffff;

/** Return the id that the socket's namespace has for the one behind an open fd; undefined where it has none. */
export function netnsId(nl: NetlinkSocket, fd: number): number | undefined {
  const body = new AttributeEncoder().raw(new Uint8Array(4)).u32(NETNSA_FD, fd).done();
  const [answer] = nl.request({ operation: "namespace id", type: RTM_GETNSID, body });
  const id = answer && decodeAttributes(answer.body.subarray(4)).get(NETNSA_NSID)?.u32;
  return id === UNKNOWN ? undefined : id;
}
