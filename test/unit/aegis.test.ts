// AEGIS-256 of libsodium's native build against its build in WebAssembly, and how its functions are found.
import { ptr } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import sodium from "libsodium-wrappers";
import { AEGIS_TAG, loadAegis } from "../../lib/crypto/aegis.ts";
import { elfFunctions, functionAddresses, loadAddress } from "../../lib/crypto/image.ts";
import { randomOf } from "../support/seed.ts";

await sodium.ready;
const random = randomOf("aegis");
const aegis = await loadAegis();
const FUNCTIONS = ["crypto_aead_aegis256_encrypt_detached", "crypto_aead_aegis256_decrypt_detached"] as const;

/** Memory of one message: each part at its place. */
function memory(key: Uint8Array, nonce: Uint8Array, head: Uint8Array, text: Uint8Array) {
  const bytes = new Uint8Array(new ArrayBuffer(70_000));
  const at = { key: 0, nonce: 32, tag: 64, head: 96, text: 160 };
  bytes.set(key, at.key);
  bytes.set(nonce, at.nonce);
  bytes.set(head, at.head);
  bytes.set(text, at.text);
  const base = ptr(bytes);
  const rest = [base + at.tag, base + at.head, head.length, base + at.nonce, base + at.key] as const;
  return {
    bytes,
    at,
    tag: bytes.subarray(at.tag, at.tag + AEGIS_TAG),
    text: bytes.subarray(at.text, at.text + text.length),
    seal: () => aegis?.seal(base + at.text, text.length, ...rest),
    open: () => aegis?.open(base + at.text, text.length, ...rest),
  };
}

test("processors of these tests have AES instructions: the cipher is there", () => {
  expect(aegis).toBeDefined();
});

test("is found again by whoever loads the library after others, as threads do", async () => {
  for (const time of [2, 3]) {
    const { loadLibrary } = await import(`../../lib/crypto/native.ts?time=${time}`);
    expect([time, (await loadLibrary())?.addresses(FUNCTIONS)]).toEqual([
      time,
      {
        crypto_aead_aegis256_encrypt_detached: expect.any(Number),
        crypto_aead_aegis256_decrypt_detached: expect.any(Number),
      },
    ]);
  }
});

test("seals what the other build seals, of every length, and opens only that", () => {
  const lengths = [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1_376, 1_400, 9_000, 65_507];
  for (const length of [...lengths, ...Array.from({ length: 20 }, () => random.below(2_000))]) {
    const [key, nonce, head] = [random.bytes(32), random.bytes(32), random.bytes(random.below(40))];
    const text = random.bytes(length);
    const ours = memory(key, nonce, head, text);
    ours.seal();
    const theirs = sodium.crypto_aead_aegis256_encrypt_detached(text, head, null, nonce, key);
    expect(ours.text.toHex()).toBe(theirs.ciphertext.toHex());
    expect(ours.tag.toHex()).toBe(theirs.mac.toHex());
    const sealed = ours.bytes.slice();
    expect(ours.open()).toBe(true);
    expect(ours.text.toHex()).toBe(text.toHex());
    // One bit of key, nonce, tag, head or text.
    const parts = { key: 32, nonce: 32, tag: 32, head: head.length, text: length };
    for (const [part, size] of Object.entries(parts)) {
      if (size === 0) continue;
      ours.bytes.set(sealed);
      const place = ours.at[part as keyof typeof parts] + random.below(size);
      ours.bytes[place] = (ours.bytes[place] ?? 0) ^ (1 << random.below(8));
      expect(`${part} ${ours.open()}`).toBe(`${part} false`);
    }
  }
});

describe("functions of a library", () => {
  const prebuilds = fileURLToPath(import.meta.resolve("sodium-native")).replace(/[^/]*$/, "prebuilds");
  const file = (arch: string) =>
    new Uint8Array(readFileSync(`${prebuilds}/linux-${arch}/sodium-native.node`));

  test.each(["x64", "arm64"])("are found in the build for %s", (arch) => {
    const names = [...FUNCTIONS, "crypto_aead_aes256gcm_is_available"];
    const found = elfFunctions(file(arch), [...names, "crypto_aead_of_nobody"]);
    expect([...found.keys()].toSorted()).toEqual(names.toSorted());
    for (const { value, offset } of found.values()) expect(value).toBeGreaterThan(offset);
  });

  test("are not found in a file that is cut off or none, which does no harm", () => {
    const whole = file(process.arch);
    const functions = elfFunctions(whole, FUNCTIONS);
    for (let i = 0; i < 200; i++) {
      const cut = whole.slice(0, i < 100 ? i : random.below(whole.length));
      // The end of the last section's header is not needed.
      if (cut.length > whole.length - 64) continue;
      expect(() => elfFunctions(cut, FUNCTIONS)).toThrow(RangeError);
    }
    expect(elfFunctions(whole.slice(0, -1), FUNCTIONS)).toEqual(functions);
    expect(elfFunctions(new Uint8Array(1 << 16), FUNCTIONS).size).toBe(0);
  });

  test("begin where the kernel has put the file, by its device and inode", () => {
    const maps = [
      "55d0b0000000-55d0b0001000 r--p 00000000 08:01 4026                       /usr/bin/with-the-same-inode",
      "55d0c0000000-55d0c0001000 r--p 00000000 08:01 77                         /usr/bin/other",
      "7f00c0023000-7f00c00ee000 r-xp 00022000 00:01 4026                       /memfd:sodium (deleted)",
      "7f00c0000000-7f00c0023000 r--p 00000000 00:01 4026                       /memfd:sodium (deleted)",
      "7ffd1a2f0000-7ffd1a311000 rw-p 00000000 00:00 0                          [stack]",
      "",
    ].join("\n");
    expect(loadAddress(maps, "1:4026")).toBe(0x7f00c0000000);
    expect(loadAddress(maps, `${0x801}:77`)).toBe(0x55d0c0000000);
    expect(loadAddress(maps, `${0x801}:5`)).toBeUndefined();
    expect(loadAddress(maps, "1:77")).toBeUndefined();
    const many = "7f00c0000000-7f00c0023000 r--p 00000000 103:1ff05 9                          /usr/lib/x";
    expect(loadAddress(many, `${0x1ff_103_05}:9`)).toBe(0x7f00c0000000);
  });

  test("are not called where the file in memory is another, or lacks one of them", () => {
    const whole = file(process.arch);
    expect(functionAddresses("1:1", whole, FUNCTIONS)).toBeUndefined();
    // The runtime itself, whose memory is not that of the library.
    const maps = readFileSync("/proc/self/maps", "latin1");
    const [, , , device = "", ino] = maps.split(/\s+/);
    const [major = 0, minor = 0] = device.split(":").map((part) => Number.parseInt(part, 16));
    const runtime = `${major * 256 + minor}:${ino}`;
    expect(loadAddress(maps, runtime)).toBe(Number.parseInt(maps, 16));
    expect(functionAddresses(runtime, whole, FUNCTIONS)).toBeUndefined();
    expect(functionAddresses(runtime, whole, ["crypto_aead_of_nobody"])).toBeUndefined();
  });
});
