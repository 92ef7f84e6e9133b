// libsodium's native build (sodium-native), where one for this machine is embedded.
import { closeSync, readFileSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { fileIdentity } from "../sys/fileidentity.ts";
import { syscall } from "../sys/syscall.ts";
import { functionAddresses } from "./image.ts";

const MFD_CLOEXEC = 1;

/** The functions in use. Results go to the first argument, or the one behind the state. */
export interface NativeSodium {
  crypto_box_keypair(publicKey: Uint8Array, privateKey: Uint8Array): void;
  /** Throw for public keys of low order. */
  crypto_scalarmult(product: Uint8Array, privateKey: Uint8Array, publicKey: Uint8Array): void;
  crypto_stream_salsa20(stream: Uint8Array, nonce: Uint8Array, key: Uint8Array): void;
  readonly crypto_stream_xor_STATEBYTES: number;
  readonly crypto_onetimeauth_STATEBYTES: number;
  crypto_stream_xor_init(state: Uint8Array, nonce: Uint8Array, key: Uint8Array): void;
  crypto_stream_xor_update(state: Uint8Array, encrypted: Uint8Array, message: Uint8Array): void;
  crypto_onetimeauth_init(state: Uint8Array, key: Uint8Array): void;
  crypto_onetimeauth_update(state: Uint8Array, message: Uint8Array): void;
  crypto_onetimeauth_final(state: Uint8Array, tag: Uint8Array): void;
  crypto_secretbox_easy(sealed: Uint8Array, message: Uint8Array, nonce: Uint8Array, key: Uint8Array): void;
  crypto_secretbox_open_easy(
    message: Uint8Array,
    sealed: Uint8Array,
    nonce: Uint8Array,
    key: Uint8Array,
  ): boolean;
}

interface Library {
  readonly exports: NativeSodium;
  /** Return the addresses of functions that the binding does not wrap; undefined unless all are there. */
  addresses<Name extends string>(names: readonly Name[]): Record<Name, number> | undefined;
}

/** Of this thread; each Worker loads this module for itself. */
let library: Promise<Library | undefined> | undefined;

/** Load the native build; undefined if there is none for this machine, or it does not load (on musl). */
export async function loadNative(): Promise<NativeSodium | undefined> {
  return (await loadLibrary())?.exports;
}

/** Load the library behind the native build, once; undefined as for loadNative. */
export function loadLibrary(): Promise<Library | undefined> {
  library ??= open().catch(() => undefined);
  return library;
}

async function open(): Promise<Library> {
  const loaded = { exports: {} };
  // It stays open: the linker takes a second file of the same path, which has the fd's number, for the first one.
  const fd = memoryFile("sodium", readFileSync(await nativeFile()));
  const path = `/proc/self/fd/${fd}`;
  try {
    process.dlopen(loaded, path);
    return {
      exports: loaded.exports as NativeSodium,
      // Read again, rather than kept: it has a megabyte.
      addresses: (names) => functionAddresses(fileIdentity(fd), readFileSync(path), names),
    };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Return the file's path: in the executable once compiled, else in node_modules. */
async function nativeFile(): Promise<string> {
  try {
    const { default: file } =
      process.arch === "arm64"
        ? await import("sodium-native/prebuilds/linux-arm64/sodium-native.node", { with: { type: "file" } })
        : await import("sodium-native/prebuilds/linux-x64/sodium-native.node", { with: { type: "file" } });
    return file;
  } catch {
    // Bun does not load such a file as data.
    const main = fileURLToPath(import.meta.resolve("sodium-native"));
    return `${main.slice(0, main.lastIndexOf("/"))}/prebuilds/linux-${process.arch}/sodium-native.node`;
  }
}

/** Create a memfd with the contents, which nobody can replace. Returns its fd. */
function memoryFile(name: string, contents: Uint8Array): number {
  const path = new TextEncoder().encode(`${name}\0`);
  const fd = syscall(`making file ${name} in memory`, "memfd_create", path, MFD_CLOEXEC);
  for (let written = 0; written < contents.length; ) written += writeSync(fd, contents, written);
  return fd;
}
