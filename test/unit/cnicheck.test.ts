// CHECK: what is told of a container's link, by what is found.
import { describe, expect, test } from "bun:test";
import { checkAttachment } from "../../lib/cni/check.ts";
import type { CniConfig } from "../../lib/cni/config.ts";
import type { Environment } from "../../lib/cni/environment.ts";
import type { Inspected } from "../../lib/host/attach.ts";
import type { Link } from "../../lib/netlink/link.ts";

const CONFIG = { bridge: "weave" } as CniConfig;
const ENVIRONMENT = { netns: "/run/netns/a", ifName: "eth0" } as Environment;
const LINK = { name: "eth0", up: true } as Link;
const PORT = { name: "vethwepla", up: true } as Link;
const FOUND: Inspected = { link: LINK, addresses: [], routes: [], port: PORT, bridge: "weave" };

const CASES: [string, Inspected | undefined, string][] = [
  ["nothing", undefined, "interface eth0 is missing from /run/netns/a"],
  ["down inside", { ...FOUND, link: { ...LINK, up: false } }, "is down"],
  ["no other end", { ...FOUND, port: undefined }, "has no other end on this host"],
  ["a port that is down", { ...FOUND, port: { ...PORT, up: false } }, "has no carrier: vethwepla is down"],
  ["a port off the bridge", { ...FOUND, bridge: undefined }, "is not on bridge weave: vethwepla is on none"],
  ["another bridge", { ...FOUND, bridge: "br0" }, "is not on bridge weave: vethwepla is on br0"],
];

describe("CHECK", () => {
  test("passes where all is as it should be", () => {
    expect(() => checkAttachment(CONFIG, ENVIRONMENT, FOUND)).not.toThrow();
  });
  test.each(CASES)("finds %s", (_, found, text) => {
    expect(() => checkAttachment(CONFIG, ENVIRONMENT, found)).toThrow(text);
  });
});
