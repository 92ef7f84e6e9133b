// IPsec in the kernel, by XFRM netlink (linux/xfrm.h): security associations for ESP in transport mode with AES-GCM, and
// the policies that say which UDP datagrams go through them. Bytes follow what ip-xfrm(8) sends.
import { formatIPv4, type IPv4, ipv4FromOctets, ipv4Octets } from "../address/ipv4.ts";
import { EEXIST, ENOENT, ESRCH, isErrno } from "../sys/errno.ts";
import { AF_INET } from "../sys/socket.ts";
import { AttributeEncoder, decodeAttributes } from "./attributes.ts";
import type { NetlinkSocket } from "./socket.ts";

export const NETLINK_XFRM = 6;

const XFRM_MSG_NEWSA = 16;
const XFRM_MSG_DELSA = 17;
const XFRM_MSG_GETSA = 18;
const XFRM_MSG_DELPOLICY = 20;
const XFRM_MSG_GETPOLICY = 21;
const XFRM_MSG_UPDPOLICY = 25;

const XFRMA_TMPL = 5;
const XFRMA_SRCADDR = 13;
const XFRMA_ALG_AEAD = 18;
const XFRMA_REPLAY_ESN_VAL = 23;

const IPPROTO_UDP = 17;
const IPPROTO_ESP = 50;
const XFRM_MODE_TRANSPORT = 0;
const XFRM_STATE_ESN = 128;
const XFRM_POLICY_BLOCK = 1;
const DIRECTIONS = { in: 0, out: 1 } as const;

// struct xfrm_selector, xfrm_usersa_info, xfrm_usersa_id, xfrm_userpolicy_info, xfrm_userpolicy_id, xfrm_user_tmpl.
const SELECTOR = {
  destination: 0,
  source: 16,
  port: 32,
  portMask: 34,
  family: 40,
  prefixes: 42,
  protocol: 44,
  size: 56,
} as const;
const STATE = {
  id: 56,
  source: 80,
  limits: 96,
  reqid: 208,
  family: 212,
  mode: 214,
  flags: 216,
  size: 224,
} as const;
const STATE_ID = { destination: 0, spi: 16, family: 20, protocol: 22, size: 24 } as const;
const POLICY = { limits: 56, priority: 152, direction: 160, action: 161, size: 168 } as const;
const POLICY_ID = { direction: 60, size: 64 } as const;
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
/** Four limits of 64 bits: no limit. */
const LIMITS = 32;

const ANY: IPv4 = 0;

const ALGORITHM = "rfc4106(gcm(aes))";
const ALGORITHM_NAME = 64;
const ICV_BITS = 128;
/** Sequence numbers this far behind the highest are still told apart; the original's. */
const REPLAY_WINDOW = 256;

/** One direction of an ESP connection between two hosts. */
export interface SecurityAssociation {
  readonly source: IPv4;
  readonly destination: IPv4;
  /** Security parameters index, above 255. */
  readonly spi: number;
  /** Marks whose it is. */
  readonly reqid: number;
  /** AES key, and four bytes of salt. */
  readonly key: Uint8Array;
}

/** What happens to UDP datagrams from one host to a port of another. */
export interface SecurityPolicy {
  readonly direction: keyof typeof DIRECTIONS;
  /** Undefined for any address. */
  readonly source: IPv4 | undefined;
  readonly destination: IPv4;
  /** Port that they are sent to. */
  readonly port: number;
  /** Marks whose it is. */
  readonly priority: number;
  /** Dropped, or (to be) protected by ESP: by the association of that index, or by any. */
  readonly action: "block" | { readonly spi: number | undefined; readonly reqid: number };
}

type Selector = Pick<SecurityPolicy, "source" | "destination" | "port">;

/** Which policy it is. */
export type PolicySelector = Selector & Pick<SecurityPolicy, "direction">;

function putSelector(bytes: Uint8Array, { source, destination, port }: Selector): void {
  const view = new DataView(bytes.buffer);
  bytes.set(ipv4Octets(destination), SELECTOR.destination);
  bytes.set(ipv4Octets(source ?? ANY), SELECTOR.source);
  view.setUint16(SELECTOR.port, port, false);
  view.setUint16(SELECTOR.portMask, 0xffff);
  view.setUint16(SELECTOR.family, AF_INET, true);
  bytes[SELECTOR.prefixes] = 32;
  bytes[SELECTOR.prefixes + 1] = source === undefined ? 0 : 32;
  bytes[SELECTOR.protocol] = IPPROTO_UDP;
}

/** The body of the message that makes an association. */
export function encodeState({ source, destination, spi, reqid, key }: SecurityAssociation): Uint8Array {
  const info = new Uint8Array(STATE.size);
  const view = new DataView(info.buffer);
  info.set(ipv4Octets(destination), STATE.id);
  view.setUint32(STATE.id + 16, spi, false);
  info[STATE.id + 20] = IPPROTO_ESP;
  info.set(ipv4Octets(source), STATE.source);
  info.fill(0xff, STATE.limits, STATE.limits + LIMITS);
  view.setUint32(STATE.reqid, reqid, true);
  view.setUint16(STATE.family, AF_INET, true);
  info[STATE.mode] = XFRM_MODE_TRANSPORT;
  info[STATE.flags] = XFRM_STATE_ESN;

  const algorithm = new Uint8Array(ALGORITHM_NAME + 8 + key.length);
  algorithm.set(new TextEncoder().encode(ALGORITHM));
  const algorithmView = new DataView(algorithm.buffer);
  algorithmView.setUint32(ALGORITHM_NAME, 8 * key.length, true);
  algorithmView.setUint32(ALGORITHM_NAME + 4, ICV_BITS, true);
  algorithm.set(key, ALGORITHM_NAME + 8);

  // struct xfrm_replay_state_esn: the bitmap behind it is left to the kernel, only its length in words is told.
  const replay = new Uint8Array(24);
  const replayView = new DataView(replay.buffer);
  replayView.setUint32(0, REPLAY_WINDOW / 32, true);
  replayView.setUint32(20, REPLAY_WINDOW, true);
  return new AttributeEncoder()
    .raw(info)
    .bytes(XFRMA_REPLAY_ESN_VAL, replay)
    .bytes(XFRMA_ALG_AEAD, algorithm)
    .done();
}

/** The body of the message that removes an association. */
export function encodeStateId({
  source,
  destination,
  spi,
}: Omit<SecurityAssociation, "key" | "reqid">): Uint8Array {
  const id = new Uint8Array(STATE_ID.size);
  const view = new DataView(id.buffer);
  id.set(ipv4Octets(destination), STATE_ID.destination);
  view.setUint32(STATE_ID.spi, spi, false);
  view.setUint16(STATE_ID.family, AF_INET, true);
  id[STATE_ID.protocol] = IPPROTO_ESP;
  const address = new Uint8Array(16);
  address.set(ipv4Octets(source));
  return new AttributeEncoder().raw(id).bytes(XFRMA_SRCADDR, address).done();
}

/** The body of the message that sets a policy. */
export function encodePolicy(policy: SecurityPolicy): Uint8Array {
  const { source, destination, action } = policy;
  const info = new Uint8Array(POLICY.size);
  const view = new DataView(info.buffer);
  putSelector(info, policy);
  info.fill(0xff, POLICY.limits, POLICY.limits + LIMITS);
  view.setUint32(POLICY.priority, policy.priority, true);
  info[POLICY.direction] = DIRECTIONS[policy.direction];
  const encoder = new AttributeEncoder();
  if (action === "block") {
    info[POLICY.action] = XFRM_POLICY_BLOCK;
    return encoder.raw(info).done();
  }
  const template = new Uint8Array(TEMPLATE.size);
  const templateView = new DataView(template.buffer);
  template.set(ipv4Octets(destination), TEMPLATE.destination);
  templateView.setUint32(TEMPLATE.spi, action.spi ?? 0, false);
  template[TEMPLATE.protocol] = IPPROTO_ESP;
  templateView.setUint16(TEMPLATE.family, AF_INET, true);
  template.set(ipv4Octets(source ?? ANY), TEMPLATE.source);
  templateView.setUint32(TEMPLATE.reqid, action.reqid, true);
  template[TEMPLATE.mode] = XFRM_MODE_TRANSPORT;
  template.fill(0xff, TEMPLATE.algorithms, TEMPLATE.algorithms + 12);
  return encoder.raw(info).bytes(XFRMA_TMPL, template).done();
}

/** The body of the message that removes a policy. */
export function encodePolicyId(policy: PolicySelector): Uint8Array {
  const id = new Uint8Array(POLICY_ID.size);
  putSelector(id, policy);
  id[POLICY_ID.direction] = DIRECTIONS[policy.direction];
  return id;
}

/** "10.0.0.1 to 10.0.0.2". */
export const pathText = (source: IPv4 | undefined, destination: IPv4) =>
  `${source === undefined ? "any address" : formatIPv4(source)} to ${formatIPv4(destination)}`;

/** Makes an association; false where its index is taken. Throws NetlinkError. */
export function stateAdd(nl: NetlinkSocket, state: SecurityAssociation): boolean {
  const operation = `ESP association ${pathText(state.source, state.destination)}`;
  try {
    nl.request({ operation, type: XFRM_MSG_NEWSA, body: encodeState(state) });
    return true;
  } catch (error) {
    if (isErrno(error, EEXIST)) return false;
    throw error;
  }
}

/** Removes an association; one that is not there is no error. */
export function stateDelete(nl: NetlinkSocket, state: Omit<SecurityAssociation, "key" | "reqid">): void {
  const operation = `removing ESP association ${pathText(state.source, state.destination)}`;
  ignoreMissing(() => nl.request({ operation, type: XFRM_MSG_DELSA, body: encodeStateId(state) }));
}

/** The associations of the namespace, without their keys. */
export function stateList(nl: NetlinkSocket): Omit<SecurityAssociation, "key">[] {
  const found = nl.dump({ operation: "ESP association list", type: XFRM_MSG_GETSA, body: new Uint8Array() });
  return found.flatMap(({ body }) => {
    const view = new DataView(body.buffer, body.byteOffset, body.length);
    if (body.length < STATE.size || view.getUint16(STATE.family, true) !== AF_INET) return [];
    if (body[STATE.id + 20] !== IPPROTO_ESP) return [];
    return {
      source: ipv4FromOctets(body.subarray(STATE.source, STATE.source + 4)),
      destination: ipv4FromOctets(body.subarray(STATE.id, STATE.id + 4)),
      spi: view.getUint32(STATE.id + 16, false),
      reqid: view.getUint32(STATE.reqid, true),
    };
  });
}

/** Sets a policy, in place of the one for the same datagrams. */
export function policySet(nl: NetlinkSocket, policy: SecurityPolicy): void {
  const operation = `ESP policy ${pathText(policy.source, policy.destination)}`;
  nl.request({ operation, type: XFRM_MSG_UPDPOLICY, body: encodePolicy(policy) });
}

/** Removes a policy; one that is not there is no error. */
export function policyDelete(nl: NetlinkSocket, policy: PolicySelector): void {
  const operation = `removing ESP policy ${pathText(policy.source, policy.destination)}`;
  ignoreMissing(() => nl.request({ operation, type: XFRM_MSG_DELPOLICY, body: encodePolicyId(policy) }));
}

/** A policy as the kernel has it; `spi` is that of the association it names, if it names one. */
export interface FoundPolicy extends Omit<SecurityPolicy, "action"> {
  readonly blocks: boolean;
  readonly spi: number | undefined;
}

/** The policies of the namespace for UDP to a host. */
export function policyList(nl: NetlinkSocket): FoundPolicy[] {
  const found = nl.dump({ operation: "ESP policy list", type: XFRM_MSG_GETPOLICY, body: new Uint8Array() });
  return found.flatMap(({ body }) => {
    const view = new DataView(body.buffer, body.byteOffset, body.length);
    if (body.length < POLICY.size || view.getUint16(SELECTOR.family, true) !== AF_INET) return [];
    const direction = body[POLICY.direction];
    if (body[SELECTOR.protocol] !== IPPROTO_UDP || (direction !== 0 && direction !== 1)) return [];
    return {
      direction: direction === DIRECTIONS.in ? ("in" as const) : ("out" as const),
      source:
        body[SELECTOR.prefixes + 1] === 0
          ? undefined
          : ipv4FromOctets(body.subarray(SELECTOR.source, SELECTOR.source + 4)),
      destination: ipv4FromOctets(body.subarray(SELECTOR.destination, SELECTOR.destination + 4)),
      port: view.getUint16(SELECTOR.port, false),
      priority: view.getUint32(POLICY.priority, true),
      blocks: body[POLICY.action] === XFRM_POLICY_BLOCK,
      spi: spiOf(decodeAttributes(body.subarray(POLICY.size)).get(XFRMA_TMPL)?.payload),
    };
  });
}

function spiOf(template: Uint8Array | undefined): number | undefined {
  if (!template || template.length < TEMPLATE.size) return undefined;
  return new DataView(template.buffer, template.byteOffset).getUint32(TEMPLATE.spi, false) || undefined;
}

function ignoreMissing(fn: () => unknown): void {
  try {
    fn();
  } catch (error) {
    if (!isErrno(error, ESRCH, ENOENT)) throw error;
  }
}
