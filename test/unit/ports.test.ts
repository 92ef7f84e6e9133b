// What ports of containers may send as, read from configurations, and what is said of what they may not.
import { describe, expect, test } from "bun:test";
import { AddressError } from "../../lib/address/ipv4.ts";
import { parseSender } from "../../lib/host/ports/binding.ts";
import { dropNotes, dropWarnings, strictNote } from "../../lib/host/ports/drops.ts";
import type { Dropped, PortEntry } from "../../lib/host/ports/maps.ts";

describe("an allowed address", () => {
  test.each([
    ["10.40.0.7", 4, "0a280007", 32],
    ["10.40.0.7/24", 4, "0a280000", 24],
    ["0.0.0.0/0", 4, "00000000", 0],
    ["fd00:7::1", 6, `fd000007${"0".repeat(20)}0001`, 128],
    ["fd00:7::1/64", 6, `fd000007${"0".repeat(24)}`, 64],
    ["::/0", 6, "0".repeat(32), 0],
    ["00:00:5e:00:01:0A", 1, "00005e00010a", 48],
  ] as const)("%s", (text, kind, hex, bits) => {
    const sender = parseSender(text);
    expect([sender.class, sender.octets.toHex(), sender.bits]).toEqual([kind, hex, bits]);
  });

  test.each(["", "10.40.0", "10.40.0.7/33", "fd00::/129", "fe80::1%eth0", "00:00:5e:00:01", "host"])(
    "%p is none",
    (text) => expect(() => parseSender(text)).toThrow(AddressError),
  );
});

describe("what was dropped", () => {
  const port = (dropped: Partial<Dropped>, mac: string | undefined = "02:00:00:00:00:01"): PortEntry => ({
    mac,
    ipv4: new Uint8Array(4),
    dropped: { flood: 0n, multicast: 0n, spoofed: 0n, protocol: 0n, ...dropped },
  });

  test("status names the ports that dropped most, and those that are not bound", () => {
    const ports = new Map(
      Array.from({ length: 7 }, (_, i) => [
        `veth${i}`,
        port({ spoofed: BigInt(i), flood: i === 3 ? 9n : 0n }),
      ]),
    );
    const notes = dropNotes(ports);
    expect(notes.map((note) => /(\d+) frames from (\S+)/.exec(note)?.slice(1))).toEqual([
      ...[6, 5, 4, 3, 2].map((i) => [String(i), `veth${i}`]),
      ["9", "veth3"],
    ]);
    expect(strictNote(ports)).not.toContain("except");
    ports.set("old", { ...port({}), mac: undefined });
    expect(strictNote(ports)).toContain("except 1 ");
  });

  test("the log says what is new, of each port by itself", () => {
    const before = new Map([["veth0", port({ flood: 5n, protocol: 1n })]]);
    const now = new Map([
      ["veth0", port({ flood: 7n, protocol: 1n })],
      ["veth1", port({ protocol: 2n })],
    ]);
    const warnings = dropWarnings(before, now);
    expect(warnings.map(({ kind }) => kind)).toEqual(["storm veth0", "spoofed veth1"]);
    expect(warnings[0]?.text).toContain("dropped 2 frames from veth0");
    expect(dropWarnings(now, now)).toEqual([]);
  });
});
