// What a question is answered with; names of domains; resolv.conf.
import { describe, expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { DomainNameError, fullyQualified, isInDomain } from "../../lib/dns/name.ts";
import { parseResolvConf } from "../../lib/dns/resolvconf.ts";
import { resolve } from "../../lib/dns/resolve.ts";

describe("resolving", () => {
  const names = {
    version: 0,
    lookup: (name: string) => (["w.weave.local.", "com.weave.local."].includes(name) ? [1, 2, 3] : []),
    reverse: () => undefined,
    isParent: (name: string) => name === "sub.weave.local.",
  };
  const ask = (name: string, type = "A") =>
    resolve({ name, type: type as "A" }, names, { domain: "weave.local.", ttl: 1 }, seededRandom(1n).float);
  const rcode = (name: string, type?: string) => {
    const reply = ask(name, type);
    return reply === "forward"
      ? reply
      : `${reply.rcode} ${reply.answers.length} ${reply.authorities?.length ?? 0}`;
  };

  test.each([
    ["w.weave.local", "A", "0 3 0"],
    ["w", "A", "0 3 0"],
    ["w.weave.local", "ANY", "0 3 0"],
    ["w.weave.local", "AAAA", "0 0 1"],
    ["x.weave.local", "A", "3 0 1"],
    ["weave.local", "SOA", "0 1 0"],
    ["weave.local", "A", "0 0 1"],
    ["notweave.local", "A", "forward"],
    ["example.com", "A", "forward"],
    [".", "NS", "forward"],
    ["1.0.0.10.in-addr.arpa", "PTR", "forward"],
    ["hello.in-addr.arpa", "PTR", "forward"],
    ["intranet", "A", "forward"],
    ["com", "A", "0 3 0"],
    ["com", "NS", "forward"],
    ["com", "DS", "forward"],
    ["sub.weave.local", "A", "0 0 1"],
    ["weave.local", "AXFR", "5 0 0"],
    ["example.com", "IXFR", "5 0 0"],
  ])("%s %s", (name, type, expected) => {
    expect(rcode(name, type)).toBe(expected);
  });
});

test("domain names", () => {
  expect(fullyQualified("a.b")).toBe("a.b.");
  expect(fullyQualified("a.b.")).toBe("a.b.");
  for (const bad of [
    "",
    ".",
    "a..b",
    "a b.c",
    `${"x".repeat(64)}.c`,
    "ä.c",
    Array(128).fill("ab").join("."),
  ]) {
    expect(() => fullyQualified(bad)).toThrow(DomainNameError);
  }
  expect(isInDomain("X.Weave.local.", "weave.LOCAL.")).toBe(true);
  expect(isInDomain("xweave.local.", "weave.local.")).toBe(false);
});

test("resolv.conf", () => {
  const text =
    "# a\n; b\nnameserver 10.0.0.1\n nameserver\tfe80::1%eth0 \nsearch x y\nnameserver nonsense\noptions a\nnameserver 1.1.1.1\nnameserver 8.8.8.8";
  expect(parseResolvConf(text)).toEqual(["10.0.0.1", "fe80::1%eth0", "1.1.1.1"]);
});
