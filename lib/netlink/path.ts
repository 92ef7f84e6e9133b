// Route lookup by rtnetlink(7), as `ip route get`: the way that packets to an address take.
import { type IPv4, ipv4FromOctets, ipv4Octets } from "../address/ipv4.ts";
import { EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH, unlessErrno } from "../sys/errno.ts";
import { AF_INET } from "../sys/socket.ts";
import { AttributeEncoder, decodeBody } from "./attributes.ts";
import type { NetlinkSocket } from "./socket.ts";

const RTM_GETROUTE = 26;
const RTMSG = 12;

const RTA_DST = 1;
const RTA_SRC = 2;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PREFSRC = 7;

/** Refusals that mean that there is no route: those of unreachable, prohibit and blackhole routes included. */
const UNREACHABLE = [ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL];

export interface NetworkPath {
  /** ifindex of the link. */
  readonly link: number | undefined;
  readonly gateway: IPv4 | undefined;
  /** The source address of packets whose sender does not choose one. */
  readonly source: IPv4 | undefined;
}

/** Return the path to `destination`, from one of our addresses where `source` is given; undefined where there is none. */
export function pathTo(nl: NetlinkSocket, destination: IPv4, source?: IPv4): NetworkPath | undefined {
  const header = new Uint8Array(RTMSG);
  header[0] = AF_INET;
  header[1] = 32;
  if (source !== undefined) header[2] = 32;
  const encoder = new AttributeEncoder().raw(header).bytes(RTA_DST, ipv4Octets(destination));
  if (source !== undefined) encoder.bytes(RTA_SRC, ipv4Octets(source));
  const request = { operation: "route get", type: RTM_GETROUTE, body: encoder.done() };
  const [found] = unlessErrno(UNREACHABLE, () => nl.request(request)) ?? [];
  if (!found) return undefined;
  const { attributes } = decodeBody(found.body, RTMSG);
  const address = (type: number) => {
    const payload = attributes.get(type)?.payload;
    return payload && ipv4FromOctets(payload);
  };
  return { link: attributes.get(RTA_OIF)?.u32, gateway: address(RTA_GATEWAY), source: address(RTA_PREFSRC) };
}
