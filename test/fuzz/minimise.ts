// Cut an input as long as it has the same fault.
import { faultOf } from "./outcome.ts";
import type { Decoder } from "./target.ts";

const ATTEMPTS = 2_000;

/** Return a shorter input with the fault `what`; the same one where it has that no more, as after a change of state. */
export async function minimise(decoder: Decoder, input: Uint8Array, what: string): Promise<Uint8Array> {
  const has = async (bytes: Uint8Array) => (await faultOf(decoder, bytes))?.what === what;
  if (!(await has(input))) return input;
  let best = input;
  let attempts = 0;
  for (let size = best.length >> 1; size > 0 && attempts < ATTEMPTS; size >>= 1) {
    for (let at = 0; at < best.length && attempts < ATTEMPTS; attempts++) {
      const cut = new Uint8Array(Buffer.concat([best.subarray(0, at), best.subarray(at + size)]));
      if (await has(cut)) best = cut;
      else at += size;
    }
  }
  return best;
}
