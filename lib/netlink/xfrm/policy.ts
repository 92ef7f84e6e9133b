// IPsec security policies by XFRM netlink (linux/xfrm.h): which UDP datagrams go through ESP, or are dropped.

import { type IPv4, ipv4FromOctets, ipv4Octets } from "../../address/ipv4.ts";
import { viewOf } from "../../bytes/view.ts";
import { AF_INET } from "../../sys/socket.ts";
import { AttributeEncoder, decodeAttributes } from "../attributes.ts";
import type { NetlinkSocket } from "../socket.ts";
import { IPPROTO_ESP, LIMITS, pathText, removeIfPresent, XFRM_MODE_TRANSPORT } from "./message.ts";

const XFRM_MSG_DELPOLICY = 20;
const XFRM_MSG_GETPOLICY = 21;
const XFRM_MSG_UPDPOLICY = 25;

const XFRMA_TMPL = 5;

const IPPROTO_UDP = 17;
const XFRM_POLICY_BLOCK = 1;
/** enum of XFRM_POLICY_IN, XFRM_POLICY_OUT. */
const DIRECTIONS = { in: 0, out: 1 } as const;

/** Byte offsets in struct xfrm_selector. */
const SELECTOR = {
  destination: 0,
  source: 16,
  port: 32,
  portMask: 34,
  family: 40,
  destinationPrefix: 42,
  sourcePrefix: 43,
  protocol: 44,
} as const;
/** Byte offsets in struct xfrm_userpolicy_info, xfrm_userpolicy_id; the selector is first in both. */
const INFO = { limits: 56, priority: 152, direction: 160, action: 161, size: 168 } as const;
const ID = { direction: 60, size: 64 } as const;
/** Byte offsets in struct xfrm_user_tmpl; three masks of algorithms, four bytes each. */
const TEMPLATE = {
  destination: 0,
  spi: 16,
  protocol: 20,
  family: 24,
  source: 28,
  reqid: 44,
  mode: 48,
  algorithms: 52,
  size: 64,
} as const;

const ANY: IPv4 = 0;

/** A policy for UDP datagrams from one host to a port of another. */
export interface SecurityPolicy {
  readonly direction: keyof typeof DIRECTIONS;
  /** Undefined for any address, as of the destination. */
  readonly source: IPv4 | undefined;
  readonly destination: IPv4 | undefined;
  /** Destination port. */
  readonly port: number;
  /** Also tells our policies from others. */
  readonly priority: number;
  /** Drop, or require ESP: by the association of that index, or by any. */
  readonly action: "block" | { readonly spi: number | undefined; readonly reqid: number };
}

type Selector = Pick<SecurityPolicy, "source" | "destination" | "port">;

/** The selector of a policy. */
export type PolicySelector = Selector & Pick<SecurityPolicy, "direction">;

function putSelector(bytes: Uint8Array, { source, destination, port }: Selector): void {
  const view = new DataView(bytes.buffer);
  bytes.set(ipv4Octets(destination ?? ANY), SELECTOR.destination);
  bytes.set(ipv4Octets(source ?? ANY), SELECTOR.source);
  view.setUint16(SELECTOR.port, port, false);
  view.setUint16(SELECTOR.portMask, 0xffff);
  view.setUint16(SELECTOR.family, AF_INET, true);
  bytes[SELECTOR.destinationPrefix] = prefixOf(destination);
  bytes[SELECTOR.sourcePrefix] = prefixOf(source);
  bytes[SELECTOR.protocol] = IPPROTO_UDP;
}

const prefixOf = (address: IPv4 | undefined) => (address === undefined ? 0 : 32);

/** Return the body of the message that sets a policy. */
export function encodePolicy(policy: SecurityPolicy): Uint8Array {
  const { source, destination, action } = policy;
  const info = new Uint8Array(INFO.size);
  const view = new DataView(info.buffer);
  putSelector(info, policy);
  info.fill(0xff, INFO.limits, INFO.limits + LIMITS);
  view.setUint32(INFO.priority, policy.priority, true);
  info[INFO.direction] = DIRECTIONS[policy.direction];
  const encoder = new AttributeEncoder();
  if (action === "block") {
    info[INFO.action] = XFRM_POLICY_BLOCK;
    return encoder.raw(info).done();
  }
  const template = new Uint8Array(TEMPLATE.size);
  const templateView = new DataView(template.buffer);
  template.set(ipv4Octets(destination ?? ANY), TEMPLATE.destination);
  templateView.setUint32(TEMPLATE.spi, action.spi ?? 0, false);
  template[TEMPLATE.protocol] = IPPROTO_ESP;
  templateView.setUint16(TEMPLATE.family, AF_INET, true);
  template.set(ipv4Octets(source ?? ANY), TEMPLATE.source);
  templateView.setUint32(TEMPLATE.reqid, action.reqid, true);
  template[TEMPLATE.mode] = XFRM_MODE_TRANSPORT;
  template.fill(0xff, TEMPLATE.algorithms, TEMPLATE.algorithms + 12);
  return encoder.raw(info).bytes(XFRMA_TMPL, template).done();
}

/** Return the body of the message that removes a policy. */
export function encodePolicyId(policy: PolicySelector): Uint8Array {
  const id = new Uint8Array(ID.size);
  putSelector(id, policy);
  id[ID.direction] = DIRECTIONS[policy.direction];
  return id;
}

/** Set a policy, in place of the one for the same datagrams. */
export function policySet(nl: NetlinkSocket, policy: SecurityPolicy): void {
  const operation = `ESP policy ${pathText(policy.source, policy.destination)}`;
  nl.request({ operation, type: XFRM_MSG_UPDPOLICY, body: encodePolicy(policy) });
}

/** Remove a policy; one that is not there is no error. */
export function policyDelete(nl: NetlinkSocket, policy: PolicySelector): void {
  const operation = `removing ESP policy ${pathText(policy.source, policy.destination)}`;
  removeIfPresent(nl, { operation, type: XFRM_MSG_DELPOLICY, body: encodePolicyId(policy) });
}

/** A policy as the kernel has it; with the `spi` of its association, if it names one. */
export interface FoundPolicy extends Omit<SecurityPolicy, "action"> {
  readonly blocks: boolean;
  readonly spi: number | undefined;
}

/** Return the policies of the namespace for UDP from or to a host. */
export function policyList(nl: NetlinkSocket): FoundPolicy[] {
  const found = nl.dump({ operation: "ESP policy list", type: XFRM_MSG_GETPOLICY, body: new Uint8Array() });
  return found.flatMap(({ body }) => {
    const view = viewOf(body);
    if (body.length < INFO.size || view.getUint16(SELECTOR.family, true) !== AF_INET) return [];
    const direction = body[INFO.direction];
    if (body[SELECTOR.protocol] !== IPPROTO_UDP || (direction !== 0 && direction !== 1)) return [];
    return {
      direction: direction === DIRECTIONS.in ? ("in" as const) : ("out" as const),
      source: addressIn(body, SELECTOR.source, SELECTOR.sourcePrefix),
      destination: addressIn(body, SELECTOR.destination, SELECTOR.destinationPrefix),
      port: view.getUint16(SELECTOR.port, false),
      priority: view.getUint32(INFO.priority, true),
      blocks: body[INFO.action] === XFRM_POLICY_BLOCK,
      spi: spiOf(decodeAttributes(body.subarray(INFO.size)).get(XFRMA_TMPL)?.payload),
    };
  });
}

function addressIn(body: Uint8Array, at: number, prefixAt: number): IPv4 | undefined {
  return body[prefixAt] === 0 ? undefined : ipv4FromOctets(body.subarray(at, at + 4));
}

function spiOf(template: Uint8Array | undefined): number | undefined {
  if (!template || template.length < TEMPLATE.size) return undefined;
  return viewOf(template).getUint32(TEMPLATE.spi, false) || undefined;
}
