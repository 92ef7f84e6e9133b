// IPsec security associations by XFRM netlink (linux/xfrm.h): ESP in transport mode with AES-GCM (RFC 4106).

import { type IPv4, ipv4FromOctets, ipv4Octets } from "../../address/ipv4.ts";
import { viewOf } from "../../bytes/view.ts";
import { EEXIST } from "../../sys/errno.ts";
import { AF_INET } from "../../sys/socket.ts";
import { AttributeEncoder } from "../attributes.ts";
import { attempt, type NetlinkSocket } from "../socket.ts";
import { IPPROTO_ESP, LIMITS, pathText, removeIfPresent, XFRM_MODE_TRANSPORT } from "./message.ts";

const XFRM_MSG_NEWSA = 16;
const XFRM_MSG_DELSA = 17;
const XFRM_MSG_GETSA = 18;

const XFRMA_SRCADDR = 13;
const XFRMA_ALG_AEAD = 18;
const XFRMA_REPLAY_ESN_VAL = 23;

const XFRM_STATE_ESN = 128;

/** Byte offsets in struct xfrm_usersa_info. */
const INFO = {
  destination: 56,
  spi: 72,
  protocol: 76,
  source: 80,
  limits: 96,
  reqid: 208,
  family: 212,
  mode: 214,
  flags: 216,
  size: 224,
} as const;
/** Byte offsets in struct xfrm_usersa_id. */
const ID = { destination: 0, spi: 16, family: 20, protocol: 22, size: 24 } as const;
/** Byte offsets in struct xfrm_algo_aead; lengths are in bits. */
const AEAD = { name: 0, keyLength: 64, icvLength: 68, key: 72 } as const;
/** Byte offsets in struct xfrm_replay_state_esn; the bitmap behind it is left to the kernel. */
const REPLAY = { bitmapWords: 0, window: 20, size: 24 } as const;
/** Bytes of xfrm_address_t. */
const ADDRESS = 16;

const ALGORITHM = "rfc4106(gcm(aes))";
const ICV_BITS = 128;
/** Sequence numbers this far behind the highest are still told apart; the original's. */
const REPLAY_WINDOW = 256;

/** One direction of an ESP connection between two hosts. */
export interface SecurityAssociation {
  readonly source: IPv4;
  readonly destination: IPv4;
  /** Security parameters index, above 255. */
  readonly spi: number;
  /** Tells our associations from others. */
  readonly reqid: number;
  /** AES key, and four bytes of salt. */
  readonly key: Uint8Array;
}

/** Return the body of the message that makes an association. */
export function encodeState({ source, destination, spi, reqid, key }: SecurityAssociation): Uint8Array {
  const info = new Uint8Array(INFO.size);
  const view = new DataView(info.buffer);
  info.set(ipv4Octets(destination), INFO.destination);
  view.setUint32(INFO.spi, spi, false);
  info[INFO.protocol] = IPPROTO_ESP;
  info.set(ipv4Octets(source), INFO.source);
  info.fill(0xff, INFO.limits, INFO.limits + LIMITS);
  view.setUint32(INFO.reqid, reqid, true);
  view.setUint16(INFO.family, AF_INET, true);
  info[INFO.mode] = XFRM_MODE_TRANSPORT;
  info[INFO.flags] = XFRM_STATE_ESN;

  const algorithm = new Uint8Array(AEAD.key + key.length);
  algorithm.set(new TextEncoder().encode(ALGORITHM), AEAD.name);
  const algorithmView = new DataView(algorithm.buffer);
  algorithmView.setUint32(AEAD.keyLength, 8 * key.length, true);
  algorithmView.setUint32(AEAD.icvLength, ICV_BITS, true);
  algorithm.set(key, AEAD.key);

  const replay = new Uint8Array(REPLAY.size);
  const replayView = new DataView(replay.buffer);
  replayView.setUint32(REPLAY.bitmapWords, REPLAY_WINDOW / 32, true);
  replayView.setUint32(REPLAY.window, REPLAY_WINDOW, true);
  return new AttributeEncoder()
    .raw(info)
    .bytes(XFRMA_REPLAY_ESN_VAL, replay)
    .bytes(XFRMA_ALG_AEAD, algorithm)
    .done();
}

/** Return the body of the message that removes an association. */
export function encodeStateId({
  source,
  destination,
  spi,
}: Omit<SecurityAssociation, "key" | "reqid">): Uint8Array {
  const id = new Uint8Array(ID.size);
  const view = new DataView(id.buffer);
  id.set(ipv4Octets(destination), ID.destination);
  view.setUint32(ID.spi, spi, false);
  view.setUint16(ID.family, AF_INET, true);
  id[ID.protocol] = IPPROTO_ESP;
  const address = new Uint8Array(ADDRESS);
  address.set(ipv4Octets(source));
  return new AttributeEncoder().raw(id).bytes(XFRMA_SRCADDR, address).done();
}

/** Make an association; false where its index is taken. Throws NetlinkError. */
export function stateAdd(nl: NetlinkSocket, state: SecurityAssociation): boolean {
  const operation = `ESP association ${pathText(state.source, state.destination)}`;
  return attempt(nl, { operation, type: XFRM_MSG_NEWSA, body: encodeState(state) }, EEXIST);
}

/** Remove an association; one that is not there is no error. */
export function stateDelete(nl: NetlinkSocket, state: Omit<SecurityAssociation, "key" | "reqid">): void {
  const operation = `removing ESP association ${pathText(state.source, state.destination)}`;
  removeIfPresent(nl, { operation, type: XFRM_MSG_DELSA, body: encodeStateId(state) });
}

/** Return the associations of the namespace, without their keys. */
export function stateList(nl: NetlinkSocket): Omit<SecurityAssociation, "key">[] {
  const found = nl.dump({ operation: "ESP association list", type: XFRM_MSG_GETSA, body: new Uint8Array() });
  return found.flatMap(({ body }) => {
    const view = viewOf(body);
    if (body.length < INFO.size || view.getUint16(INFO.family, true) !== AF_INET) return [];
    if (body[INFO.protocol] !== IPPROTO_ESP) return [];
    return {
      source: ipv4FromOctets(body.subarray(INFO.source, INFO.source + 4)),
      destination: ipv4FromOctets(body.subarray(INFO.destination, INFO.destination + 4)),
      spi: view.getUint32(INFO.spi, false),
      reqid: view.getUint32(INFO.reqid, true),
    };
  });
}
