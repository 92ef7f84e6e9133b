// Marks of connections are cleared by what the kernel lists, of both families and all zones, until none is left.
import { expect, test } from "bun:test";
import type { Work } from "../../lib/clock/slices.ts";
import { clearConnectionMarks } from "../../lib/netlink/conntrack.ts";
import { type Message, NetlinkError } from "../../lib/netlink/message.ts";
import type { NetlinkSocket, Request } from "../../lib/netlink/socket.ts";

const [ENOENT, EPERM] = [2, 1];
const [BIT, MASK] = [0x8000_0000, 0xff80_0000];

/** A connection as IPCTNL_MSG_CT_NEW has it: nfgenmsg, CTA_TUPLE_ORIG with four bytes in it, CTA_MARK and CTA_ZONE. */
const connection = (family: number, tuple: string, zone = ""): Message => ({
  type: 0x100,
  flags: 0,
  sequence: 1,
  port: 0,
  body: Uint8Array.fromHex(
    `${family.toString(16).padStart(2, "0")}00000008000180${tuple}0800080080000000${zone}`,
  ),
});

/** A kernel that lists these connections, round by round, and answers batches by `answer`. */
function kernel(rounds: readonly (readonly Message[])[], answer: (batch: number) => void = () => {}) {
  const listed: Request[] = [];
  const batches: (readonly Request[])[] = [];
  const nl = {
    dump(request: Request) {
      listed.push(request);
      return rounds[Math.min(listed.length, rounds.length) - 1] ?? [];
    },
    batch(requests: readonly Request[]) {
      batches.push(requests);
      answer(batches.length);
    },
  };
  return { nl: nl as unknown as NetlinkSocket, listed, batches };
}

function finish(work: Work): number {
  let steps = 0;
  while (!work.next().done) steps++;
  return steps;
}

test("asks for connections with the bit, and clears the mask of each in its family and zone", () => {
  const { nl, listed, batches } = kernel([
    [connection(2, "0a200001"), connection(10, "fd000001", "0600120000070000")],
    [],
  ]);
  expect(finish(clearConnectionMarks(nl, BIT, MASK))).toBe(1);
  // CTA_MARK and CTA_MARK_MASK, big-endian.
  expect(listed.map(({ type, body }) => [type, body?.toHex()])).toEqual(
    Array(2).fill([0x101, "00000000" + "0800080080000000" + "0800150080000000"]),
  );
  expect(batches.flat().map(({ type, body }) => [type, body?.toHex()])).toEqual([
    [0x100, "02000000" + "080001800a200001" + "0800080000000000" + "08001500ff800000"],
    [0x100, "0a000000" + "08000180fd000001" + "0800080000000000" + "08001500ff800000" + "0600120000070000"],
  ]);
});

test("256 at a time, with an answer of the kernel to the last of each", () => {
  const { nl, batches } = kernel([Array.from({ length: 300 }, () => connection(2, "0a200001")), []]);
  expect(finish(clearConnectionMarks(nl, BIT, MASK))).toBe(2);
  expect(batches.map((batch) => batch.map(({ flags }) => flags).indexOf(4))).toEqual([255, 43]);
});

test("a connection that has ended meanwhile is no failure; another refusal is one", () => {
  const refuse = (errno: number) => () => {
    throw new NetlinkError("set the mark of a connection", errno);
  };
  const rounds = [[connection(2, "0a200001")], []];
  const ended = kernel(rounds, refuse(ENOENT));
  finish(clearConnectionMarks(ended.nl, BIT, MASK));
  expect(ended.listed.length).toBe(2);
  expect(() => finish(clearConnectionMarks(kernel(rounds, refuse(EPERM)).nl, BIT, MASK))).toThrow(
    "not permitted",
  );
});

test("ten rounds, then it is given up: somebody still sets marks", () => {
  const { nl, batches } = kernel([[connection(2, "0a200001")]]);
  expect(() => finish(clearConnectionMarks(nl, BIT, MASK))).toThrow("connections keep being marked");
  expect(batches.length).toBe(10);
});
