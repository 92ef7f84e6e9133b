// What messages about IPsec associations and policies share: XFRM netlink (linux/xfrm.h). Bytes follow what ip-xfrm(8) sends.
import { formatIPv4, type IPv4 } from "../../address/ipv4.ts";
import { ENOENT, ESRCH } from "../../sys/errno.ts";
import { attempt, type NetlinkSocket, type Request } from "../socket.ts";

export const NETLINK_XFRM = 6;

export const IPPROTO_ESP = 50;
export const XFRM_MODE_TRANSPORT = 0;

/** Bytes of struct xfrm_lifetime_cfg up to its times: four limits, which all ones make none. */
export const LIMITS = 32;

/** "10.0.0.1 to 10.0.0.2". */
export const pathText = (source: IPv4 | undefined, destination: IPv4 | undefined) =>
  `${addressText(source)} to ${addressText(destination)}`;

const addressText = (address: IPv4 | undefined) =>
  address === undefined ? "any address" : formatIPv4(address);

/** Send a request to remove something; that it is missing is no error. */
export function removeIfPresent(nl: NetlinkSocket, request: Request): void {
  attempt(nl, request, ESRCH, ENOENT);
}
