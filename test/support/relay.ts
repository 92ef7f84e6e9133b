// A bad network: a program between two TAP links that loses, repeats, delays and otherwise ill-treats what passes. What
// it is to do comes by standard input, a line of JSON each time; it starts by passing everything.
import { readSync } from "node:fs";
import { seededRandom } from "../../lib/clock/random.ts";
import { openTap } from "../../lib/netlink/tap.ts";
import { complement, sum } from "../../lib/overlay/sleeve/checksum.ts";
import { writeFragmentationNeeded } from "../../lib/overlay/sleeve/packets.ts";
import { Arena } from "../../lib/sys/arena.ts";
import { rawSyscall } from "../../lib/sys/libc.ts";
import { syscallNumber } from "../../lib/sys/syscall.ts";

/** Probabilities are of each frame; the first link is the near one. */
export interface Treatment {
  readonly loss?: number;
  readonly duplicate?: number;
  /** Held back until a few others have passed. */
  readonly reorder?: number;
  /** A bit of it is flipped, behind the Ethernet header. */
  readonly corrupt?: number;
  /** Every frame takes this long. */
  readonly delayMs?: number;
  /** IP packets longer than this are dropped … */
  readonly mtu?: number;
  /** … and their senders told so. */
  readonly tell?: boolean;
  /** Nothing but TCP and ARP passes from the far link to the near one. */
  readonly oneWay?: boolean;
  /** UDP from this address appears to come from that one, at another port, as NAT does it. */
  readonly translate?: { readonly from: string; readonly to: string; readonly port: number };
}

const ETHERNET = 14;
const UDP = 17;
const TCP = 6;
const HELD = 4;
/** More than wait are lost. */
const MAX_WAITING = 10_000;

const address = (text: string) => text.split(".").reduce((number, octet) => number * 256 + Number(octet), 0);

function main(near: string, far: string): void {
  const arena = new Arena(1 << 18);
  const { bytes, view } = arena;
  const taps = [openTap(near), openTap(far)] as const;
  const buffer = arena.reserve(70_000) + 2;
  const scratch = arena.reserve(4096) + 2;
  const polled = arena.reserve(24);
  const timeout = arena.reserve(16);
  [0, ...taps].forEach((fd, i) => {
    view.setInt32(polled + 8 * i, fd, true);
    view.setInt16(polled + 8 * i + 4, 1, true);
  });
  const [read, write, ppoll] = (["read", "write", "ppoll"] as const).map(syscallNumber);
  let treatment: Treatment = {};
  let held: { fd: number; frame: Uint8Array; after: number }[] = [];
  const waiting: { fd: number; frame: Uint8Array; due: number }[] = [];
  const input = new Uint8Array(65_536);
  const random = seededRandom(BigInt(process.env["SEED"] ?? 1));
  const chance = (probability = 0) => probability > 0 && random.float() < probability;

  const put = (fd: number, at: number, length: number) =>
    rawSyscall(write ?? 0, fd, arena.address + at, length, 0, 0, 0);

  const send = (fd: number, at: number, length: number) => {
    const due = performance.now() + (treatment.delayMs ?? 0);
    if (treatment.delayMs === undefined && waiting.length === 0) put(fd, at, length);
    else if (waiting.length < MAX_WAITING) waiting.push({ fd, frame: bytes.slice(at, at + length), due });
  };

  /** Sends what has waited long enough; returns for how many ms the next has to wait. */
  const release = (): number | undefined => {
    for (;;) {
      const [first] = waiting;
      if (!first) return undefined;
      const left = first.due - performance.now();
      if (left > 0) return left;
      waiting.shift();
      bytes.set(first.frame, buffer);
      put(first.fd, buffer, first.frame.length);
    }
  };

  /** Rewrites a packet as a router with NAT does; UDP checksums are left out, as they may be. */
  const translate = (at: number, outward: boolean) => {
    const rule = treatment.translate;
    if (!rule || view.getUint16(at + 12) !== 0x0800 || bytes[at + ETHERNET + 9] !== UDP) return;
    const ip = at + ETHERNET;
    const place = ip + (outward ? 12 : 16);
    if (view.getUint32(place) !== address(outward ? rule.from : rule.to)) return;
    view.setUint32(place, address(outward ? rule.to : rule.from));
    if ((view.getUint16(ip + 6) & 0x1fff) === 0) {
      const port = ip + 20 + (outward ? 0 : 2);
      view.setUint16(port, outward ? rule.port : 6783);
      view.setUint16(ip + 26, 0);
    }
    view.setUint16(ip + 10, 0);
    view.setUint16(ip + 10, complement(sum(arena, ip, 20)), true);
  };

  const pass = (from: 0 | 1, at: number, length: number) => {
    const { loss, duplicate, reorder, corrupt, mtu, tell, oneWay } = treatment;
    const [back, onward] = from === 0 ? taps : [taps[1], taps[0]];
    const isIp = view.getUint16(at + 12) === 0x0800;
    if (oneWay && from === 1 && isIp && bytes[at + ETHERNET + 9] !== TCP) return;
    if (mtu !== undefined && isIp && length - ETHERNET > mtu) {
      if (tell) send(back, scratch, writeFragmentationNeeded(arena, at, mtu, scratch));
      return;
    }
    if (chance(loss)) return;
    translate(at, from === 0);
    if (chance(corrupt)) {
      const place = at + ETHERNET + Math.floor(random.float() * (length - ETHERNET));
      bytes[place] = (bytes[place] ?? 0) ^ (1 << Math.floor(random.float() * 8));
    }
    if (chance(reorder)) {
      held.push({ fd: onward, frame: bytes.slice(at, at + length), after: HELD });
      return;
    }
    send(onward, at, length);
    if (chance(duplicate)) send(onward, at, length);
    held = held.filter((one) => {
      if (--one.after > 0) return true;
      bytes.set(one.frame, buffer);
      send(one.fd, buffer, one.frame.length);
      return false;
    });
  };

  console.log("ready");
  for (;;) {
    const wait = release();
    // struct timespec of ppoll(2)
    view.setBigInt64(timeout, 0n, true);
    view.setBigInt64(timeout + 8, BigInt(Math.ceil(Math.min(wait ?? 0, 900) * 1e6)), true);
    const until = wait === undefined ? 0 : arena.address + timeout;
    rawSyscall(ppoll ?? 0, arena.address + polled, 3, until, 0, 8, 0);
    if (view.getInt16(polled + 6, true) !== 0) {
      const count = readSync(0, input);
      if (count === 0) return;
      const line = new TextDecoder().decode(input.subarray(0, count)).trim().split("\n").at(-1) ?? "{}";
      treatment = JSON.parse(line);
    }
    for (const from of [0, 1] as const) {
      for (let i = 0; i < 64; i++) {
        const length = Number(rawSyscall(read ?? 0, taps[from], arena.address + buffer, 69_000, 0, 0, 0));
        if (length <= 0) break;
        if (length >= ETHERNET) pass(from, buffer, length);
      }
    }
  }
}

if (import.meta.main) {
  const [near, far] = process.argv.slice(2);
  if (near && far) main(near, far);
}
