// Pack frames into datagrams: as many as fit in the MTU, to the byte, without cutting a frame.
import { expect, test } from "bun:test";
import { ETHERNET_HEADER } from "../../lib/address/mac.ts";
import { DatagramBatch } from "../../lib/overlay/sleeve/batch.ts";
import { FRAME_HEADER, MAX_DATAGRAM, NAME } from "../../lib/overlay/sleeve/format.ts";
import { Link } from "../../lib/overlay/sleeve/link.ts";
import { Arena } from "../../lib/sys/arena.ts";

const MTU = 1_400;
/** Bytes for frames and their headers in a datagram of an unencrypted link. */
const ROOM = MTU + ETHERNET_HEADER + FRAME_HEADER;

/** Return the lengths of the datagrams that carry frames of these lengths. */
function packed(...frames: readonly number[]): number[] {
  const arena = new Arena(2 << 20);
  const sent: number[] = [];
  const batch = new DatagramBatch(arena, arena.reserve(64), (full) =>
    sent.push(...full.lengths.subarray(0, full.count)),
  );
  const link = new Link({ index: 0, peer: 2, name: new Uint8Array(6), outbound: true } as never);
  link.settings = { ...link.settings, mtu: MTU };
  for (const length of frames) {
    const at = batch.frame(link.df, 0, 0, length);
    expect(arena.view.getUint16(at - 2)).toBe(length);
  }
  batch.flush();
  return sent;
}

test("frames share a datagram if they fit with their headers, to the byte", () => {
  const [head = 0] = packed(0).map((length) => length - FRAME_HEADER);
  expect(head).toBeGreaterThanOrEqual(NAME);
  const first = 500;
  for (let over = -2; over <= FRAME_HEADER + 2; over++) {
    const second = ROOM - first - 2 * FRAME_HEADER + over;
    const lengths = [first, second].map((length) => FRAME_HEADER + length);
    const [one = 0, two = 0] = lengths;
    expect(packed(first, second)).toEqual(over <= 0 ? [head + one + two] : [head + one, head + two]);
  }
});

test("a frame of the MTU fills a datagram; a longer one is sent alone", () => {
  const [head = 0] = packed(0).map((length) => length - FRAME_HEADER);
  const whole = MTU + ETHERNET_HEADER;
  expect(packed(whole, 0, whole + 1, 0, MAX_DATAGRAM - head - FRAME_HEADER)).toEqual([
    head + ROOM,
    head + FRAME_HEADER,
    head + ROOM + 1,
    head + FRAME_HEADER,
    MAX_DATAGRAM,
  ]);
});
