// The filter on sleeve's socket: what strangers send never reaches the engine, what peers send does.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { createSocket } from "node:dgram";
import { closeSync } from "node:fs";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { BpfMap } from "../../lib/bpf/map.ts";
import { nameFromNumber, nameToBytes } from "../../lib/mesh/name.ts";
import { ELSEWHERE_PER_S, StrangerFilter } from "../../lib/overlay/sleeve/filter.ts";
import { openSleeveSocket } from "../../lib/overlay/sleeve/socket.ts";
import { trySyscall } from "../../lib/sys/syscall.ts";
import { isRoot } from "../support/newnetns.ts";

const PORT = 46_783;
const [ONE, TWO] = [nameFromNumber(0x020000000001n), nameFromNumber(0x020000000002n)];
const HOME = parseIPv4("127.0.0.1");

describe.if(isRoot)("the filter", () => {
  let fd: number;
  let filter: StrangerFilter;
  let sender: ReturnType<typeof createSocket>;
  beforeEach(async () => {
    fd = openSleeveSocket(HOME, PORT);
    filter = new StrangerFilter(fd);
    sender = createSocket("udp4");
    await new Promise<void>((resolve) => sender.bind(0, "127.0.0.1", resolve));
  });
  afterEach(() => {
    sender.close();
    filter.close();
    closeSync(fd);
  });

  const send = (bytes: Uint8Array, from = sender): Promise<void> =>
    new Promise((resolve, reject) =>
      from.send(bytes, PORT, "127.0.0.1", (error) => (error ? reject(error) : resolve())),
    );

  const datagram = (name: Parameters<typeof nameToBytes>[0], length = 40) => {
    const bytes = new Uint8Array(length);
    bytes.set(nameToBytes(name));
    return bytes;
  };

  /** Read all that has arrived; returns how many datagrams there were. */
  function arrived(): number {
    const buffer = new Uint8Array(2_048);
    for (let count = 0; ; count++)
      if (trySyscall("recvfrom", fd, buffer, buffer.length, 0x40, 0, 0) < 0) return count;
  }

  /** Send datagrams of a peer until one is dropped; return how many were not, at most 100 times as many as in a second. */
  async function untilDropped(name: Parameters<typeof datagram>[0]): Promise<number> {
    for (let count = 0; ; count++) {
      await send(datagram(name));
      if (count >= 100 * ELSEWHERE_PER_S || arrived() === 0) return count;
    }
  }

  test("drops what begins with no peer's name, and what is too short for one", async () => {
    await send(datagram(ONE));
    await send(new Uint8Array(3));
    await send(new Uint8Array(0));
    expect([arrived(), filter.dropped]).toEqual([0, 3]);
  });

  test("lets a peer through from its address, and from others a few a second", async () => {
    filter.allow(ONE, 7, HOME);
    for (let i = 0; i < 3 * ELSEWHERE_PER_S; i++) await send(datagram(ONE));
    await send(datagram(TWO));
    expect([arrived(), filter.dropped]).toEqual([3 * ELSEWHERE_PER_S, 1]);
    filter.allow(ONE, 7, parseIPv4("127.0.0.9"));
    const began = performance.now();
    const some = await untilDropped(ONE);
    const seconds = (performance.now() - began) / 1_000;
    expect(some).toBeGreaterThanOrEqual(ELSEWHERE_PER_S);
    expect(some).toBeLessThanOrEqual((2 + seconds) * ELSEWHERE_PER_S);
  });

  test("writes nothing where the next link of a peer has the same address", async () => {
    // Its bytes are not symmetric: an address read in the wrong byte order would differ.
    const elsewhere = parseIPv4("127.0.0.9");
    const { set } = BpfMap.prototype;
    let written = 0;
    using _ = spyOn(BpfMap.prototype, "set").mockImplementation(function (this: never, ...args: never) {
      written++;
      return set.apply(this, args);
    } as never);
    filter.allow(ONE, 1, elsewhere);
    filter.allow(ONE, 2, elsewhere);
    filter.remove(ONE, 1);
    expect(written).toBe(1);
    filter.allow(ONE, 2, HOME);
    expect(written).toBe(2);
  });

  test("forgets a peer with its last link", async () => {
    filter.allow(ONE, 1, HOME);
    filter.allow(ONE, 2);
    filter.remove(ONE, 2);
    await send(datagram(ONE));
    filter.remove(ONE, 1);
    await send(datagram(ONE));
    filter.allow(TWO, 3, HOME);
    filter.clear();
    await send(datagram(TWO));
    expect([arrived(), filter.dropped]).toEqual([1, 2]);
  });

  test("of several links the latest with an address counts, and with its end the one before", async () => {
    const elsewhere = parseIPv4("127.0.0.9");
    const burst = async () => {
      for (let i = 0; i < 3 * ELSEWHERE_PER_S; i++) await send(datagram(ONE));
      return arrived();
    };
    filter.allow(ONE, 1, HOME);
    filter.allow(ONE, 2, elsewhere);
    expect(await untilDropped(ONE)).toBeLessThan(100 * ELSEWHERE_PER_S);
    filter.remove(ONE, 2);
    expect(await burst()).toBe(3 * ELSEWHERE_PER_S);
    // A link without an address changes nothing, neither when it comes nor when it goes; nor does one that was never there.
    filter.allow(ONE, 3);
    filter.remove(ONE, 3);
    filter.remove(ONE, 9);
    filter.remove(TWO, 1);
    expect(await burst()).toBe(3 * ELSEWHERE_PER_S);
  });
});
