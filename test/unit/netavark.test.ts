// netavark's plugin API as JSON: what podman and netavark send, and what they get.
import { describe, expect, test } from "bun:test";
import { cniCall, createdNetwork, statusBlock } from "../../lib/cni/netavark.ts";

// As podman 5.4 and netavark 1.14 write them.
const NETWORK = {
  name: "app",
  id: "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
  driver: "weave",
  created: "2026-11-26T13:00:00.000000000Z",
  ipv6_enabled: false,
  internal: false,
  dns_enabled: false,
  ipam_options: { driver: "host-local" },
};
const EXEC = {
  container_id: "752947ff91f961eb3cb47ffe9315016979f3ffbec09e4d96a4fae3fb03391697",
  container_name: "web",
  port_mappings: [{ container_port: 80, host_ip: "", host_port: 8080, protocol: "tcp", range: 1 }],
  network: {
    ...NETWORK,
    ipam_options: { driver: "none" },
    options: { subnet: "10.40.1.0/24" },
    subnets: null,
  },
  network_options: { aliases: ["752947ff91f9"], interface_name: "eth0", static_ips: null, static_mac: null },
};

const call = (command: "ADD" | "DEL", more: object = {}) =>
  cniCall(command, "/run/netns/x", JSON.stringify({ ...EXEC, ...more }));

describe("create", () => {
  test.each<[string, object, object]>([
    ["nothing", {}, { options: {} }],
    ["a subnet", { subnets: [{ subnet: "10.40.1.0/24" }] }, { options: { subnet: "10.40.1.0/24" } }],
    ["a subnet as option", { options: { subnet: "10.40.1.0/24" } }, { options: { subnet: "10.40.1.0/24" } }],
  ])("with %s", (_, given, expected) => {
    expect(createdNetwork(JSON.stringify({ ...NETWORK, ...given }))).toEqual({
      ...NETWORK,
      subnets: [],
      ipam_options: { driver: "none" },
      ...expected,
    });
  });

  test.each<[object, string]>([
    [{ ipv6_enabled: true }, "IPv6 is not supported"],
    [{ ipam_options: { driver: "dhcp" } }, "--ipam-driver dhcp is not supported"],
    [{ subnets: [{ subnet: "10.40.1.0/24" }, { subnet: "10.40.2.0/24" }] }, "a network has one --subnet"],
    [{ subnets: [{ subnet: "10.40.1.0/24", gateway: "10.40.1.1" }] }, "--gateway is not supported"],
    [{ subnets: [{ subnet: "10.40.1.0/24", lease_range: {} }] }, "--ip-range is not supported"],
    [{ subnets: [{ subnet: "10.40.1.1/24" }] }, "bits after network prefix"],
    [{ options: { mtu: "1400" } }, "unknown option mtu; the only one is subnet"],
    [{ name: "../x" }, "the network on standard input is invalid: name"],
  ])("refuses %j", (given, why) => {
    expect(() => createdNetwork(JSON.stringify({ ...NETWORK, ...given }))).toThrow(why);
  });
});

describe("setup and teardown", () => {
  test("are an ADD and a DEL", () => {
    for (const command of ["ADD", "DEL"] as const) {
      const { variables, input } = call(command);
      expect(variables).toEqual({
        CNI_COMMAND: command,
        CNI_CONTAINERID: EXEC.container_id,
        CNI_NETNS: "/run/netns/x",
        CNI_IFNAME: "eth0",
      });
      expect(JSON.parse(input)).toEqual({
        cniVersion: "1.0.0",
        name: "netavark.app",
        type: "weave-net",
        ipam: { subnet: "10.40.1.0/24" },
        runtimeConfig: {
          portMappings:
            command === "ADD" ? [{ hostPort: 8080, containerPort: 80, protocol: "tcp", hostIP: "" }] : [],
          ips: [],
        },
      });
    }
    const internal = { ...EXEC.network, internal: true, options: null };
    expect(JSON.parse(call("ADD", { network: internal }).input).ipam).toEqual({ routes: [] });
  });

  test("pass on addresses, an Ethernet address and published ports", () => {
    const network_options = {
      ...EXEC.network_options,
      static_ips: ["10.40.1.5", "10.40.1.6"],
      static_mac: "02:00:00:00:00:01",
    };
    const port_mappings = [
      { container_port: 80, host_ip: "127.0.0.1", host_port: 8080, protocol: "tcp,udp", range: 2 },
    ];
    const mapped = (hostPort: number, containerPort: number, protocol: string) => ({
      ...{ hostPort, containerPort, protocol, hostIP: "127.0.0.1" },
    });
    expect(JSON.parse(call("ADD", { network_options, port_mappings }).input).runtimeConfig).toEqual({
      portMappings: [
        ...[mapped(8080, 80, "tcp"), mapped(8081, 81, "tcp")],
        ...[mapped(8080, 80, "udp"), mapped(8081, 81, "udp")],
      ],
      ips: ["10.40.1.5/24", "10.40.1.6/24"],
      mac: "02:00:00:00:00:01",
    });
    const many = Array.from({ length: 200 }, () => port_mappings[0]);
    expect(() => call("ADD", { port_mappings: many })).toThrow("more than 256 published ports");
  });

  test.each<[object, string]>([
    [{ static_ips: ["10.41.1.5"] }, "--ip 10.41.1.5 is not in the subnet 10.40.1.0/24"],
    [{ static_ips: ["fd00::1"] }, "is not an IPv4 address"],
    [{ interface_name: "a/b" }, "the container on standard input is invalid: network_options.interface_name"],
  ])("refuses %j", (given, why) => {
    const network_options = { ...EXEC.network_options, ...given };
    expect(() => call("ADD", { network_options })).toThrow(why);
  });

  test("of a container with wishes that are refused are torn down all the same", () => {
    const options = (given: object) => ({ network_options: { ...EXEC.network_options, ...given } });
    const [mapping] = EXEC.port_mappings;
    for (const wish of [
      ...["10.41.1.5", "fd00::1"].map((ip) => options({ static_ips: [ip] })),
      options({ static_mac: 5 }),
      { port_mappings: Array.from({ length: 300 }, () => mapping) },
      { port_mappings: [{ ...mapping, range: 257 }] },
      { port_mappings: [{ ...mapping, host_port: 0 }] },
    ]) {
      expect(() => call("ADD", wish)).toThrow();
      expect(call("DEL", wish)).toMatchObject(call("DEL"));
    }
  });

  test("answer with a status block", () => {
    const result = {
      cniVersion: "1.0.0",
      interfaces: [
        { name: "vethwepl7529", mac: "02:00:00:00:00:02" },
        { name: "eth0", mac: "02:00:00:00:00:01", sandbox: "/run/netns/x" },
      ],
      ips: [{ interface: 1, address: "10.40.1.5/24", gateway: "10.40.1.1" }],
      dns: {},
    };
    const dns = { servers: ["10.40.1.1"], search: ["weave.local"] };
    expect(statusBlock(JSON.stringify(result), call("ADD"), dns)).toEqual({
      dns_search_domains: ["weave.local"],
      dns_server_ips: ["10.40.1.1"],
      interfaces: {
        eth0: {
          mac_address: "02:00:00:00:00:01",
          subnets: [{ ipnet: "10.40.1.5/24", gateway: "10.40.1.1" }],
        },
      },
    });
  });
});
