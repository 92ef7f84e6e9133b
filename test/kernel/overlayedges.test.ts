// Thin edges of the overlay: learning of MAC addresses, heartbeats on the wire, and what the kernel knows of path MTUs.
import { describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { encodeHeartbeat, encodeVxlan, HeartbeatSender } from "../../lib/overlay/fastdp/heartbeat.ts";
import { forgetPathMtus, pathMtuTo } from "../../lib/overlay/kernelmtu.ts";
import { MacLearning } from "../../lib/overlay/sleeve/maclearning.ts";
import { Arena } from "../../lib/sys/arena.ts";
import { EMSGSIZE, ENETUNREACH } from "../../lib/sys/errno.ts";
import { inHost, ip, isRoot, veth } from "../support/newnetns.ts";

describe("MAC addresses", () => {
  function learning() {
    const arena = new Arena(1_024);
    const told: string[] = [];
    const subject = new MacLearning(arena, (at, peer) =>
      told.push(`${arena.bytes.subarray(at, at + 6).toHex()} ${peer}`),
    );
    const note = (mac: string, peer: number, now: number) => {
      arena.bytes.set(Uint8Array.fromHex(mac), 64);
      subject.note(64, peer, now);
      return told.splice(0);
    };
    return { subject, note };
  }
  const [A, B] = ["020000000001", "03ffffffffff"];

  test("are learned once, again with another peer, and refreshed once a second while in use", () => {
    const { note } = learning();
    expect(note(A, 1, 0)).toEqual([`${A} 1`]);
    expect([note(A, 1, 1), note(A, 1, 999)]).toEqual([[], []]);
    expect(note(A, 1, 1_000)).toEqual([`${A} 1`]);
    expect(note(A, 1, 1_999)).toEqual([]);
    expect(note(A, 2, 1_999)).toEqual([`${A} 2`]);
    expect(note(B, 2, 2_000)).toEqual([`${B} 2`]);
    expect([note(A, 2, 2_500), note(B, 2, 2_500)]).toEqual([[], []]);
    // The time since the last refresh counts, not since the last frame, also where others came between.
    expect([note(A, 2, 2_998), note(A, 2, 2_999), note(B, 2, 2_999), note(B, 2, 3_000)]).toEqual([
      ...[[], [`${A} 2`], [], [`${B} 2`]],
    ]);
  });

  test("are told apart by all of their bytes, and learned anew once they were forgotten", () => {
    const { subject, note } = learning();
    for (const mac of [A, "010000000001", "020000000101", "020100000001"])
      expect(note(mac, 1, 0)).toEqual([`${mac} 1`]);
    expect(note("020100000001", 1, 1)).toEqual([]);
    subject.clear();
    expect([note("020100000001", 1, 2), note(A, 1, 2)]).toEqual([["020100000001 1"], [`${A} 1`]]);
  });

  test("are bounded: with 16,384 all are forgotten", () => {
    const { note } = learning();
    const mac = (i: number) => `02000000${i.toString(16).padStart(4, "0")}`;
    for (let i = 0; i < 16_384; i++) note(mac(i), 1, 0);
    expect(note(mac(0), 1, 1)).toEqual([]);
    note(mac(16_384), 1, 1);
    expect([note(mac(0), 1, 2), note(mac(16_384), 1, 2)]).toEqual([[`${mac(0)} 1`], []]);
  });
});

test("a heartbeat is a VXLAN frame between zero addresses, with the connection's number and its own length", () => {
  const bytes = encodeHeartbeat(0x123456, 0x0102030405060708n, 100);
  expect(bytes.length).toBe(8 + 14 + 100);
  expect(bytes.subarray(0, 8).toHex()).toBe("0800000012345600");
  expect(bytes.subarray(8, 22).toHex()).toBe("00".repeat(14));
  expect(bytes.subarray(22, 32).toHex()).toBe("01020304050607080072");
  expect(bytes.subarray(32).every((byte) => byte === 0)).toBe(true);
  expect(encodeHeartbeat(1, 0n, 100, 9).subarray(30, 32).toHex()).toBe("0009");
  expect(encodeVxlan(1, Uint8Array.of(7, 8)).toHex()).toBe("08000000000001000708");
});

describe.if(isRoot)("the kernel's path MTUs", () => {
  test("are those of links and routes; none where no route leads", () =>
    inHost((nl) => {
      veth(nl, "eth0", "10.99.0.1/24", 1_450);
      using closed = spyOn(fs, "closeSync");
      expect(pathMtuTo(parseIPv4("10.99.0.2"), 6_784)).toBe(1_450);
      expect(pathMtuTo(parseIPv4("10.98.0.2"), 6_784)).toBeUndefined();
      expect(closed.mock.calls.length).toBe(2);
      ip("route", "add", "10.98.0.0/24", "via", "10.99.0.2", "mtu", "1300");
      expect(pathMtuTo(parseIPv4("10.98.0.2"), 6_784)).toBe(1_300);
      forgetPathMtus();
    }));

  test("bound heartbeats, which are never fragmented; a test of the path is bounded by the link alone", () =>
    inHost((nl) => {
      veth(nl, "eth0", "10.99.0.1/24", 1_450);
      const sender = new HeartbeatSender();
      const to = parseIPv4("10.99.0.2");
      const payload = (size: number) => new Uint8Array(size - 28);
      expect([sender.send(payload(1_450), to, 6_784), sender.send(payload(1_451), to, 6_784)]).toEqual([
        0,
        EMSGSIZE,
      ]);
      expect(sender.send(payload(1_451), to, 6_784, true)).toBe(EMSGSIZE);
      expect(sender.send(payload(100), parseIPv4("10.98.0.2"), 6_784)).toBe(ENETUNREACH);
      ip("route", "add", "10.97.0.0/24", "dev", "eth0", "mtu", "1300");
      const far = parseIPv4("10.97.0.2");
      expect([
        sender.send(payload(1_301), far, 6_784),
        sender.send(payload(1_301), far, 6_784, true),
      ]).toEqual([EMSGSIZE, 0]);
      using closed = spyOn(fs, "closeSync");
      sender.close();
      expect(closed.mock.calls.length).toBe(2);
    }));
});
