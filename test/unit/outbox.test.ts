// Messages on their way to the wire: long ones in steps, in order with those after them.
import { expect, test } from "bun:test";
import { concat } from "../../lib/bytes/concat.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce, finish, Slices } from "../../lib/clock/slices.ts";
import { loadNacl } from "../../lib/crypto/nacl.ts";
import {
  type Framing,
  gobFramed,
  LONG_FRAME,
  lengthPrefixed,
  sealed,
  takeMessage,
} from "../../lib/mesh/framing.ts";
import { Outbox } from "../../lib/mesh/outbox.ts";
import { ReceiveBuffer } from "../../lib/mesh/receivebuffer.ts";

const nacl = await loadNacl();
const KEY = new Uint8Array(32).fill(9);
const LENGTH = 5 * LONG_FRAME + 7;

/** A clock on which each reading takes a millisecond: each step of work is a slice. */
class SlowClock extends SimulatedClock {
  #worked = 0;
  worked(): number {
    return this.#worked++;
  }
}

function subject(framing: Framing) {
  const clock = new SlowClock();
  const written: Uint8Array[] = [];
  const events: string[] = [];
  const state = { full: false };
  const stream = {
    write(bytes: Uint8Array) {
      written.push(bytes.slice());
      return !state.full;
    },
  };
  const outbox = new Outbox(framing, stream, {
    slices: new Slices(clock),
    changed: () => void events.push(`${outbox.bytes}`),
    emptied: () => void events.push("emptied"),
    failed: (error) => void events.push(error.message),
  });
  return { clock, outbox, written, events, state };
}

/** Returns the messages of what was written. */
function messages(framing: Framing, written: readonly Uint8Array[]): Uint8Array[] {
  const buffer = new ReceiveBuffer();
  for (const bytes of written) buffer.push(bytes);
  const all: Uint8Array[] = [];
  for (let next = atOnce(takeMessage(framing, buffer)); next; next = atOnce(takeMessage(framing, buffer)))
    all.push(next.slice());
  expect(buffer.length).toBe(0);
  return all;
}

const LONG = Uint8Array.from({ length: LENGTH }, (_, i) => i * 7);
const long = () => LONG.slice();
const FRAMINGS: [string, (outbound: boolean) => Framing][] = [
  ["protocol 2", () => lengthPrefixed()],
  ["protocol 1", () => gobFramed()],
  ["protocol 2, sealed", (outbound) => sealed(lengthPrefixed(), nacl, KEY, outbound)],
  ["protocol 1, sealed", (outbound) => sealed(gobFramed(), nacl, KEY, outbound)],
];

test.each(FRAMINGS)("%s: long messages in many turns, and those behind them in order", (_, framing) => {
  const { clock, outbox, written, events } = subject(framing(true));
  const [head, payload, short] = [Uint8Array.of(1), long(), Uint8Array.of(2, 3)];
  expect(outbox.send([short])).toBe(true);
  expect(outbox.send([head, payload])).toBe(false);
  expect(outbox.send([short, short])).toBe(false);
  expect(written).toHaveLength(1);
  clock.advance(1);
  expect(Math.max(...written.map(({ length }) => length))).toBeLessThanOrEqual(LONG_FRAME);
  expect(messages(framing(false), written)).toEqual([short, concat([head, payload]), concat([short, short])]);
  expect(events.at(-1)).toBe("emptied");
  expect(outbox.bytes).toBe(0);
  // As at once.
  const whole = framing(true);
  const work = framing(true).frameSliced([head, payload]);
  let steps = 0;
  while (!work.next().done) steps++;
  expect(steps).toBeGreaterThanOrEqual(LENGTH / LONG_FRAME);
  expect(concat(written)).toEqual(
    concat([whole.frame(short), whole.frame(concat([head, payload])), whole.frame(concat([short, short]))]),
  );
});

test("what the stream has no room for waits, and is counted", () => {
  const { clock, outbox, written, events, state } = subject(lengthPrefixed());
  state.full = true;
  outbox.send([long()]);
  outbox.send([Uint8Array.of(1)]);
  expect(outbox.bytes).toBe(LENGTH + 1);
  clock.advance(1);
  expect(written).toHaveLength(1);
  expect(outbox.bytes).toBe(4 + LENGTH + 1 - LONG_FRAME);
  expect(events.at(-1)).toBe(`${outbox.bytes}`);
  expect(outbox.drained()).toBe(false);
  clock.advance(1);
  expect(written).toHaveLength(2);
  state.full = false;
  outbox.drained();
  clock.advance(1);
  expect(events.at(-1)).toBe("emptied");
  expect(messages(lengthPrefixed(), written)).toHaveLength(2);
  expect(outbox.drained()).toBe(true);
});

test("nothing is written once it is stopped", () => {
  const { clock, outbox, written } = subject(lengthPrefixed());
  outbox.send([long()]);
  outbox.stop();
  clock.advance(1);
  expect([written.length, outbox.bytes]).toEqual([0, 0]);
});

test.each(FRAMINGS.slice(2))("%s: a long message that was changed is not opened", (_, framing) => {
  const frame = atOnce(framing(true).frameSliced([long()]));
  frame[frame.length - 1] = (frame.at(-1) ?? 0) ^ 1;
  expect(() => atOnce(finish(framing(false).unframeSliced(frame)))).toThrow("Unable to decrypt TCP msg");
});
