// Which addresses of gossip are dialled, and how many.
import { expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { dialable, GossipedAddresses, MAX_GOSSIPED } from "../../lib/mesh/dial/gossiped.ts";

test.each([
  ["10.0.0.1:7000", true, "10.0.0.1:7000"],
  ["10.0.0.1:54321", false, "10.0.0.1:6783"],
  ["10.0.0.1", false, "10.0.0.1:6783"],
  ["[2001:db8::1]:7000", true, "[2001:db8::1]:7000"],
  ["10.0.0.1", true, undefined],
  ["127.0.0.1:6784", true, undefined],
  ["127.8.8.8:6784", false, undefined],
  ["0.0.0.0:6783", true, undefined],
  ["169.254.169.254:80", true, undefined],
  ["224.0.0.251:5353", true, undefined],
  ["239.1.1.1:5353", true, undefined],
  ["255.255.255.255:1", true, undefined],
  ["[::1]:6784", true, undefined],
  ["[::ffff:127.0.0.1]:6784", true, undefined],
  ["[fe80::1]:6783", true, undefined],
  ["[ff02::1]:6783", true, undefined],
  ["host.example.org:80", true, undefined],
  ["010.0.0.1:80", true, undefined],
  ["0x7f000001:80", true, undefined],
  ["2130706433:80", true, undefined],
  ["x\nINFO: forged", true, undefined],
  ["", true, undefined],
])("%p (we are told that it was called: %p) is dialled as %p", (address, outbound, expected) => {
  expect(dialable(address, outbound, 6783)).toBe(expected);
});

test("of one host a few ports are tried, and the usual one in any case", () => {
  const addresses = new GossipedAddresses<string>(6783, new Set());
  for (let port = 1; port <= 1000; port++) addresses.add(`10.0.0.1:${port}`, "r");
  addresses.add("10.0.0.1:6783", "r");
  addresses.add("10.0.0.2:1", "r");
  const taken = addresses.take(seededRandom(1n));
  expect(taken.size).toBe(10);
  expect(taken.has("10.0.0.1:6783")).toBe(true);
});

test("of too many addresses most that are tried stay, and the others change", () => {
  const random = seededRandom(1n);
  const take = (tried: { has(address: string): boolean }) => {
    const addresses = new GossipedAddresses<string>(6783, tried);
    for (let i = 0; i < 20_000; i++) addresses.add(`10.0.${i >> 8}.${i & 255}:6783`, `r${i}`);
    return addresses.take(random);
  };
  const first = take(new Set());
  const second = take(first);
  expect([first.size, second.size]).toEqual([MAX_GOSSIPED, MAX_GOSSIPED]);
  const stayed = [...first.keys()].filter((address) => second.has(address)).length;
  expect(stayed).toBe(0.75 * MAX_GOSSIPED);
  expect(second.get([...second.keys()][0] ?? "")).toStartWith("r");
});
