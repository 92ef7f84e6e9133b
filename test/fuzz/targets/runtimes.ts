// What container runtimes hand over: CNI, netavark, OCI hooks, Docker's plugin protocol.
import { parseCidr } from "../../../lib/address/ipv4.ts";
import { parseWantedList } from "../../../lib/address/wanted.ts";
import { decodeCniAnswer, decodeCniCall } from "../../../lib/api/cniwire.ts";
import { linesOf } from "../../../lib/bytes/lines.ts";
import { checkAttachment, previousAddress } from "../../../lib/cni/check.ts";
import { checkVersion, parseConfig } from "../../../lib/cni/config.ts";
import { readEnvironment } from "../../../lib/cni/environment.ts";
import { cniCall, createdNetwork } from "../../../lib/cni/netavark.ts";
import { parseAddressing } from "../../../lib/cni/result.ts";
import { tell } from "../../../lib/container/events.ts";
import { hookAction, parseState } from "../../../lib/container/ocihook.ts";
import { IpamDriver } from "../../../lib/container/plugin/ipamdriver.ts";
import { NetworkDriver } from "../../../lib/container/plugin/networkdriver.ts";
import { pluginAnswerer, pluginMethods } from "../../../lib/container/plugin/protocol.ts";
import { silentLog } from "../../../lib/log/log.ts";
import { type Decoder, encoded, inWays, jsonSeeds, type Target, textOf, wayOf } from "../target.ts";

const ipam = {
  type: "weave-ipam",
  subnet: "10.32.1.0/24",
  gateway: "10.32.1.1",
  routes: [{ dst: "0.0.0.0/0", gw: "10.0.0.1" }],
};
const CONFIG = {
  cniVersion: "1.1.0",
  name: "weave",
  type: "weave-net",
  hairpinMode: true,
  mtu: 1400,
  ipam,
  dns: { nameservers: ["1.1.1.1"], search: ["a"] },
  allowedAddresses: ["10.1.2.3", "10.2.0.0/16", "02:00:00:00:00:01"],
  prevResult: { ips: [{ address: "10.1.1.1/12" }], interfaces: [{ name: "eth0", sandbox: "/run/netns/x" }] },
  runtimeConfig: {
    portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp", hostIP: "10.0.0.1" }],
    ips: ["10.32.0.9/12"],
    mac: "02:00:00:00:00:02",
  },
  args: { cni: { ips: ["10.32.0.8/12"], mac: "02:00:00:00:00:03" } },
  "cni.dev/valid-attachments": [{ containerID: "a", ifname: "eth0" }],
};

const cniConfig = (): Decoder => ({
  seeds: jsonSeeds(CONFIG, {
    cniVersion: "0.3.0",
    name: "w",
    type: "weave-net",
    isGateway: false,
    ipMasq: null,
  }),
  refuses: ["CniError"],
  format: "json",
  run(input) {
    const config = parseConfig(textOf(input));
    return [config, checkVersion(config.cniVersion)];
  },
});

const CHECKED = {
  link: { index: 3, name: "eth0", up: true, address: "02:00:00:00:00:01" },
  addresses: [parseCidr("10.1.1.1/12")],
  routes: [{ destination: parseCidr("0.0.0.0/0"), gateway: parseCidr("10.0.0.1/32").address, table: 254 }],
  port: { index: 4, name: "vethwepl1", up: true },
  bridge: "weave",
};

/** The result of an ADD, which a runtime has kept, compared with what is there. */
const cniCheck = (): Decoder => ({
  seeds: jsonSeeds(
    {
      interfaces: [{ name: "eth0", mac: "02:00:00:00:00:01", sandbox: "/run/netns/x" }],
      ips: [{ address: "10.1.1.1/12", interface: 0, gateway: "10.0.0.1" }, { address: "fd00::1/64" }],
      routes: [{ dst: "0.0.0.0/0", gw: "10.0.0.1", table: 254 }],
    },
    { ips: [{ address: "10.1.1.1/12" }], routes: null },
  ),
  refuses: ["CniError"],
  format: "json",
  run(input) {
    let prevResult: unknown;
    try {
      prevResult = JSON.parse(textOf(input));
    } catch {
      return undefined;
    }
    const environment = { netns: "/run/netns/x", ifName: "eth0" };
    const config = { bridge: "weave", prevResult };
    checkAttachment(config as never, environment as never, CHECKED as never);
    return previousAddress(prevResult);
  },
});

/** The variables, a line each. */
const cniEnvironment = (): Decoder => ({
  seeds: encoded(
    "CNI_COMMAND=ADD\nCNI_CONTAINERID=abc\nCNI_NETNS=/run/netns/x\nCNI_IFNAME=eth0\nCNI_PATH=/opt/cni/bin:/a\nCNI_ARGS=IP=10.32.0.1;K8S_POD_NAME=p;;=",
    "CNI_COMMAND=DEL\nCNI_CONTAINERID=a-b_c.d\nCNI_IFNAME=eth0",
    "CNI_COMMAND=GC\n",
  ),
  refuses: ["CniError"],
  format: "text",
  words: ["CNI_COMMAND=", "CHECK", "STATUS", "VERSION", "CNI_ARGS=", ";", "=", ":", "..", "/"],
  run: (input) =>
    readEnvironment(
      Object.fromEntries(
        textOf(input)
          .split("\n")
          .map((line) => line.split(/=(.*)/s)),
      ),
    ),
});

const zeros = (bytes: number) => "\0".repeat(bytes);

/** A call of the entry program, and its answer. */
const cniWire = (): Decoder => ({
  seeds: inWays(
    2,
    encoded(
      `${zeros(8)}CNI_COMMAND=ADD\0CNI_NETNS=/x\0\0{"cniVersion":"1.0.0"}`,
      'HTTP/1.1 200 OK\r\nContent-Type: x\r\n\r\n0{"ips":[]}\n\0',
      "HTTP/1.1 404 Not Found\r\n\r\n",
    ),
  ),
  format: "text",
  words: ["\r\n", "\0", "HTTP/1.1 200 ", "CNI_"],
  run(input) {
    const [way, bytes] = wayOf(input, 2);
    return way === 0 ? decodeCniCall(bytes) : decodeCniAnswer(bytes);
  },
});

const ipamResult = (): Decoder => ({
  seeds: jsonSeeds(
    {
      cniVersion: "0.3.1",
      ips: [{ version: "4", address: "10.1.0.5/16", gateway: "10.1.0.1" }],
      routes: [{ dst: "0.0.0.0/0", mtu: 1400 }],
      dns: {},
    },
    { ip4: { ip: "10.1.0.5/16", gateway: "1.1.1.1", routes: [{ dst: "0.0.0.0/0", gw: "10.1.0.1" }] } },
  ),
  refuses: ["CniError"],
  format: "json",
  run: (input) => parseAddressing(textOf(input), "host-local"),
});

const NETWORK = {
  name: "app",
  id: "2f",
  driver: "weave",
  ipv6_enabled: false,
  internal: false,
  ipam_options: { driver: "host-local" },
  options: { subnet: "10.40.1.0/24" },
  subnets: [{ subnet: "10.40.1.0/24" }],
};
const EXEC = {
  container_id: "752947ff91f9",
  container_name: "web",
  port_mappings: [{ container_port: 80, host_ip: "", host_port: 8080, protocol: "tcp,udp", range: 2 }],
  network: { ...NETWORK, subnets: null },
  network_options: {
    aliases: ["752947ff91f9"],
    interface_name: "eth0",
    static_ips: ["10.40.1.7"],
    static_mac: null,
  },
};

const netavark = (): Decoder => ({
  seeds: jsonSeeds(NETWORK, EXEC),
  refuses: ["AddressError"],
  says: /on standard input is invalid: |supported|unknown option|has one --subnet|is not in the subnet|published ports/,
  format: "json",
  // Ports of a range are written out.
  growth: 1_024,
  run(input) {
    const text = textOf(input);
    return text.includes('"container_id"') ? cniCall("ADD", "/run/netns/x", text) : createdNetwork(text);
  },
});

const hook = (): Decoder => ({
  seeds: jsonSeeds(
    {
      ociVersion: "1.0.2",
      id: "c1",
      status: "created",
      pid: 7,
      bundle: "/b",
      annotations: { "works.weave.cidr": "net:default 10.32.0.1" },
    },
    {
      ociVersion: "1.0.2",
      id: "c1",
      status: "stopped",
      bundle: "/b",
      annotations: { "io.container.manager": "libpod", "works.weave.cidr": "10.32.0.1/12" },
    },
  ),
  refuses: ["AddressError"],
  says: /^standard input is not the state of a container/,
  format: "json",
  run(input) {
    const config = {
      hostname: "web.weave.local",
      domainname: "",
      annotations: {},
      process: { env: [] },
      linux: { namespaces: [{ type: "network", path: "" }] },
    };
    const action = hookAction(parseState(textOf(input)), config);
    return action.kind === "attach" ? [action, parseWantedList(action.addresses)] : action;
  },
});

const ID = "a".repeat(64);
const INTERFACE = { Address: "10.40.0.7/16", MacAddress: "02:42:0a:28:00:07" };
const REQUESTS: readonly (readonly [string, object])[] = [
  [
    "NetworkDriver.CreateNetwork",
    {
      NetworkID: ID,
      IPv4Data: [{ Pool: "10.40.0.0/16", Gateway: "10.40.0.0/16" }],
      IPv6Data: [],
      Options: { "com.docker.network.generic": {} },
    },
  ],
  ["NetworkDriver.CreateEndpoint", { NetworkID: ID, EndpointID: ID, Interface: INTERFACE, Options: {} }],
  ["NetworkDriver.Join", { NetworkID: ID, EndpointID: ID, SandboxKey: "/x" }],
  ["NetworkDriver.Leave", { NetworkID: ID, EndpointID: ID }],
  [
    "IpamDriver.RequestPool",
    { AddressSpace: "weave", Pool: "10.40.0.0/16", SubPool: "10.40.1.0/24", Options: null, V6: false },
  ],
  [
    "IpamDriver.RequestAddress",
    {
      PoolID: "weave-10.40.0.0/16-10.40.1.0/24",
      Address: "",
      Options: { RequestAddressType: "com.docker.network.gateway" },
    },
  ],
  ["IpamDriver.ReleaseAddress", { PoolID: "weave-10.40.0.0/16-10.40.1.0/24", Address: "10.40.0.7" }],
];

/** Requests of dockerd, each with an answer; errors of the language in these are faults. */
function docker(): Decoder {
  const kept = () => {
    const map = new Map<string, unknown>();
    const set = (id: string, value: unknown) => void map.set(id, value);
    return { get: (id: string) => map.get(id), set, delete: (id: string) => map.delete(id), all: () => map };
  };
  const links = {
    add: async () => ({ outer: "o", inner: "i", alias: "a", mac: INTERFACE.MacAddress }),
    remove: async () => {},
    hold() {},
    left() {},
    now: () => 1,
  };
  const range = parseCidr("10.32.0.0/12");
  const allocator = {
    range,
    defaultSubnet: range,
    allocate: async () => range.address + 7,
    claim: async () => {},
    release: async () => {},
    reserve() {},
    unreserve() {},
  };
  return {
    seeds: jsonSeeds(...REQUESTS.map(([method, body]) => ({ method, body }))),
    format: "json",
    async run(input) {
      const books = { networks: kept(), endpoints: kept(), reserved: kept() };
      const methods = pluginMethods(
        new NetworkDriver(links as never, books as never, silentLog),
        new IpamDriver(allocator as never, books as never),
      );
      let request: { method?: unknown; body?: unknown } | null;
      try {
        request = JSON.parse(textOf(input));
      } catch {
        return undefined;
      }
      const url = `http://plugin/${encodeURIComponent(String(JSON.stringify(request?.method) ?? "")).replaceAll("%22", "")}`;
      const response = await pluginAnswerer(
        methods,
        silentLog,
      )(new Request(url, { method: "POST", body: JSON.stringify(request?.body ?? null) }));
      const text = await response.text();
      const wrong = /undefined is not|is not a function|is not an object|Out of bounds|Maximum call/.exec(
        text,
      );
      if (wrong) throw new TypeError(text);
      return [response.status, text];
    },
  };
}

const EVENT = {
  status: "start",
  id: ID,
  from: "alpine",
  Type: "container",
  Action: "start",
  Actor: { ID, Attributes: { image: "alpine", name: "web" } },
  scope: "local",
  time: 1_700_000_000,
  timeNano: 1_700_000_000_000_000_000,
};

/** Events of Docker and podman, in pieces as they come from a socket; each is told alone, too. */
const events = (): Decoder => ({
  seeds: [
    EVENT,
    { Type: "network", Action: "connect", Actor: { ID, Attributes: { container: ID, name: "n" } } },
  ]
    .flatMap((event) => [event, { ...event, Action: "died" }, { status: "remove", id: ID }])
    .flatMap((event) => encoded(`${JSON.stringify(event)}\n`, `${JSON.stringify(event)}\r\n{"id":1}\n\n`)),
  says: /^an event without end$/,
  words: [
    "\n",
    '"Actor":',
    '"Attributes":',
    '"container"',
    "null",
    "{}",
    '"DIE"',
    '"destroy"',
    "\\u0000",
    "\ud83d",
  ],
  async run(input) {
    const told: (readonly [string, string])[] = [];
    const note = (what: string) => (id: string) => void told.push([what, id]);
    const listener = {
      started: note("started"),
      died: note("died"),
      destroyed: note("destroyed"),
      connectedTo: note("connected"),
    };
    const size = 1 + 8 * ((input[0] ?? 0) % 64);
    async function* pieces() {
      for (let at = 0; at < input.length; at += size) yield input.subarray(at, at + size);
    }
    for await (const line of linesOf(pieces(), 4_096, () => new Error("an event without end")))
      tell(line, listener);
    return told;
  },
});

export const RUNTIME_TARGETS: readonly Target[] = [
  { name: "cni-config", open: cniConfig },
  { name: "cni-check", open: cniCheck },
  { name: "cni-environment", open: cniEnvironment },
  { name: "cni-wire", open: cniWire },
  { name: "cni-ipam-result", open: ipamResult },
  { name: "netavark", open: netavark },
  { name: "oci-hook", open: hook },
  { name: "docker-plugin", open: docker },
  { name: "docker-events", open: events },
];
