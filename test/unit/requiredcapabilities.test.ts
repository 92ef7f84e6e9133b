// What the router says where it lacks a capability.
import { expect, test } from "bun:test";
import { requireCapabilities } from "../../lib/sys/requiredcapabilities.ts";

const check = (...bits: bigint[]) => {
  const set = bits.reduce((sum, bit) => sum | (1n << bit), 0n);
  return () =>
    requireCapabilities(`Name:\tweave\nCapEff:\t${set.toString(16).padStart(16, "0")}\nSeccomp:\t0\n`);
};
const [NET_ADMIN, SYS_ADMIN, BPF] = [12n, 21n, 39n];

test("each missing capability is named, with what it is for and how to add it", () => {
  expect(check(SYS_ADMIN)).toThrow(
    "the router cannot run without CAP_NET_ADMIN (links, routes, addresses, packet filter, IPsec); add --cap-add NET_ADMIN to",
  );
  expect(check(NET_ADMIN)).toThrow(/without CAP_SYS_ADMIN \(.*eBPF\); add --cap-add SYS_ADMIN to/);
  expect(check()).toThrow(/CAP_NET_ADMIN .* and CAP_SYS_ADMIN .*--cap-add NET_ADMIN --cap-add SYS_ADMIN/);
});

test("nothing is said where eBPF is allowed by either capability, or nothing is known", () => {
  expect(check(NET_ADMIN, SYS_ADMIN)).not.toThrow();
  expect(check(NET_ADMIN, BPF)).not.toThrow();
  expect(() => requireCapabilities("")).not.toThrow();
});
