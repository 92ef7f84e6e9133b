// What came of an input: its size, and a number for its shape, by which new kinds of outcome are told from known ones.

const SHAPE_NODES = 200;
/** Bytes of arrays that count as any other value. */
const SMALL = 64;

export interface Measured {
  readonly shape: number;
  /** Bytes, roughly; not counted any further above the limit. */
  readonly size: number;
}

/** Measure a value up to `limit` bytes; views of `input`'s own memory cost nothing. */
export function measure(value: unknown, limit: number, input: Uint8Array): Measured {
  let [shape, size, nodes] = [17, 0, 0];
  const mix = (number: number) => {
    if (nodes < SHAPE_NODES) shape = (Math.imul(shape, 31) + number) | 0;
  };
  const waiting: unknown[] = [value];
  while (waiting.length > 0 && size <= limit) {
    const next = waiting.pop();
    nodes++;
    size += 8;
    if (typeof next === "string") {
      size += next.length;
      mix(1 + 100 * bucket(next.length));
    } else if (typeof next === "number" || typeof next === "bigint") {
      mix(next < 0 ? 2 : next === 0 || next === 0n ? 3 : 4);
    } else if (next === undefined || next === null || typeof next === "boolean") {
      mix(next ? 5 : next === null ? 6 : 7);
    } else if (ArrayBuffer.isView(next)) {
      // Asking for the buffer of a small array gives it one, which takes longer than most decoders.
      if (next.byteLength > SMALL && next.buffer !== input.buffer) size += next.byteLength;
      mix(8 + 100 * bucket(next.byteLength));
    } else if (typeof next === "object") {
      const parts = Array.isArray(next)
        ? next
        : next instanceof Map
          ? [...next].flat()
          : next instanceof Set
            ? [...next]
            : Object.values(next);
      mix(9 + 100 * bucket(parts.length));
      for (let i = 0; i < parts.length && i * 8 <= limit; i++) waiting.push(parts[i]);
    }
  }
  return { shape, size };
}

/** Numbers of 0, 1, 2, 3-4, 5-8, … */
const bucket = (count: number) => (count < 2 ? count : 33 - Math.clz32(count - 1));
