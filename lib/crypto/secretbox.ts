// NaCl's secretbox (XSalsa20-Poly1305) in place, in an arena, without allocating for each message: libsodium's native
// build where one for this machine is embedded, else the one in WebAssembly.
import type { Arena } from "../sys/arena.ts";
import { loadNative, type NativeSodium } from "./native.ts";

/** Bytes of authenticator in front of each sealed message. */
export const MAC_LENGTH = 16;
/** Limit of cached views. Exported for tests. */
export const MAX_VIEWS = 16_384;
/** Bound of lengths, so that a place and a length fit one number. */
const LENGTHS = 2 ** 17;

export interface Secretbox {
  /** "native" or "wasm". */
  readonly kind: string;
  /** Seal the `length` bytes at `at + MAC_LENGTH`; writes the authenticator to `at`. */
  seal(at: number, length: number, nonce: Uint8Array, key: Uint8Array): void;
  /** Open a sealed message in place; `length` is that of the message alone. False, and unchanged, if it is not authentic. */
  open(at: number, length: number, nonce: Uint8Array, key: Uint8Array): boolean;
}

/** Load a secretbox for messages in the arena. */
export async function loadSecretbox(arena: Arena): Promise<Secretbox> {
  const native = await loadNative();
  return native ? nativeSecretbox(native, arena) : wasmSecretbox(arena);
}

/** Return a cache of views of messages, sealed and plain, by place and length. Exported for tests. */
export function viewsOf(arena: Arena) {
  const known = new Map<number, { sealed: Uint8Array; plain: Uint8Array }>();
  return (at: number, length: number) => {
    const key = at * LENGTHS + length;
    let views = known.get(key);
    if (!views) {
      if (known.size >= MAX_VIEWS) known.clear();
      const end = at + MAC_LENGTH + length;
      views = { sealed: arena.bytes.subarray(at, end), plain: arena.bytes.subarray(at + MAC_LENGTH, end) };
      known.set(key, views);
    }
    return views;
  };
}

function nativeSecretbox(sodium: NativeSodium, arena: Arena): Secretbox {
  const views = viewsOf(arena);
  return {
    kind: "native",
    seal(at, length, nonce, key) {
      const { sealed, plain } = views(at, length);
      sodium.crypto_secretbox_easy(sealed, plain, nonce, key);
    },
    open(at, length, nonce, key) {
      const { sealed, plain } = views(at, length);
      return sodium.crypto_secretbox_open_easy(plain, sealed, nonce, key);
    },
  };
}

/** The C functions under libsodium-wrappers, on the memory of the WebAssembly module. */
interface WasmSodium {
  readonly HEAPU8: Uint8Array;
  _malloc(size: number): number;
  _crypto_secretbox_easy(
    sealed: number,
    message: number,
    length: number,
    lengthHigh: number,
    nonce: number,
    key: number,
  ): number;
  _crypto_secretbox_open_easy(
    message: number,
    sealed: number,
    length: number,
    lengthHigh: number,
    nonce: number,
    key: number,
  ): number;
}

/** Load the WebAssembly build, which copies messages into its memory and back. Exported for tests. */
export async function wasmSecretbox(arena: Arena): Promise<Secretbox> {
  const { default: sodium } = await import("libsodium-wrappers");
  await sodium.ready;
  const { libsodium } = sodium as unknown as { libsodium: WasmSodium };
  const work = libsodium._malloc(LENGTHS);
  const nonceAt = libsodium._malloc(24);
  const keyAt = libsodium._malloc(32);
  const views = viewsOf(arena);
  return {
    kind: "wasm",
    seal(at, length, nonce, key) {
      const { sealed, plain } = views(at, length);
      const heap = libsodium.HEAPU8;
      heap.set(nonce, nonceAt);
      heap.set(key, keyAt);
      heap.set(plain, work + MAC_LENGTH);
      libsodium._crypto_secretbox_easy(work, work + MAC_LENGTH, length, 0, nonceAt, keyAt);
      sealed.set(libsodium.HEAPU8.subarray(work, work + sealed.length));
    },
    open(at, length, nonce, key) {
      const { sealed, plain } = views(at, length);
      const heap = libsodium.HEAPU8;
      heap.set(nonce, nonceAt);
      heap.set(key, keyAt);
      heap.set(sealed, work);
      const failed = libsodium._crypto_secretbox_open_easy(
        work + MAC_LENGTH,
        work,
        sealed.length,
        0,
        nonceAt,
        keyAt,
      );
      if (failed !== 0) return false;
      plain.set(libsodium.HEAPU8.subarray(work + MAC_LENGTH, work + MAC_LENGTH + length));
      return true;
    },
  };
}
