// Docker's plugin protocol: each request has an answer, in JSON, whatever is asked.
import { afterEach, beforeEach, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Cidr, formatCidr, formatIPv4, type IPv4, parseCidr } from "../../lib/address/ipv4.ts";
import { namesOf } from "../../lib/container/names.ts";
import { type DockerBooks, dockerBooks } from "../../lib/container/plugin/books.ts";
import { type DockerIpam, IpamDriver } from "../../lib/container/plugin/ipamdriver.ts";
import { type DockerLinks, NetworkDriver } from "../../lib/container/plugin/networkdriver.ts";
import { pluginAnswerer, pluginMethods } from "../../lib/container/plugin/protocol.ts";
import { silentLog } from "../../lib/log/log.ts";
import { Store } from "../../lib/store/store.ts";

const NETWORK = "a".repeat(64);
const ENDPOINT = "e".repeat(64);
const MAC = "02:42:0a:28:01:02";
const POOL = "weave-10.40.0.0/16-10.40.1.0/24";
const BY_MAC = { "com.docker.network.endpoint.macaddress": MAC };
const AS_GATEWAY = { RequestAddressType: "com.docker.network.gateway" };

let folder: string;
let store: Store;
let books: DockerBooks;
/** What the kernel and the allocator were asked for. */
let done: string[];
let held: Map<IPv4, string>;
let answer: (request: Request) => Promise<Response>;

const ipam: DockerIpam = {
  range: parseCidr("10.32.0.0/12"),
  defaultSubnet: parseCidr("10.32.0.0/12"),
  async allocate(holder, subnet, range, signal) {
    const mine = [...held].find(([, has]) => has === holder);
    if (range.prefix === 30) await new Promise((_, reject) => signal.addEventListener("abort", reject));
    const address = mine?.[0] ?? range.address + 2 + held.size;
    held.set(address, holder);
    done.push(`allocate ${holder} ${formatCidr(subnet)} ${formatCidr(range)}`);
    return address;
  },
  async claim(holder, cidr) {
    const has = held.get(cidr.address);
    if (has !== undefined) throw new Error(`${formatIPv4(cidr.address)} is owned by ${has}`);
    held.set(cidr.address, holder);
  },
  async release(address) {
    held.delete(address);
  },
  reserve: (address) => void done.push(`reserve ${formatIPv4(address)}`),
  unreserve: (address) => void done.push(`unreserve ${formatIPv4(address)}`),
};

const links: DockerLinks = {
  async add(id, mac = "02:00:00:00:00:01", address: Cidr | undefined) {
    done.push(`add ${id.slice(0, 3)} ${mac} ${address ? formatCidr(address) : ""}`);
    return { outer: "outer", inner: "inner", alias: "alias", mac };
  },
  async remove({ outer }) {
    // The kernel has finished only then.
    await Bun.sleep(0);
    done.push(`remove ${outer}`);
  },
  hold: (id, mac, { address }) => void done.push(`hold ${id.slice(0, 3)} ${mac} ${formatIPv4(address)}`),
  left: ({ outer }) => void done.push(`left ${outer}`),
  now: () => 1,
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-dockerplugin-"));
  store = Store.open(join(folder, "weave.db"));
  books = dockerBooks(store, (what) => {
    throw new Error(what);
  });
  [done, held] = [[], new Map()];
  const methods = pluginMethods(new NetworkDriver(links, books, silentLog), new IpamDriver(ipam, books));
  answer = pluginAnswerer(methods, silentLog, 50);
});

afterEach(() => {
  store.close();
  rmSync(folder, { recursive: true });
});

/** Asks as dockerd does; returns the answer. */
async function ask(method: string, body?: object | string): Promise<Record<string, unknown>> {
  const text = typeof body === "string" ? body : body && JSON.stringify(body);
  const response = await answer(
    new Request(`http://plugin/${method}`, { method: "POST", body: text ?? null }),
  );
  expect([response.status, response.headers.get("content-type")]).toEqual([
    200,
    "application/vnd.docker.plugins.v1.1+json",
  ]);
  return response.json() as Promise<Record<string, unknown>>;
}

test("an endpoint whose address cannot be held leaves no link and no entry behind", async () => {
  const Interface = { Address: "10.40.1.2/16", AddressIPv6: "", MacAddress: MAC };
  const request = { NetworkID: NETWORK, EndpointID: ENDPOINT, Interface, Options: {} };
  const hold = spyOn(links, "hold").mockImplementation(() => {
    throw new Error("the address is owned by another one");
  });
  expect(await ask("NetworkDriver.CreateEndpoint", request)).toEqual({
    Err: "the address is owned by another one",
  });
  hold.mockRestore();
  expect(done).toEqual([`add eee ${MAC} 10.40.1.2/16`, "remove outer"]);
  expect([...books.endpoints.all()]).toEqual([]);
  // Repeated, it replaces the link that it had.
  for (let i = 0; i < 2; i++) await ask("NetworkDriver.CreateEndpoint", request);
  expect(done.slice(2)).toEqual([
    `add eee ${MAC} 10.40.1.2/16`,
    `hold eee ${MAC} 10.40.1.2`,
    "remove outer",
    `add eee ${MAC} 10.40.1.2/16`,
    `hold eee ${MAC} 10.40.1.2`,
  ]);
});

test.each<[string, string, boolean]>([
  ["a hexadecimal ID", "0123456789abcdef".repeat(4), true],
  ["one of swarm mode", "k1r2vz0q9w8xghijlmnopstuy", true],
  ["a short one", "z", true],
  ["none", "", false],
  ["one that is too long", "a".repeat(65), false],
  ["capitals", "ABC", false],
  ["a path", "../a", false],
  ["letters of other scripts", "é", false],
])("%s (%s) is an ID: %p", async (_what, id, taken) => {
  const Err = expect.stringContaining("not an ID");
  const Interface = { Address: "10.40.1.2/16", AddressIPv6: "", MacAddress: MAC };
  expect(await ask("NetworkDriver.CreateNetwork", { NetworkID: id, IPv4Data: null })).toEqual(
    taken ? {} : { Err },
  );
  for (const ids of [
    { NetworkID: id, EndpointID: ENDPOINT },
    { NetworkID: NETWORK, EndpointID: id },
  ]) {
    const made = await ask("NetworkDriver.CreateEndpoint", { ...ids, Interface, Options: {} });
    expect(made["Err"]).toEqual(taken ? undefined : Err);
    const gone = await ask("NetworkDriver.DeleteEndpoint", ids);
    expect(gone["Err"]).toEqual(taken ? undefined : Err);
  }
});

test.each<[string, object | string | undefined, object]>([
  ["Plugin.Activate", undefined, { Implements: ["NetworkDriver", "IpamDriver"] }],
  [
    "NetworkDriver.GetCapabilities",
    undefined,
    { Scope: "local", ConnectivityScope: "global", GwAllocChecker: true },
  ],
  ["NetworkDriver.GwAllocCheck", { Options: {} }, { SkipIPv4: true, SkipIPv6: true }],
  ["NetworkDriver.CreateNetwork", { NetworkID: NETWORK, IPv4Data: null, IPv6Data: [] }, {}],
  [
    "NetworkDriver.CreateNetwork",
    { NetworkID: NETWORK, IPv4Data: [{ Pool: "10.40.0.0/16", Gateway: "10.40.0.0/16" }] },
    {},
  ],
  [
    "NetworkDriver.CreateNetwork",
    { NetworkID: "../x" },
    { Err: "the request is invalid: NetworkID: not an ID" },
  ],
  [
    "NetworkDriver.CreateNetwork",
    { NetworkID: NETWORK, IPv6Data: [{ Pool: "fd00::/64" }] },
    { Err: "IPv6 is not supported; create the network without --ipv6" },
  ],
  ["NetworkDriver.DeleteNetwork", { NetworkID: NETWORK }, {}],
  ["NetworkDriver.DeleteEndpoint", { NetworkID: NETWORK, EndpointID: ENDPOINT }, {}],
  ["NetworkDriver.EndpointOperInfo", { NetworkID: NETWORK, EndpointID: ENDPOINT }, { Value: {} }],
  ["NetworkDriver.Leave", { NetworkID: NETWORK, EndpointID: ENDPOINT }, {}],
  [
    "NetworkDriver.Join",
    { NetworkID: NETWORK, EndpointID: ENDPOINT, SandboxKey: "/x" },
    { Err: expect.stringMatching(/^endpoint eeeeeeeeeeee is unknown/) },
  ],
  ["NetworkDriver.DiscoverNew", { DiscoveryType: 1, DiscoveryData: {} }, {}],
  ["NetworkDriver.DiscoverDelete", { DiscoveryType: 1, DiscoveryData: {} }, {}],
  ["NetworkDriver.Leave", "{", { Err: expect.stringMatching(/^the request is not JSON/) }],
  ["NetworkDriver.Leave", "[]", { Err: expect.stringMatching(/^the request is invalid/) }],
  ["IpamDriver.GetCapabilities", undefined, { RequiresMACAddress: true, RequiresRequestReplay: false }],
  [
    "IpamDriver.GetDefaultAddressSpaces",
    undefined,
    { LocalDefaultAddressSpace: "weave", GlobalDefaultAddressSpace: "weave" },
  ],
  [
    "IpamDriver.RequestPool",
    { AddressSpace: "weave", Pool: "", SubPool: "", Options: null, V6: false },
    { PoolID: "weave-10.32.0.0/12-10.32.0.0/12", Pool: "10.32.0.0/12", Data: {} },
  ],
  [
    "IpamDriver.RequestPool",
    { AddressSpace: "weave", Pool: "10.40.0.0/16", SubPool: "10.40.1.0/24" },
    { PoolID: POOL, Pool: "10.40.0.0/16", Data: {} },
  ],
  ...(
    [
      [
        { Pool: "10.0.0.0/8" },
        "subnet 10.0.0.0/8 is not within the range of the network, 10.32.0.0/12; choose one that is",
      ],
      [
        { Pool: "192.168.0.0/24" },
        "subnet 192.168.0.0/24 is not within the range of the network, 10.32.0.0/12; choose one that is",
      ],
      [
        { Pool: "10.40.0.0/16", SubPool: "10.41.0.0/24" },
        "--ip-range 10.41.0.0/24 is not within --subnet 10.40.0.0/16",
      ],
      [{ SubPool: "10.40.0.0/24" }, "--ip-range goes with --subnet"],
      [
        { Pool: "fd00::/64", V6: true },
        "the request is invalid: Pool: fd00::/64: IPv6 is not supported; leave out --ipv6",
      ],
      [{ V6: true }, "IPv6 is not supported; create the network without --ipv6"],
      [
        { Pool: "10.40.0.1/16" },
        "the request is invalid: Pool: invalid subnet - bits after network prefix are not all zero: 10.40.0.1/16",
      ],
    ] as const
  ).map(([body, why]): [string, object, object] => [
    "IpamDriver.RequestPool",
    body,
    { Err: why, Error: why },
  ]),
  ["IpamDriver.ReleasePool", { PoolID: POOL }, {}],
  [
    "IpamDriver.RequestAddress",
    { PoolID: POOL, Address: "10.41.0.1", Options: BY_MAC },
    {
      Err: "10.41.0.1 is not in the subnet 10.40.0.0/16",
      Error: "10.41.0.1 is not in the subnet 10.40.0.0/16",
    },
  ],
  [
    "IpamDriver.RequestAddress",
    { PoolID: POOL, Address: "", Options: BY_MAC },
    { Address: "10.40.1.2/16", Data: {} },
  ],
  [
    "IpamDriver.RequestAddress",
    { PoolID: POOL, Address: "10.40.9.9", Options: BY_MAC },
    { Address: "10.40.9.9/16", Data: {} },
  ],
  [
    "IpamDriver.RequestAddress",
    { PoolID: POOL, Address: "", Options: AS_GATEWAY },
    { Address: "10.40.0.0/16", Data: {} },
  ],
  [
    "IpamDriver.RequestAddress",
    { PoolID: POOL, Address: "10.40.0.1", Options: AS_GATEWAY },
    { Address: "10.40.0.1/16", Data: {} },
  ],
  ["IpamDriver.ReleaseAddress", { PoolID: POOL, Address: "10.40.0.0" }, {}],
  ["IpamDriver.ReleaseAddress", { PoolID: POOL, Address: "10.40.1.2" }, {}],
])("%s %j", async (method, body, expected) => {
  expect(await ask(method, body)).toEqual(expected as Record<string, unknown>);
});

test("what the protocol does not have is not found, and neither is a GET", async () => {
  for (const [path, method] of [
    ["NetworkDriver.ProgramExternalConnectivity", "POST"],
    ["Plugin.Activate", "GET"],
    ["", "POST"],
  ] as const)
    expect((await answer(new Request(`http://plugin/${path}`, { method }))).status).toBe(404);
});

test("an endpoint from its address to its end", async () => {
  const of = { NetworkID: NETWORK, EndpointID: ENDPOINT };
  const generic = { "com.docker.network.generic": { "works.weave.multicast": "true" } };
  await ask("NetworkDriver.CreateNetwork", { NetworkID: NETWORK, Options: generic, IPv4Data: [] });
  const { Address } = await ask("IpamDriver.RequestAddress", { PoolID: POOL, Options: BY_MAC });
  const wanted = { ...of, Interface: { Address, AddressIPv6: "", MacAddress: MAC } };
  // What dockerd has named must not be in the answer.
  expect(await ask("NetworkDriver.CreateEndpoint", wanted)).toEqual({ Interface: {} });
  expect(await ask("NetworkDriver.Join", { ...of, SandboxKey: "/x" })).toEqual({
    InterfaceName: { SrcName: "inner", DstPrefix: "ethwe" },
    StaticRoutes: [{ Destination: "224.0.0.0/4", RouteType: 1, NextHop: "" }],
  });
  expect(await ask("NetworkDriver.EndpointOperInfo", of)).toEqual({ Value: { "works.weave.link": "outer" } });
  await ask("NetworkDriver.Leave", of);
  await ask("NetworkDriver.DeleteEndpoint", of);
  await ask("NetworkDriver.DeleteEndpoint", of);
  await ask("IpamDriver.ReleaseAddress", { PoolID: POOL, Address: "10.40.1.2" });
  expect(held.size).toBe(0);
  expect(done).toEqual([
    `allocate docker:${MAC} 10.40.0.0/16 10.40.1.0/24`,
    `add eee ${MAC} 10.40.1.2/16`,
    `hold eee ${MAC} 10.40.1.2`,
    "left outer",
    "remove outer",
  ]);
});

test("a request that dockerd repeats gets the same address", async () => {
  const request = { PoolID: POOL, Options: BY_MAC };
  const first = await ask("IpamDriver.RequestAddress", request);
  expect(await ask("IpamDriver.RequestAddress", request)).toEqual(first);
  const of = { NetworkID: NETWORK, EndpointID: ENDPOINT, Interface: { Address: "10.40.1.2/16" } };
  expect(await ask("NetworkDriver.CreateEndpoint", of)).toEqual({
    Interface: { MacAddress: "02:00:00:00:00:01" },
  });
  await ask("NetworkDriver.CreateEndpoint", of);
  expect(books.endpoints.all().size).toBe(1);
  expect(done.filter((text) => text === "remove outer").length).toBe(1);
});

test("an address that is set aside twice is free after the second release", async () => {
  const gateway = { PoolID: POOL, Address: "10.40.0.1" };
  for (const Options of [AS_GATEWAY, null]) await ask("IpamDriver.RequestAddress", { ...gateway, Options });
  await ask("IpamDriver.ReleaseAddress", gateway);
  expect(done).not.toContain("unreserve 10.40.0.1");
  await ask("IpamDriver.ReleaseAddress", gateway);
  expect(done).toContain("unreserve 10.40.0.1");
  expect(books.reserved.all().size).toBe(0);
});

test("48 addresses are set aside, and one more is refused: the allocator would forget the first", async () => {
  const setAside = (last: number) =>
    ask("IpamDriver.RequestAddress", { PoolID: POOL, Address: `10.40.0.${last}`, Options: null });
  for (let last = 1; last <= 48; last++) expect(await setAside(last)).not.toHaveProperty("Err");
  const why = "this host has 48 addresses that networks of Docker set aside; remove some first";
  expect((await setAside(49))["Err"]).toBe(why);
  expect(done).not.toContain("reserve 10.40.0.49");
  // Again the same one, for another network.
  expect(await setAside(48)).not.toHaveProperty("Err");
});

test("a dockerd that asks for another pool without end is told the option that ends it", async () => {
  const answers = [];
  for (let i = 0; i < 9; i++) answers.push(await ask("IpamDriver.RequestPool", { Pool: "" }));
  expect(answers.slice(0, 8).every(({ Err }) => Err === undefined)).toBe(true);
  expect(answers[8]?.["Err"]).toContain("--subnet 10.32.0.0/12");
});

test("a wait for an address ends", async () => {
  const request = { PoolID: "weave-10.40.0.0/30-10.40.0.0/30", Options: BY_MAC };
  expect(await ask("IpamDriver.RequestAddress", request)).toHaveProperty("Err");
});

test("unknown options of networks are refused if they have our prefix", async () => {
  const create = (options: object) =>
    ask("NetworkDriver.CreateNetwork", {
      NetworkID: NETWORK,
      Options: { "com.docker.network.generic": options },
    });
  expect(await create({ "works.weave.multicats": "" })).toEqual({
    Err: "unknown option works.weave.multicats; the only one is works.weave.multicast",
  });
  expect(await create({ "works.weave.multicast": "maybe" })).toHaveProperty("Err");
  expect(await create({ "com.docker.network.driver.mtu": "1400" })).toEqual({});
  await create({ "works.weave.multicast": "" });
  expect(books.networks.get(NETWORK)).toEqual({ multicast: true });
});

test("a container's names on a network", () => {
  const container = { name: "app-db-1", fqdn: "db.weave.local" };
  expect(namesOf(container, "app", ["db", "own.weave.local"], "weave.local.")).toEqual([
    "own.weave.local.",
    "db.weave.local.",
    "app-db-1.weave.local.",
    "app-db-1.app.weave.local.",
    "db.app.weave.local.",
  ]);
  expect(namesOf(container, "app", ["db"], undefined)).toEqual([]);
});
