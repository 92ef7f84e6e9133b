// Both builds of libsodium, with messages of every length, at every place.
import { expect, test } from "bun:test";
import { loadSecretbox, MAC_LENGTH, MAX_VIEWS, viewsOf, wasmSecretbox } from "../../lib/crypto/secretbox.ts";
import { Arena } from "../../lib/sys/arena.ts";
import { randomOf } from "../support/seed.ts";

const LONGEST = 65_507;

test("seal alike and open each other's messages, up to the longest datagram", async () => {
  const random = randomOf("secretbox");
  const [a, b] = [new Arena(1 << 18), new Arena(1 << 18)];
  const [native, wasm] = [await loadSecretbox(a), await wasmSecretbox(b)];
  const key = random.bytes(32);
  const [atA, atB] = [a.reserve(LONGEST + MAC_LENGTH), b.reserve(LONGEST + MAC_LENGTH)];
  const sizes = [0, 1, 15, 16, 17, 1_000, 1_008, 1_009, 1_024, 1_025, 2_048, 9_000, 65_000, LONGEST];
  for (const size of [...sizes, ...Array.from({ length: 10 }, () => random.below(LONGEST))]) {
    const [message, nonce] = [random.bytes(size), random.bytes(24)];
    for (const [arena, at, box] of [
      [a, atA, native],
      [b, atB, wasm],
    ] as const) {
      arena.bytes.set(message, at + MAC_LENGTH);
      box.seal(at, size, nonce, key);
    }
    const sealed = a.bytes.slice(atA, atA + MAC_LENGTH + size);
    expect(Buffer.compare(sealed, b.bytes.subarray(atB, atB + MAC_LENGTH + size))).toBe(0);
    for (const [arena, at, box] of [
      [a, atA, native],
      [b, atB, wasm],
    ] as const) {
      expect(box.open(at, size, nonce, key)).toBe(true);
      expect(Buffer.compare(arena.bytes.subarray(at + MAC_LENGTH, at + MAC_LENGTH + size), message)).toBe(0);
      // One bit that is another, and it is nobody's: nothing is changed.
      arena.bytes.set(sealed, at);
      const bit = random.below((MAC_LENGTH + size) * 8);
      const wrong = at + (bit >> 3);
      arena.bytes[wrong] = (arena.bytes[wrong] ?? 0) ^ (1 << (bit & 7));
      const before = arena.bytes.slice(at, at + MAC_LENGTH + size);
      expect(box.open(at, size, nonce, key)).toBe(false);
      expect(Buffer.compare(before, arena.bytes.subarray(at, at + MAC_LENGTH + size))).toBe(0);
    }
  }
});

test("views of a place and a length are kept, and no more of them than the limit, whatever lengths there are", () => {
  const views = viewsOf(new Arena(1 << 18));
  const first = views(0, 100);
  expect(views(0, 100)).toBe(first);
  expect([first.sealed.length, first.plain.byteOffset - first.sealed.byteOffset]).toEqual([116, MAC_LENGTH]);
  for (let i = 0; i < MAX_VIEWS; i++) views(1 + (i >> 10), i & 1023);
  expect(views(0, 100)).not.toBe(first);
});
