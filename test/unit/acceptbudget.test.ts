// Unfinished handshakes: how many may wait, and which are evicted.
import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { LOG_BURST } from "../../lib/log/allowance.ts";
import { logfmt } from "../../lib/log/fields.ts";
import { logTo } from "../../lib/log/log.ts";
import { ACCEPT_BURST, ACCEPTS_PER_S, AcceptBudget } from "../../lib/mesh/acceptbudget.ts";
import { BufferBudget } from "../../lib/mesh/bufferbudget.ts";
import { ratedLog } from "../../lib/mesh/ratedlog.ts";
import {
  MAX_HANDSHAKES,
  MAX_HANDSHAKES_PER_ADDRESS,
  type PendingHandshake,
} from "../../lib/mesh/unfinishedhandshakes.ts";

function gate() {
  const clock = new SimulatedClock(1_000_000);
  const warnings: string[] = [];
  const closed: PendingHandshake[] = [];
  const buffers = new BufferBudget();
  const strangers = new AcceptBudget(
    clock,
    (_kind, text, { address } = {}) => warnings.push(`${address}: ${text}`),
    buffers,
  );
  const open = (remoteIp: string): PendingHandshake => {
    const stranger: PendingHandshake = {
      address: `${remoteIp}:1`,
      remoteIp,
      shutdown() {
        closed.push(stranger);
        strangers.remove(stranger);
      },
    };
    strangers.add(stranger);
    return stranger;
  };
  return { clock, warnings, closed, strangers, open, buffers };
}

test("of one address too many unfinished handshakes, the oldest goes", () => {
  const { warnings, closed, strangers, open } = gate();
  const other = open("10.0.0.2");
  const own = Array.from({ length: MAX_HANDSHAKES_PER_ADDRESS + 3 }, () => open("10.0.0.1"));
  expect(closed).toEqual(own.slice(0, 3));
  expect(closed).not.toContain(other);
  expect(strangers.all()).toHaveLength(MAX_HANDSHAKES_PER_ADDRESS + 1);
  expect(strangers.notes().join()).toStartWith("3 connections of strangers closed");
  expect(warnings[0]).toStartWith("10.0.0.1: more than");
});

test("in all too many, the oldest of the address with most goes, and honest ones stay", () => {
  const { closed, strangers, open } = gate();
  const honest = open("10.0.1.1");
  for (let i = 0; i < 200; i++) for (let k = 0; k < 5; k++) open(`10.0.0.${i}`);
  expect(strangers.all()).toHaveLength(MAX_HANDSHAKES);
  expect(closed).not.toContain(honest);
  strangers.remove(honest);
  strangers.remove(honest);
  expect(strangers.all()).toHaveLength(MAX_HANDSHAKES - 1);
  expect(strangers.notes().join()).toContain(`${MAX_HANDSHAKES - 1} unfinished handshakes`);
});

test("strangers from many addresses neither evict nor delay a peer, nor displace its address", () => {
  const { closed, strangers, open } = gate();
  const limit = (name: string) => strangers.limits().find((each) => each.name === name)?.value;
  strangers.admits("10.0.1.1");
  strangers.succeeded(open("10.0.1.1"));
  const again = open("10.0.1.1");
  for (let i = 0; i < 5_000; i++) {
    const ip = `10.1.${i >> 8}.${i & 255}`;
    strangers.admits(ip);
    open(ip);
  }
  expect(closed).not.toContain(again);
  expect(closed).toHaveLength(5_000 - MAX_HANDSHAKES);
  expect([limit("handshakes"), limit("handshakes-of-peers")]).toEqual([MAX_HANDSHAKES, 1]);
  const slices = strangers.shared("10.0.1.1").slices;
  expect(slices).not.toBe(strangers.shared("10.1.19.1").slices);
  strangers.failed(again, new Error("EOF"));
  expect(strangers.shared("10.0.1.1").slices).not.toBe(slices);
  strangers.succeeded(open("10.0.1.1"));
  expect(strangers.shared("10.0.1.1").slices).toBe(slices);
  // One that we have dialled is a peer's, too.
  strangers.succeeded({ ...again, remoteIp: "10.0.1.2" });
  expect(strangers.shared("10.0.1.2").slices).toBe(slices);
});

test("a handshake that has failed makes room, and is told once", () => {
  const { closed, strangers, open, warnings } = gate();
  const [failed] = Array.from({ length: MAX_HANDSHAKES_PER_ADDRESS }, () => open("10.0.0.1"));
  if (failed) strangers.failed(failed, new Error("not a router"));
  expect(strangers.all()).toHaveLength(MAX_HANDSHAKES_PER_ADDRESS - 1);
  open("10.0.0.1");
  expect(closed).toEqual([]);
  open("10.0.0.1");
  expect(closed.length).toBe(1);
  expect(warnings.filter((line) => line.includes("not a router")).length).toBe(1);
});

test("an address opens a burst of connections, then so many a second", () => {
  const { clock, strangers } = gate();
  const admitted = (ip: string, tries: number) =>
    Array.from({ length: tries }, () => strangers.admits(ip)).filter((yes) => yes).length;
  expect(admitted("10.0.0.1", 3000)).toBe(ACCEPT_BURST);
  expect(admitted("10.0.0.2", 1)).toBe(1);
  clock.advance(1000);
  expect(admitted("10.0.0.1", 3000)).toBe(ACCEPTS_PER_S);
  clock.advance(3_600_000);
  expect(admitted("10.0.0.1", 3000)).toBe(ACCEPT_BURST);
});

test("info lines of the mesh are bounded, and those left out are counted", () => {
  const clock = new SimulatedClock(0);
  const lines: string[] = [];
  const log = ratedLog(
    logTo((_level, text, fields) => lines.push(text + logfmt(fields))),
    clock,
  );
  const line = "x".repeat(1024);
  const count = LOG_BURST / line.length;
  for (let i = 0; i < count + 1000; i++) log.info(line);
  expect(lines).toHaveLength(count);
  clock.advance(1000);
  for (let i = 0; i < 300; i++) log.info("a");
  const first = "a linesDropped=1000";
  expect(lines.slice(count)).toEqual([first, ...Array(256 - first.length).fill("a")]);
});

test("bytes of strangers' handshakes are limited, and the oldest is closed; those of peers count as peers' bytes", () => {
  const { closed, strangers, open, buffers } = gate();
  const hold = (handshake: PendingHandshake, bytes: number) => {
    const pool = strangers.shared(handshake.remoteIp).buffers;
    const holder = {
      remoteIp: handshake.remoteIp,
      shutdown(error: Error) {
        pool.hold(holder, 0);
        handshake.shutdown(error);
      },
    };
    pool.hold(holder, bytes);
    return pool;
  };
  const kB = 1024;
  strangers.succeeded(open("10.0.1.1"));
  const peer = open("10.0.1.1");
  expect(hold(peer, 300 * kB)).toBe(buffers);
  // One address holds half of the limit, and as many addresses as possible the other half.
  const one = Array.from({ length: 20 }, () => open("10.0.0.1"));
  for (const each of one) hold(each, 256 * kB);
  const many = Array.from({ length: 352 }, (_, i) => open(`10.1.${i >> 8}.${i & 255}`));
  for (const each of many) hold(each, 32 * kB);
  const limit = () => strangers.limits().find(({ name }) => name === "handshake-bytes");
  expect(limit()).toEqual({ name: "handshake-bytes", value: 16 * kB * kB, max: 16 * kB * kB, refused: 0 });
  expect(closed).toEqual([]);
  // First the address with most bytes is closed, then the oldest of equal ones, not the longest.
  const honest = open("10.0.2.1");
  hold(honest, 256 * kB);
  expect(closed.splice(0)).toEqual(one.slice(0, 1));
  for (const each of one.slice(1, -2)) strangers.shared("10.0.0.1").buffers.hold(each, 0);
  for (let i = 0; i < 100; i++) hold(open(`10.2.0.${i}`), 64 * kB);
  expect(closed).toContain(many[0] as PendingHandshake);
  expect(closed).not.toContain(honest);
  expect(closed).not.toContain(peer);
  expect([buffers.limit.value, buffers.limit.refused]).toEqual([300 * kB, 0]);
});
