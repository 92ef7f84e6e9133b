// Delete openvswitch datapaths over generic netlink (linux/genetlink.h), family "ovs_datapath" (linux/openvswitch.h).

import { AttributeEncoder, decodeAttributes } from "../netlink/attributes.ts";
import { NetlinkSocket } from "../netlink/socket.ts";
import { ENODEV, ENOENT, isErrno } from "../sys/errno.ts";

const NETLINK_GENERIC = 16;
const CONTROL = { type: 16, getFamily: 3, familyId: 1, familyName: 2 } as const;
const DATAPATH = { family: "ovs_datapath", delete: 2, version: 2, name: 1 } as const;
const HEADER = 4;

/** Remove a datapath with all its ports; false if there is none of that name, or no openvswitch. */
export function datapathDelete(name: string): boolean {
  using nl = new NetlinkSocket(NETLINK_GENERIC);
  try {
    const family = familyId(nl, DATAPATH.family);
    // ovs_header.dp_ifindex is 0 where the name attribute identifies the datapath.
    const header = Uint8Array.of(DATAPATH.delete, DATAPATH.version, 0, 0, 0, 0, 0, 0);
    const body = new AttributeEncoder().raw(header).string(DATAPATH.name, name).done();
    nl.request({ operation: `openvswitch delete datapath ${name}`, type: family, body });
    return true;
  } catch (error) {
    if (isErrno(error, ENOENT) || isErrno(error, ENODEV)) return false;
    throw error;
  }
}

function familyId(nl: NetlinkSocket, name: string): number {
  const body = new AttributeEncoder()
    .raw(Uint8Array.of(CONTROL.getFamily, 1, 0, 0))
    .string(CONTROL.familyName, name)
    .done();
  const [answer] = nl.request({ operation: `find netlink family ${name}`, type: CONTROL.type, body });
  return decodeAttributes(answer?.body.subarray(HEADER) ?? new Uint8Array()).need(CONTROL.familyId).u16;
}
