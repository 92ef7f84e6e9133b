// What runtimes and users ask of the CNI plugin: addresses, an Ethernet address, host ports.
import { describe, expect, test } from "bun:test";
import { formatCidr, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { parseConfig } from "../../lib/cni/config.ts";
import { readEnvironment } from "../../lib/cni/environment.ts";
import { hostPortsOf } from "../../lib/cni/hostports.ts";
import { wanted } from "../../lib/cni/wanted.ts";
import { hostPortText, targetText } from "../../lib/host/hostports/mapping.ts";
import { commentOf, hostPortTable } from "../../lib/host/hostports/table.ts";
import { AttributeEncoder } from "../../lib/netlink/attributes.ts";
import type { Expression } from "../../lib/netlink/nftables/expr/expression.ts";
import { verdict } from "../../lib/netlink/nftables/expr/immediate.ts";
import { matchAddress, matchLink, matchLocalAddress } from "../../lib/netlink/nftables/match.ts";

const environment = (args = "") => readEnvironment({ CNI_COMMAND: "GC", CNI_ARGS: args });
const read = (config: object, args?: string) =>
  wanted(parseConfig(JSON.stringify({ name: "net", ...config })), environment(args));
const text = ({ addresses, mac }: ReturnType<typeof wanted>) =>
  [...addresses.map(({ cidr, hasPrefix }) => `${formatCidr(cidr)}${hasPrefix ? "" : "?"}`), mac ?? "-"].join(
    " ",
  );

describe("addresses and Ethernet address", () => {
  const runtimeConfig = { ips: ["10.32.0.5/12", "10.32.0.6/12"], mac: "02:00:00:00:00:05" };
  const args = { cni: { ips: ["10.32.0.7"], mac: "02:00:00:00:00:07" } };
  test.each<[string, object, string, string]>([
    ["none", {}, "", "-"],
    ["other words of CNI_ARGS", {}, "IgnoreUnknown=1;K8S_POD_NAME=a=b;K8S_POD_UID;;=", "-"],
    ["CNI_ARGS", {}, "IgnoreUnknown=1;IP=10.32.0.9;MAC=02:00:00:00:00:0A", "10.32.0.9/32? 02:00:00:00:00:0a"],
    ["several", {}, "IP=10.32.0.9/12,10.32.0.10/12", "10.32.0.9/12 10.32.0.10/12 -"],
    ["args.cni goes before CNI_ARGS", { args }, "IP=10.32.0.9", "10.32.0.7/32? 02:00:00:00:00:07"],
    [
      "runtimeConfig before all",
      { args, runtimeConfig },
      "IP=10.32.0.9",
      "10.32.0.5/12 10.32.0.6/12 02:00:00:00:00:05",
    ],
    ["null", { args: null, runtimeConfig: null }, "", "-"],
    [
      "null in them",
      { args: { cni: null }, runtimeConfig: { ips: null, mac: null, portMappings: null } },
      "",
      "-",
    ],
  ])("%s", (_what, config, words, expected) => {
    expect(text(read(config, words))).toBe(expected);
  });

  test.each<[object, string, number, string]>([
    [{}, "IP=10.32.0", 7, "CNI_ARGS: ips: "],
    [{ runtimeConfig: { ips: ["10.32.0.5/33"] } }, "", 7, "runtimeConfig: ips: "],
    [
      { runtimeConfig: { ips: ["fd00::5/64"] } },
      "",
      2,
      'ips: "fd00::5/64": containers have no IPv6 addresses',
    ],
    [
      { args: { cni: { mac: "00:00:00:00:00:00" } } },
      "",
      7,
      'args.cni: mac: "00:00:00:00:00:00" is not a unicast',
    ],
    [{}, "MAC=03:00:00:00:00:01", 7, "is not a unicast Ethernet address"],
    [{}, "MAC=02-00-00-00-00-01", 7, "is not a unicast Ethernet address"],
    [{ runtimeConfig: { ips: Array(17).fill("10.0.0.1") } }, "", 7, "runtimeConfig.ips: too many"],
  ])("%o %s: %i %s", (config, words, code, message) => {
    expect(() => read(config, words)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) }),
    );
  });
});

test("host ports: TCP unless said, one address or all, none of IPv6", () => {
  const portMappings = [
    { hostPort: 8080, containerPort: 80 },
    { hostPort: 53, containerPort: 5353, protocol: "UDP", hostIP: "192.0.2.1" },
    { hostPort: 90, containerPort: 90, protocol: "sctp", hostIP: "0.0.0.0" },
    { hostPort: 91, containerPort: 91, hostIP: "::" },
  ];
  const ports = hostPortsOf(
    parseConfig(JSON.stringify({ name: "net", runtimeConfig: { portMappings } })),
    parseIPv4("10.32.0.5"),
  );
  expect(ports.map((port) => `${hostPortText(port)} ${targetText(port)}`)).toEqual([
    "8080/tcp 10.32.0.5:80",
    "192.0.2.1:53/udp 10.32.0.5:5353",
    "90/sctp 10.32.0.5:90",
  ]);
  const table = hostPortTable([{ owner: "weave/c1/eth0", ports }]);
  const [any, one] = (table.sets ?? []).map(({ elements }) =>
    Array.from(elements, ({ key, value, comment }) => [...key, "->", ...(value ?? []), comment].join(" ")),
  );
  expect(any).toEqual([
    "6 0 0 0 31 144 0 0 -> 10 32 0 5 0 80 0 0 weave/c1/eth0",
    "132 0 0 0 0 90 0 0 -> 10 32 0 5 0 90 0 0 weave/c1/eth0",
  ]);
  expect(one).toEqual(["17 0 0 0 192 0 2 1 0 53 0 0 -> 10 32 0 5 20 233 0 0 weave/c1/eth0"]);
  // In a chain the first rule that fits counts: what needs masquerading goes before the rest.
  const bytes = (rule: readonly Expression[]) =>
    rule.map(({ name, encode }) => {
      const body = new AttributeEncoder();
      encode(body);
      return `${name} ${body.done().toHex()}`;
    });
  const rules = (chain: string) => table.chains.find(({ name }) => name === chain)?.rules.map(bytes);
  const local = matchLocalAddress("daddr");
  const far = [...local, verdict({ jump: "far" })];
  const near = [...local, verdict({ jump: "near" })];
  expect(rules("output")).toEqual([
    bytes([...matchAddress("saddr", parseCidr("127.0.0.0/8")), ...near]),
    bytes(far),
  ]);
  expect(rules("prerouting")).toEqual([bytes([...matchLink("iifname", "weave"), ...near]), bytes(far)]);
  // One address goes before all.
  expect(rules("far")?.map((rule) => rule.length)).toEqual([5, 4]);
  expect(rules("near")?.map((rule) => rule.length)).toEqual([8, 7]);
  // A comment has 127 bytes; a longer name is told by its sum.
  expect(commentOf(`weave/${"c".repeat(122)}/e`)).toMatch(/^[0-9a-f]{64}$/);
});
