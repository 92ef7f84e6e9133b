// CHECK: what is told of a container's link, by what is found.
import { describe, expect, test } from "bun:test";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { checkAttachment } from "../../lib/cni/check.ts";
import type { CniConfig } from "../../lib/cni/config.ts";
import type { Environment } from "../../lib/cni/environment.ts";
import type { Inspected } from "../../lib/host/inspect.ts";
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
  test("looks at addresses and routes of this interface alone, in a chain that made others", () => {
    const prevResult = {
      interfaces: [
        { name: "vethwepla", sandbox: "" },
        { name: "eth0", sandbox: "/run/netns/a" },
        { name: "net1", sandbox: "/run/netns/a" },
      ],
      ips: [
        { address: "10.32.0.5/12", interface: 1 },
        { address: "192.168.9.9/24", interface: 2 },
      ],
    };
    const config = { ...CONFIG, prevResult } as CniConfig;
    const found = { ...FOUND, addresses: [parseCidr("10.32.0.5/12")] };
    expect(() => checkAttachment(config, ENVIRONMENT, found)).not.toThrow();
    const lacking = "interface eth0 in /run/netns/a lacks address 10.32.0.5/12";
    expect(() => checkAttachment(config, ENVIRONMENT, FOUND)).toThrow(lacking);
  });
  test("compares Ethernet addresses regardless of case", () => {
    const mac = (address: string) => ({
      interfaces: [{ name: "eth0", sandbox: "/run/netns/a", mac: address }],
    });
    const found = { ...FOUND, link: { ...LINK, address: "02:00:00:00:00:ab" } };
    const check = (address: string) => () =>
      checkAttachment({ ...CONFIG, prevResult: mac(address) } as CniConfig, ENVIRONMENT, found);
    expect(check("02:00:00:00:00:AB")).not.toThrow();
    expect(check("02:00:00:00:00:AC")).toThrow(
      "has Ethernet address 02:00:00:00:00:ab instead of 02:00:00:00:00:ac",
    );
  });
  test.each(CASES)("finds %s", (_, found, text) => {
    expect(() => checkAttachment(CONFIG, ENVIRONMENT, found)).toThrow(text);
  });
});
