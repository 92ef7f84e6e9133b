// Whether a text is an IP address: compared with node:net.
import { expect, test } from "bun:test";
import { isIP, isIPv4, isIPv6 } from "node:net";
import * as family from "../../lib/address/family.ts";
import { isIPv4 as isOurIPv4 } from "../../lib/address/ipv4.ts";
import { fc } from "../support/fastcheck.ts";

test.each([
  "",
  "1.2.3.4",
  "255.255.255.255",
  "256.0.0.1",
  "01.2.3.4",
  "1.2.3",
  "1.2.3.4.5",
  "1.2.3.4\n",
  "::",
  "::1%eth0",
  "1::2::3",
  "a:b",
  ":",
])("%j is what node:net takes it for", (text) => {
  expect([isOurIPv4(text), family.isIPv6(text), family.isIP(text)]).toEqual([
    isIPv4(text),
    isIPv6(text),
    isIP(text) as 0,
  ]);
});

test("so is any other text", () => {
  const text = fc.oneof(
    fc.string(),
    fc.ipV4Extended(),
    fc.ipV4(),
    fc.ipV6(),
    fc.stringMatching(/^[\d.]{0,16}$/),
    fc.stringMatching(/^[\da-f:.]{0,40}$/),
  );
  fc.assert(
    fc.property(text, (each) => family.isIP(each) === isIP(each)),
    { numRuns: 2_000 },
  );
});
