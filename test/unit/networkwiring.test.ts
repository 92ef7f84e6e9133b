// The overlay of a router between the MTU of the network, the flow cache and its links: who is told what, and in which order.
import { describe, expect, test } from "bun:test";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import type { NetworkMtuParams } from "../../lib/overlay/networkmtu/networkmtu.ts";
import {
  decodeRecords,
  encodeRecords,
  MtuGossip,
  type MtuRecord,
  newerRecord,
  nextVersion,
} from "../../lib/overlay/networkmtu/wire.ts";
import { overlayNetwork } from "../support/overlaynetwork.ts";

describe("the overlay", () => {
  function wired() {
    const told: unknown[][] = [];
    const note =
      (what: string) =>
      (...args: unknown[]) =>
        void told.push([what, ...args]);
    const flowCache = {
      tableChanged: note("table"),
      renumber: note("renumber"),
      report: () => ({ Ports: 1 }),
    };
    const accept = async (mtu: number) => void told.push(["accept", mtu]);
    const mtu = { fixed: undefined, agreed: 1_400, accept, changed: note("changed") };
    const network = overlayNetwork(undefined, { flowCache: flowCache as never, mtu });
    const params = (network.overlay.mtu as unknown as { params: NetworkMtuParams }).params;
    return { ...network, told: told, kernelTold: network.told, params };
  }

  test("applies an MTU that changes to the host, then forgets flows", () => {
    const { params, told } = wired();
    told.length = 0;
    params.changed(1_300);
    expect(told).toEqual([["changed", 1_300], ["table"]]);
  });

  test("forgets flows when the path to a neighbour has changed, and not at each change of the topology", () => {
    const { connect, changed, told } = wired();
    connect();
    told.length = 0;
    changed();
    expect(told).toEqual([]);
    connect();
    expect(told).toContainEqual(["table"]);
  });

  test("measures for the network unless --mtu fixes it; it accepts what is announced", async () => {
    const { params, told, overlay } = wired();
    expect([params.fixed, params.agreed, params.self]).toEqual([undefined, 1_400, nameFromNumber(1n)]);
    expect([...params.peers()]).toEqual([]);
    expect(params.takesPart(nameFromNumber(9n))).toBeUndefined();
    await params.accept(1_500);
    expect(told).toContainEqual(["accept", 1_500]);
    expect(overlay.diagnostics()["fastdp"]).toEqual({ interface: "vxlan-6784", flowCache: { Ports: 1 } });
  });

  test("with another short id forgets what was learned by the old one, in programs, flows and MACs", () => {
    const { listeners, told, kernelTold, ourself, clock } = wired();
    told.length = 0;
    kernelTold.attached.length = 0;
    kernelTold.forgotten.length = 0;
    ourself.shortId = 99;
    for (const listener of listeners) listener.shortIdsChanged?.();
    expect([kernelTold.attached, told, kernelTold.forgotten.length]).toEqual([[99], [["renumber", 99]], 1]);
    // All of now, then every minute those of 10 minutes ago.
    const [now = 0n] = kernelTold.forgotten;
    clock.advance(59_999);
    expect(kernelTold.forgotten.length).toBe(1);
    clock.advance(1);
    const aged = now - (kernelTold.forgotten[1] ?? 0n);
    expect([kernelTold.forgotten.length, aged > 300_000_000_000n, aged <= 600_000_000_000n]).toEqual([
      2,
      true,
      true,
    ]);
  });
});

describe("records of MTUs", () => {
  const [ONE, TWO] = [nameFromNumber(1n), nameFromNumber(2n)];
  const record = (change: Partial<MtuRecord> = {}): MtuRecord => ({
    version: 5,
    mtu: 1_400,
    fixed: false,
    by: ONE,
    ...change,
  });

  test("are 20 bytes each behind the format, as they were", () => {
    const records = new Map([
      [ONE, record({ version: 0xfffffffe, mtu: 65_000, fixed: true, by: TWO })],
      [TWO, record()],
    ]);
    const bytes = encodeRecords(records);
    expect(bytes.toHex()).toBe(
      ["01", "000000000001fffffffefde80100000000000002", "0000000000020000000505780000000000000001"].join(""),
    );
    expect(decodeRecords(bytes)).toEqual(records);
    expect(decodeRecords(Uint8Array.of(1))).toEqual(new Map());
    expect([decodeRecords(new Uint8Array()), decodeRecords(Uint8Array.of(2, 9))]).toEqual([
      new Map(),
      new Map(),
    ]);
  });

  test("that are cut, or too many, are refused; 3,000 fill a message", () => {
    expect(() => decodeRecords(new Uint8Array(1 + 19).fill(1))).toThrow("a message on MTUs has 20 bytes");
    const message = (count: number) => {
      const bytes = new Uint8Array(1 + 20 * count);
      bytes[0] = 1;
      return bytes;
    };
    expect(decodeRecords(message(3_000)).size).toBe(1);
    expect(() => decodeRecords(message(3_001))).toThrow("a message on MTUs has 60021 bytes");
    const many = (count: number) =>
      new MtuGossip(new Map(Array.from({ length: count }, (_, i) => [nameFromNumber(BigInt(i)), record()])));
    expect([...many(3_000).encode()].map(({ length }) => length)).toEqual([60_001]);
    expect([...many(3_001).encode()].map(({ length }) => length)).toEqual([60_001, 21]);
  });

  test("of a later version win, round the end of all numbers; of one version the smaller, then the first by name", () => {
    const newer = (a: Partial<MtuRecord>, b: Partial<MtuRecord>) => {
      const [one, other] = [record(a), record(b)];
      const first = newerRecord(one, other);
      expect(newerRecord(other, one)).toEqual(first);
      return first === one ? "a" : "b";
    };
    expect(newer({ version: 6 }, { version: 5 })).toBe("a");
    expect(newer({ version: 0 }, { version: 0xffffffff })).toBe("a");
    expect(newer({ version: 0x80000004 }, { version: 5 })).toBe("a");
    expect(newer({ version: 0x80000006 }, { version: 5 })).toBe("b");
    // Half of all numbers apart, the greater one, so that all peers keep the same.
    expect(newer({ version: 0x80000005 }, { version: 5 })).toBe("a");
    expect(newer({ mtu: 1_399 }, { mtu: 1_400 })).toBe("a");
    expect(newer({ by: TWO }, { by: ONE })).toBe("b");
    expect(newer({ version: 6, mtu: 1_500 }, { mtu: 1_300 })).toBe("a");
    expect([nextVersion(5), nextVersion(0xffffffff)]).toEqual([6, 0]);
  });

  test("on their way are joined to the newest of each peer", () => {
    const of = (...entries: [typeof ONE, MtuRecord][]) => new MtuGossip(new Map(entries));
    const joined = of([ONE, record()]).join([
      of([ONE, record({ version: 6 })], [TWO, record()]),
      of([ONE, record({ version: 4 })]),
    ]);
    const [message = new Uint8Array()] = joined.encode();
    expect(decodeRecords(message)).toEqual(
      new Map([
        [ONE, record({ version: 6 })],
        [TWO, record()],
      ]),
    );
    expect(joined.bytes).toBe(0);
  });
});
