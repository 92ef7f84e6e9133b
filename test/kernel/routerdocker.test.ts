// Docker's networks in a router: what the drivers ask of the allocator, the kernel and the names, and which addresses are
// Docker's to release. Requests are dockerd's; beside the drivers, the parts note what they are told.
import { describe, expect, spyOn, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { formatIPv4, type IPv4, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { dockerBooks } from "../../lib/container/plugin/books.ts";
import { CancelledError, IpamError } from "../../lib/ipam/errors.ts";
import { startDockerNetwork } from "../../lib/router/dockernetwork.ts";
import { eventually } from "../support/hosts.ts";
import { isRoot } from "../support/newnetns.ts";
import { RouterBench, type TestContext } from "../support/routercontext.ts";

const MAC = "02:00:00:00:00:05";
const [CONTAINER, ENDPOINT, NETWORK] = ["c".repeat(64), "e".repeat(64), "b".repeat(64)] as const;
const POOL = "weave-10.32.0.0/12-10.32.1.0/24";
const BY_MAC = { "com.docker.network.endpoint.macaddress": MAC };
const GATEWAY = { RequestAddressType: "com.docker.network.gateway" };
const ADDRESS = parseIPv4("10.32.1.5");
/** Of an address whose endpoint has no container yet. */
const OF_ENDPOINT = "docker:/ethwe";

/** Start it over an allocator in which `held` says who has what, and for which attachment. */
function dockerOf(
  opened: TestContext,
  held: Record<string, readonly [holder: string, attachment?: string]> = {},
) {
  const { context } = opened;
  const told: unknown[][] = [];
  const note =
    (what: string) =>
    (...args: unknown[]) =>
      void told.push([what, ...args]);
  const state = {
    fails: undefined as Error | undefined,
    gate: undefined as Promise<void> | undefined,
    waits: [] as string[],
  };
  const answer = async <T>(value: T): Promise<T> => {
    await state.gate;
    if (state.fails) throw state.fails;
    return value;
  };
  const holderOf = (address: IPv4) => held[formatIPv4(address)]?.[0];
  const allocator = {
    lifecycle: { holderOf },
    leases: (id: string) =>
      Object.entries(held).flatMap(([address, [holder, attachment]]) =>
        holder === id ? [{ address: parseIPv4(address), prefix: 12, attachment }] : [],
      ),
    allocate(holder: string, subnet: unknown, { signal, ...options }: { signal?: AbortSignal }) {
      told.push(["allocate", holder, subnet, options, signal instanceof AbortSignal]);
      return answer(ADDRESS);
    },
    claim(holder: string, cidr: unknown, { signal, ...options }: { signal?: AbortSignal }) {
      told.push(["claim", holder, cidr, options, signal instanceof AbortSignal]);
      return answer(undefined);
    },
    free(...args: unknown[]) {
      told.push(["free", ...args]);
      return answer(undefined);
    },
    transfer: note("transfer"),
    reserve: note("reserve"),
    waits: () => state.waits,
  };
  const link = { outer: "vethwepl1", inner: "vethwepg1", alias: "docker/e/eth0", mac: MAC };
  const work = {
    addEndpoint: async (endpoint: unknown) => {
      told.push(["add", endpoint]);
      return link;
    },
    tuneEndpoint: async (outer: string) => {
      told.push(["tune", outer]);
      return "ethwe0";
    },
    detach: async () => told.push(["detached past the ports"]),
  };
  const ports = {
    forgetOnDetach: () => ({ ...work, detach: async (what: unknown) => void told.push(["detach", what]) }),
    assign: (alias: string, owner: unknown) => {
      told.push(["assign", alias, owner]);
      return "its alias";
    },
  };
  const names = {
    config: { domain: "weave.local." },
    delete: note("unname"),
    add: note("name"),
  };
  const sockets: { path: string; answer(request: Request): Promise<Response> }[] = [];
  using keep = spyOn(context.files, "keep");
  using look = spyOn(context.files, "look");
  const endpoints = startDockerNetwork(context, ports as never, { allocator, work } as never, names as never);
  for (const [socket] of keep.mock.calls) sockets.push(socket as never);
  const looked = look.mock.calls.length;
  const ask = async (method: string, body: object = {}): Promise<{ Err?: string; Pool?: string }> => {
    const request = new Request(`http://docker/${method}`, { method: "POST", body: JSON.stringify(body) });
    return (await sockets[0]?.answer(request))?.json() as Promise<{ Err?: string }>;
  };
  const books = dockerBooks(context.store, () => {});
  const of = (what: string) => told.filter(([each]) => each === what);
  return { ...opened, told, of, state, held, sockets, looked, ask, books, endpoints };
}

/** An endpoint as it is kept. */
const kept = (more: object = {}) => ({
  ...{ network: NETWORK, address: "10.32.1.5/12", mac: MAC, container: null, madeAt: 0 },
  ...{ outer: "vethwepl1", inner: "vethwepg1", alias: "docker/e/eth0", ...more },
});

describe.if(isRoot)("Docker's networks in a router", () => {
  test("are served at both names, where Docker is and this is the host's router", async () => {
    await using bench = new RouterBench();
    const { sockets, looked, scope } = dockerOf(bench.open());
    expect(sockets.map(({ path }) => path)).toEqual([
      "/run/docker/plugins/weave.sock",
      "/run/docker/plugins/weavemesh.sock",
    ]);
    expect(looked).toBe(1);
    const wanted = (socket: unknown) => (socket as { isWanted(): boolean }).isWanted();
    // With folders of its own, it is not.
    expect(sockets.map(wanted)).toEqual([false, false]);
    await scope.end();
  });

  test("have the range and the default subnet of the options", async () => {
    await using bench = new RouterBench();
    const raw = { "ipalloc-range": "10.40.0.0/16", "ipalloc-default-subnet": "10.40.1.0/24" };
    const { ask, scope } = dockerOf(bench.open(raw));
    expect(await ask("IpamDriver.RequestPool")).toMatchObject({ Pool: "10.40.1.0/24" });
    expect(await ask("IpamDriver.RequestPool", { Pool: "10.40.0.0/16" })).toMatchObject({
      Pool: "10.40.0.0/16",
    });
    expect((await ask("IpamDriver.RequestPool", { Pool: "10.0.0.0/8" })).Err).toContain("10.40.0.0/16");
    await scope.end();
    const none = dockerOf(bench.open({ "ipalloc-range": "" }));
    expect((await none.ask("IpamDriver.RequestPool")).Err).toContain("no addresses are allocated");
  });

  test("get addresses for containers, of the pool's part, with the subnet's length; they do not wait for room", async () => {
    await using bench = new RouterBench();
    const { ask, told } = dockerOf(bench.open());
    expect(await ask("IpamDriver.RequestAddress", { PoolID: POOL, Options: BY_MAC })).toMatchObject({
      Address: "10.32.1.5/12",
    });
    expect(
      await ask("IpamDriver.RequestAddress", { PoolID: POOL, Address: "10.32.1.7", Options: BY_MAC }),
    ).toMatchObject({
      Address: "10.32.1.7/12",
    });
    expect(told).toEqual([
      [
        ...["allocate", `docker:${MAC}`, parseCidr("10.32.1.0/24")],
        ...[{ isContainer: true, prefix: 12, failWhenExhausted: true }, true],
      ],
      ["claim", `docker:${MAC}`, parseCidr("10.32.1.7/12"), { isContainer: true }, true],
    ]);
  });

  test("are told what a request waited for that was given up, and other errors as they are", async () => {
    await using bench = new RouterBench();
    const { ask, state } = dockerOf(bench.open());
    const request = (more: object = {}) =>
      ask("IpamDriver.RequestAddress", { PoolID: POOL, Options: BY_MAC, ...more }).then(({ Err }) => Err);
    const looks: [() => void, number][] = [];
    const ended: unknown[] = [];
    using _set = spyOn(globalThis, "setInterval").mockImplementation(((fn: () => void, ms: number) =>
      looks.push([fn, ms])) as never);
    using _clear = spyOn(globalThis, "clearInterval").mockImplementation((timer) => void ended.push(timer));
    state.fails = new CancelledError("cancelled");
    expect(await request()).toBe("no address: the request was cancelled");
    // The last reason that was seen: by the end there is none any more.
    state.fails = undefined;
    const waiting = Promise.withResolvers<void>();
    state.gate = waiting.promise;
    state.waits = ["host h2 does not answer", "another"];
    const answer = request();
    await eventually(
      "it waits",
      () => looks.length,
      (count) => count === 2,
    );
    looks[1]?.[0]();
    state.waits = [];
    looks[1]?.[0]();
    waiting.reject(new CancelledError("cancelled"));
    expect(await answer).toBe("no address: host h2 does not answer");
    state.gate = undefined;
    state.fails = new IpamError("no room");
    expect(await request({ Address: "10.32.1.9" })).toBe("no room");
    expect([looks.map(([, ms]) => ms), ended.length]).toEqual([[500, 500, 500], 3]);
  });

  test("set gateways aside, but none that a container has", async () => {
    await using bench = new RouterBench();
    const { ask, told } = dockerOf(bench.open(), { "10.32.1.1": ["weave:expose"], "10.32.1.2": ["c1"] });
    const request = (Address: string) =>
      ask("IpamDriver.RequestAddress", { PoolID: POOL, Address, Options: GATEWAY });
    expect(await request("10.32.1.3")).toMatchObject({ Address: "10.32.1.3/12" });
    expect(await request("10.32.1.1")).toMatchObject({ Address: "10.32.1.1/12" });
    expect((await request("10.32.1.2")).Err).toBe("10.32.1.2 is in use by c1");
    await ask("IpamDriver.ReleaseAddress", { PoolID: POOL, Address: "10.32.1.3" });
    expect(told).toEqual([
      ["reserve", parseIPv4("10.32.1.3")],
      ["reserve", parseIPv4("10.32.1.1")],
      ["reserve", parseIPv4("10.32.1.3"), false],
    ]);
  });

  test.each<[string, Record<string, readonly [string, string?]>, unknown[][]]>([
    ["that is free", {}, []],
    ["of a pod", { "10.32.1.5": ["pod", "cbr0/eth0"] }, []],
    ["of an attachment by hand", { "10.32.1.5": ["c1"] }, []],
    ["of an endpoint", { "10.32.1.5": [ENDPOINT, OF_ENDPOINT] }, [["free", ENDPOINT, ADDRESS]]],
    ["of a container of Docker's", { "10.32.1.5": ["c1", "docker:app/ethwe0"] }, [["free", "c1", ADDRESS]]],
    [
      "that no endpoint was made for",
      { "10.32.1.5": [`docker:${MAC}`] },
      [["free", `docker:${MAC}`, ADDRESS]],
    ],
  ])("release an address %s", async (_, held, freed) => {
    await using bench = new RouterBench();
    const { ask, told } = dockerOf(bench.open(), held);
    expect(await ask("IpamDriver.ReleaseAddress", { PoolID: POOL, Address: "10.32.1.5" })).toEqual({});
    expect(told).toEqual(freed);
  });

  test("release what is gone already without an error; a disk that is full is one", async () => {
    await using bench = new RouterBench();
    const { ask, state } = dockerOf(bench.open(), { "10.32.1.5": [`docker:${MAC}`] });
    const release = () => ask("IpamDriver.ReleaseAddress", { PoolID: POOL, Address: "10.32.1.5" });
    state.fails = new IpamError("not found");
    expect(await release()).toEqual({});
    state.fails = new Error("cannot save: the disk is full");
    expect((await release()).Err).toBe("cannot save: the disk is full");
  });

  test("make and remove links; an endpoint holds the address of its own Ethernet address alone", async () => {
    await using bench = new RouterBench();
    const { ask, told, held, clock, books } = dockerOf(bench.open(), { "10.32.1.5": [`docker:${MAC}`] });
    const of = { NetworkID: NETWORK, EndpointID: ENDPOINT };
    const create = (Interface?: object) =>
      ask("NetworkDriver.CreateEndpoint", { ...of, Interface }) as Promise<object>;
    clock.wallOffset = 5;
    expect(await create({ Address: "10.32.1.5/12" })).toEqual({ Interface: { MacAddress: MAC } });
    expect(told.splice(0)).toEqual([
      ["add", { id: ENDPOINT, mac: undefined, addresses: [parseCidr("10.32.1.5/12")] }],
      ["transfer", ADDRESS, ENDPOINT, OF_ENDPOINT],
    ]);
    expect(books.endpoints.get(ENDPOINT)?.madeAt).toBe(clock.wall());
    await ask("NetworkDriver.DeleteEndpoint", of);
    expect(told.splice(0)).toEqual([
      ["detach", { netns: undefined, ifName: "vethwepg1", alias: "docker/e/eth0" }],
    ]);
    // Addresses of another driver; and one that another holds.
    await create({ MacAddress: MAC });
    await ask("NetworkDriver.DeleteEndpoint", of);
    held["10.32.1.5"] = ["docker:02:00:00:00:00:99"];
    await create({ Address: "10.32.1.5/12" });
    expect(told.filter(([what]) => what !== "detach")).toEqual([
      ["add", { id: ENDPOINT, mac: MAC, addresses: [] }],
      ["add", { id: ENDPOINT, mac: undefined, addresses: [parseCidr("10.32.1.5/12")] }],
    ]);
  });

  test("forget a container's names for its address when it leaves, and none before it has come", async () => {
    await using bench = new RouterBench();
    const { ask, of, books } = dockerOf(bench.open());
    const leave = () => ask("NetworkDriver.Leave", { NetworkID: NETWORK, EndpointID: ENDPOINT });
    for (const endpoint of [kept(), kept({ container: CONTAINER, address: null })]) {
      books.endpoints.set(ENDPOINT, endpoint);
      await leave();
    }
    expect(of("unname")).toEqual([]);
    books.endpoints.set(ENDPOINT, kept({ container: CONTAINER }));
    await leave();
    expect(of("unname")).toEqual([["unname", { containerId: CONTAINER, address: ADDRESS }]]);
  });

  test("mark addresses of endpoints as Docker's at the start, where earlier versions did not", async () => {
    await using bench = new RouterBench();
    const opened = bench.open();
    const books = dockerBooks(opened.context.store, () => {});
    books.endpoints.set("old", kept());
    books.endpoints.set("new", kept({ address: "10.32.1.6/12" }));
    books.endpoints.set("none", kept({ address: null }));
    books.endpoints.set("other", kept({ address: "10.32.1.7/12" }));
    const { told } = dockerOf(opened, {
      ...{ "10.32.1.5": ["old"], "10.32.1.6": ["new", OF_ENDPOINT], "10.32.1.7": ["pod", "cbr0/eth0"] },
    });
    expect(told).toEqual([["transfer", ADDRESS, "old", OF_ENDPOINT]]);
  });
});

/** A dockerd with one network, which knows these containers by their endpoints. */
function dockerd(path: string) {
  const state = { endpoints: {} as Record<string, { EndpointID: string }>, asked: [] as string[] };
  const server = Bun.serve({
    unix: path,
    fetch(request) {
      const { pathname } = new URL(request.url);
      state.asked.push(pathname);
      if (pathname === "/version") return Response.json({ Components: [{ Name: "Engine" }] });
      if (pathname === "/networks") return Response.json([{ Id: NETWORK }]);
      if (pathname === `/networks/${NETWORK}`) return Response.json({ Containers: state.endpoints });
      if (pathname !== `/containers/${CONTAINER}/json`) return new Response("", { status: 404 });
      return Response.json({
        ...{
          Id: CONTAINER,
          Name: "/web",
          State: { Running: true },
          Config: { Hostname: "h", Domainname: "" },
        },
        NetworkSettings: { Networks: { app: { EndpointID: ENDPOINT, Aliases: [] } } },
      });
    },
  });
  return { state, [Symbol.asyncDispose]: () => server.stop(true) };
}

describe.if(isRoot)("endpoints of Docker's networks in a router", () => {
  async function withDocker(held: Record<string, readonly [string, string?]>) {
    const bench = new RouterBench();
    const path = join(bench.folder, "docker.sock");
    const docker = dockerd(path);
    const host = dockerOf(bench.open({ "docker-api": `unix://${path}` }), held);
    const end = async () => {
      await bench[Symbol.asyncDispose]();
      await docker[Symbol.asyncDispose]();
    };
    return Object.assign(host, { docker: docker.state, [Symbol.asyncDispose]: end });
  }

  test.each<[string, Record<string, readonly [string, string?]>, boolean]>([
    ["an address that is Docker's", { "10.32.1.5": [ENDPOINT, OF_ENDPOINT] }, true],
    ["no address that a pod has by now", { "10.32.1.5": ["pod", "cbr0/eth0"] }, false],
    ["no address that is free", {}, false],
  ])("are their container's once it runs, with its name and link, and %s", async (_, held, holds) => {
    await using host = await withDocker(held);
    const { endpoints, books, of } = host;
    books.endpoints.set(ENDPOINT, kept());
    endpoints.started(CONTAINER);
    await eventually(
      "it is named",
      () => of("name").length,
      (count) => count === 2,
    );
    expect([of("tune"), of("assign")]).toEqual([
      [["tune", "vethwepl1"]],
      [["assign", "docker/e/eth0", { network: "docker:app", containerId: CONTAINER, ifName: "ethwe0" }]],
    ]);
    expect(of("name")).toEqual([
      ["name", "web.weave.local.", CONTAINER, ADDRESS],
      ["name", "web.app.weave.local.", CONTAINER, ADDRESS],
    ]);
    expect(of("transfer")).toEqual(holds ? [["transfer", ADDRESS, CONTAINER, "docker:app/ethwe0"]] : []);
    expect(books.endpoints.get(ENDPOINT)).toMatchObject({ alias: "its alias", container: CONTAINER });
  });

  test("that dockerd forgot are looked for every minute, and removed as dockerd would: names, link, address", async () => {
    await using host = await withDocker({ "10.32.1.5": ["c1", "docker:app/ethwe0"] });
    const { books, told, clock, docker, scope } = host;
    books.endpoints.set(ENDPOINT, kept({ container: "c1", madeAt: clock.wall() - 60_001 }));
    clock.advance(59_999);
    expect(docker.asked).toEqual([]);
    clock.advance(1);
    await eventually(
      "it is removed",
      () => told.length,
      (count) => count >= 3,
    );
    expect(told).toEqual([
      ["unname", { containerId: "c1", address: ADDRESS }],
      ["detach", { netns: undefined, ifName: "vethwepg1", alias: "docker/e/eth0" }],
      ["free", "c1", ADDRESS],
    ]);
    expect(books.endpoints.all().size).toBe(0);
    books.endpoints.set(ENDPOINT, kept());
    await scope.end();
    docker.asked = [];
    clock.advance(300_000);
    await new Promise(setImmediate);
    expect(docker.asked).toEqual([]);
  });
});

test("nothing is left where Docker looks for plugins", () => {
  if (!existsSync("/run/docker.sock")) expect(existsSync("/run/docker/plugins/weave.sock")).toBe(false);
});
