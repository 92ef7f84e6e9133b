// Removing links.
import { ENODEV } from "../../sys/errno.ts";
import { attempt, type NetlinkSocket } from "../socket.ts";
import { IFLA_GROUP, IFLA_IFNAME, linkMessage, RTM_DELLINK, RTM_SETLINK } from "./message.ts";

/** Remove a link; true if it was there. */
export function linkDelete(nl: NetlinkSocket, name: string): boolean {
  const body = linkMessage().string(IFLA_IFNAME, name).done();
  return attempt(nl, { operation: `link delete ${name}`, type: RTM_DELLINK, body }, ENODEV);
}

/** Groups of links that are being removed: random numbers from this to twice this. */
const LEAVING_GROUPS = 1 << 30;

/** Whether linksDelete() is removing the links of a group. */
export const isLeavingGroup = (group: number) => group >= LEAVING_GROUPS && group < 2 * LEAVING_GROUPS;

/**
 * Remove links by their index; those that are gone already are no error. All at once: a removal waits for the kernel's
 * grace period (10 to 20 ms), which links of one group share (50 in 50 ms instead of 1.1 s). In notifications, the group tells
 * that the removal was ours.
 */
export function linksDelete(nl: NetlinkSocket, indices: readonly number[]): void {
  const group = linksLeave(nl, indices);
  if (group !== undefined) groupDelete(nl, group);
}

/** Put links into a group that is to be removed; undefined where all are gone already. Takes no grace period. */
export function linksLeave(nl: NetlinkSocket, indices: readonly number[]): number | undefined {
  const group = LEAVING_GROUPS | ((crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) >>> 2);
  const gather = (index: number) => {
    const body = linkMessage(index).u32(IFLA_GROUP, group).done();
    return attempt(nl, { operation: `link set ${index} group ${group}`, type: RTM_SETLINK, body }, ENODEV);
  };
  return indices.filter(gather).length === 0 ? undefined : group;
}

/** Remove the links of a group; none is no error. */
export function groupDelete(nl: NetlinkSocket, group: number): void {
  const body = linkMessage().u32(IFLA_GROUP, group).done();
  attempt(nl, { operation: `link delete group ${group}`, type: RTM_DELLINK, body }, ENODEV);
}
