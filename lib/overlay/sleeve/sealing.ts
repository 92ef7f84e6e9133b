// Ciphers of sleeve: how the datagrams of a link are sealed and opened, in place in an arena (format.ts). Neither allocates.
import { AEGIS_KEY, AEGIS_NONCE, type Aegis } from "../../crypto/aegis.ts";
import { hkdf } from "../../crypto/hkdf.ts";
import type { Secretbox } from "../../crypto/secretbox.ts";
import { Arena } from "../../sys/arena.ts";
import { NAME, packetOverhead, SEQUENCE } from "./format.ts";

/** Bytes of NaCl's nonce. */
export const NONCE = 24;

/** What seals the datagrams of one link. */
export interface Sealing {
  /** Bytes of a datagram in front of its frames. */
  readonly head: number;
  /** Segments of super-frames may go without checksums. */
  readonly partial: boolean;
  /** Seal the datagram of `length` bytes at `at`, which has its name, sequence number and frames. */
  seal(at: number, length: number): void;
  /** Open a datagram of at least `head` bytes. False if it is not authentic; its frames may be overwritten then. */
  open(at: number, length: number): boolean;
}

/** Return NaCl's secretbox, which Weave Net 2.x has; nonces begin with the bit of their direction. */
export function secretboxSealing(
  arena: Arena,
  secretbox: Secretbox,
  key: Uint8Array,
  sendNonce: Uint8Array,
  receiveNonce: Uint8Array,
): Sealing {
  const head = packetOverhead("secretbox");
  const box = NAME + SEQUENCE;
  const setNonce = (nonce: Uint8Array, at: number) => {
    for (let i = 0; i < SEQUENCE; i++) nonce[NONCE - SEQUENCE + i] = arena.bytes[at + NAME + i] as number;
  };
  return {
    head,
    partial: false,
    seal(at, length) {
      setNonce(sendNonce, at);
      secretbox.seal(at + box, length - head, sendNonce, key);
    },
    open(at, length) {
      setNonce(receiveNonce, at);
      return secretbox.open(at + box, length - head, receiveNonce, key);
    },
  };
}

/**
 * Derive the AEGIS-256 key of one direction from the session key of a connection, which NaCl's ciphers use as it is:
 * HKDF-SHA256 without a salt. `dialled`: for datagrams of the end that connected.
 */
function deriveAegisKey(sessionKey: Uint8Array, dialled: boolean): Uint8Array {
  const info = `weave sleeve aegis-256 ${dialled ? "dialled" : "accepted"}`;
  return hkdf(sessionKey, new Uint8Array(), info, AEGIS_KEY);
}

/**
 * Return AEGIS-256, for peers that both offer it. Each direction has its key; the nonce is zeros and the sequence number,
 * which is used once; name and sequence number are authenticated.
 */
export function aegisSealing(arena: Arena, aegis: Aegis, sessionKey: Uint8Array, outbound: boolean): Sealing {
  const head = packetOverhead("aegis-256");
  const tag = NAME + SEQUENCE;
  const own = new Arena(2 * (AEGIS_KEY + AEGIS_NONCE));
  const [sendKey, receiveKey, sendNonce, receiveNonce] = [0, 32, 64, 96];
  own.bytes.set(deriveAegisKey(sessionKey, outbound), sendKey);
  own.bytes.set(deriveAegisKey(sessionKey, !outbound), receiveKey);
  const setNonce = (nonce: number, at: number) => {
    const last = nonce + AEGIS_NONCE - SEQUENCE;
    own.view.setUint32(last, arena.view.getUint32(at + NAME));
    own.view.setUint32(last + 4, arena.view.getUint32(at + NAME + 4));
    return own.address + nonce;
  };
  return {
    head,
    partial: true,
    seal(at, length) {
      const nonce = setNonce(sendNonce, at);
      const from = arena.address + at;
      aegis.seal(from + head, length - head, from + tag, from, tag, nonce, own.address + sendKey);
    },
    open(at, length) {
      const nonce = setNonce(receiveNonce, at);
      const from = arena.address + at;
      return aegis.open(from + head, length - head, from + tag, from, tag, nonce, own.address + receiveKey);
    },
  };
}
