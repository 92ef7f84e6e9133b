// The CNI plugin by the specification's tables: variables, configurations, results of each version, codes of errors, and
// what each verb asks of the router.
import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatCidr, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import {
  type ApiClient,
  ApiError,
  type CallOptions,
  NO_ANSWER,
  RouterDownError,
} from "../../lib/api/client.ts";
import { checkAttachment } from "../../lib/cni/check.ts";
import { parseConfig, SUPPORTED_VERSIONS } from "../../lib/cni/config.ts";
import { conf, conflist, originalConflist } from "../../lib/cni/conflist.ts";
import { delegate } from "../../lib/cni/delegate.ts";
import { readEnvironment } from "../../lib/cni/environment.ts";
import { CniError } from "../../lib/cni/error.ts";
import { checkPorts, endPorts, forwardPorts, hostPortsOf } from "../../lib/cni/hostports.ts";
import { ipamSource } from "../../lib/cni/ipam.ts";
import { runInRouter, runPlugin } from "../../lib/cni/main.ts";
import { add, toCniError } from "../../lib/cni/plugin.ts";
import { cniSteps } from "../../lib/cni/remove.ts";
import { type AddResult, formatResult, parseAddressing } from "../../lib/cni/result.ts";
import {
  installConfig,
  installPlugin,
  precedingConfig,
  removeConfig,
  sameFile,
  setup,
} from "../../lib/cni/setup.ts";
import { AlreadyAttachedError, NoGatewayError } from "../../lib/host/attach.ts";
import type { ContainerWork } from "../../lib/host/containerwork.ts";
import type { Inspected } from "../../lib/host/inspect.ts";
import { vethAlias } from "../../lib/host/names.ts";
import { parseSender } from "../../lib/host/ports/binding.ts";
import { NetnsError } from "../../lib/sys/netns.ts";

let folder: string;
const before = process.env["WEAVE_STATE_DIR"];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-cnitable-"));
  process.env["WEAVE_STATE_DIR"] = join(folder, "state");
});
afterAll(() => {
  if (before === undefined) delete process.env["WEAVE_STATE_DIR"];
  else process.env["WEAVE_STATE_DIR"] = before;
  rmSync(folder, { recursive: true });
});

const errorOf = (run: () => unknown) => {
  try {
    run();
  } catch (error) {
    return error instanceof CniError ? [error.code, error.message] : [0, String(error)];
  }
  return undefined;
};

describe("variables", () => {
  const ADD = {
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: "c1",
    CNI_NETNS: "/n",
    CNI_IFNAME: "eth0",
    CNI_PATH: "/a::/b",
  };
  test("are read", () => {
    expect(readEnvironment(ADD)).toEqual({
      ...{
        command: "ADD",
        containerId: "c1",
        netns: "/n",
        ifName: "eth0",
        path: ["/a", "/b"],
        args: new Map(),
      },
    });
    expect(readEnvironment({ CNI_COMMAND: "GC" })).toEqual({
      command: "GC",
      containerId: "",
      netns: "",
      ifName: "",
      path: [],
      args: new Map(),
    });
  });

  test.each<[string, Record<string, string | undefined>, string | undefined]>([
    ["no command", { CNI_COMMAND: undefined }, "CNI_COMMAND: required, but not set"],
    [
      "an unknown command",
      { CNI_COMMAND: "add" },
      'CNI_COMMAND: "add" is not one of ADD, DEL, CHECK, VERSION, STATUS, GC',
    ],
    ["no container", { CNI_CONTAINERID: "" }, "CNI_CONTAINERID: required, but not set"],
    [
      "DEL without a container",
      { CNI_COMMAND: "DEL", CNI_CONTAINERID: undefined },
      "CNI_CONTAINERID: required",
    ],
    ["CHECK without an interface", { CNI_COMMAND: "CHECK", CNI_IFNAME: undefined }, "CNI_IFNAME: required"],
    ["ADD without a namespace", { CNI_NETNS: "" }, "CNI_NETNS: required"],
    ["CHECK without a namespace", { CNI_COMMAND: "CHECK", CNI_NETNS: "" }, "CNI_NETNS: required"],
    ["DEL without a namespace", { CNI_COMMAND: "DEL", CNI_NETNS: undefined }, undefined],
    [
      "STATUS without any",
      { CNI_COMMAND: "STATUS", CNI_CONTAINERID: "", CNI_IFNAME: "", CNI_NETNS: "" },
      undefined,
    ],
    [
      "VERSION without any",
      { CNI_COMMAND: "VERSION", CNI_CONTAINERID: "", CNI_IFNAME: "", CNI_NETNS: "" },
      undefined,
    ],
    ["a container id of 255", { CNI_CONTAINERID: "c".repeat(255) }, undefined],
    ["a container id of 256", { CNI_CONTAINERID: "c".repeat(256) }, "is not a container id"],
    ["a container id that begins with a dot", { CNI_CONTAINERID: ".c" }, "is not a container id"],
    [
      "a container id with a slash, also of GC",
      { CNI_COMMAND: "GC", CNI_CONTAINERID: "a/b" },
      "is not a container id",
    ],
    ["an interface of 15", { CNI_IFNAME: "e".repeat(15) }, undefined],
    ["an interface of 16", { CNI_IFNAME: "e".repeat(16) }, "is not an interface name (at most 15 characters"],
    ...["e/0", "e:0", "e 0", ".", ".."].map((name): [string, Record<string, string>, string] => [
      `an interface ${name}`,
      { CNI_IFNAME: name },
      "is not an interface name",
    ]),
  ])("%s", (_what, variables, message) => {
    const error = errorOf(() => readEnvironment({ ...ADD, ...variables }));
    if (message === undefined) expect(error).toBeUndefined();
    else expect(error).toEqual([4, expect.stringContaining(message)]);
  });
});

describe("configurations", () => {
  test("have defaults", () => {
    expect(parseConfig('{"name":"net"}')).toEqual({
      name: "net",
      ...{ cniVersion: "0.1.0", bridge: "weave", mtu: 0, allowedAddresses: [], hairpinMode: true },
      ...{ isGateway: false, ipMasq: false, ipam: { type: "" }, args: {} },
      runtimeConfig: { portMappings: [], ips: [] },
    } as never);
  });

  test.each<[string, unknown, number, string]>([
    ["a list", [], 7, "a list, not an object"],
    ["a number", 5, 7, "network configuration"],
    ["nothing", {}, 7, "name: required, but not set"],
    ["an empty name", { name: "" }, 7, "name: not a valid network name"],
    ["a bad name", { name: "-a" }, 7, "name: not a valid network name"],
    ["no bridge", { bridge: "" }, 7, "bridge: is empty"],
    ["a long bridge", { bridge: "b".repeat(16) }, 7, "bridge: too long"],
    ["a negative MTU", { mtu: -1 }, 7, "mtu: negative"],
    ["half an MTU", { mtu: 1.5 }, 7, "mtu: not a whole number"],
    ["a large MTU", { mtu: 65_536 }, 7, "mtu: more than 65535"],
    [
      "61 allowed addresses",
      { allowedAddresses: Array(61).fill("10.0.0.1") },
      7,
      "allowedAddresses: more than 60",
    ],
    ["an IPAM path", { ipam: { type: "../x" } }, 7, "ipam.type: a plugin's name has no '/'"],
    ["a small subnet", { ipam: { subnet: "10.0.0.0/31" } }, 7, "ipam.subnet: "],
    ["a bad gateway", { ipam: { gateway: "10.0.0" } }, 7, "ipam.gateway: "],
    ["a bad route", { ipam: { routes: [{ dst: "x" }] } }, 7, "ipam.routes.0.dst: "],
    ["a gateway by the plugin", { isGateway: true }, 2, "isGateway: Gateway functionality not supported"],
    [
      "masquerading by the plugin",
      { ipMasq: true },
      2,
      "ipMasq: IP Masquerading functionality not supported",
    ],
  ])("%s is refused", (_what, json, code, message) => {
    expect(errorOf(() => parseConfig(JSON.stringify(json)))).toEqual([
      code,
      expect.stringContaining(message),
    ]);
  });

  test("are read for each command, also where the same was read for another one just before", () => {
    const text = JSON.stringify({ name: "net", runtimeConfig: { mac: 5 } });
    const read = (command: string) => errorOf(() => parseConfig(text, command))?.[0];
    expect(["DEL", "ADD", "DEL", "ADD", "CHECK"].map(read)).toEqual([undefined, 7, undefined, 7, 7]);
    const plain = JSON.stringify({ name: "net" });
    expect(parseConfig(plain, "ADD")).toBe(parseConfig(plain, "ADD"));
    expect(errorOf(() => parseConfig(plain, "GC"))).toEqual([7, expect.stringContaining("required by GC")]);
    expect(parseConfig(JSON.stringify({ name: "other" }), "ADD").name).toBe("other");
  });

  test("are bounded, and JSON", () => {
    expect(errorOf(() => parseConfig(undefined))).toEqual([6, "network configuration longer than 1 MiB"]);
    const padded = (length: number) => `{"name":"net"}`.padEnd(length);
    expect(errorOf(() => parseConfig(padded(1 << 20)))).toBeUndefined();
    expect(errorOf(() => parseConfig(padded((1 << 20) + 1)))).toEqual([
      6,
      "network configuration longer than 1 MiB",
    ]);
    expect(errorOf(() => parseConfig("{"))?.[0]).toBe(6);
    expect(
      parseConfig(
        JSON.stringify({
          name: "net",
          mtu: 65_535,
          bridge: "b".repeat(15),
          allowedAddresses: Array(60).fill("10.0.0.1"),
        }),
      ).mtu,
    ).toBe(65_535);
  });
});

describe("results", () => {
  const [address, gateway] = [parseCidr("10.32.0.7/12"), parseIPv4("10.32.0.1")];
  const result: AddResult = {
    interfaces: [
      { name: "veth1", mac: "02:00:00:00:00:01", mtu: 1376 },
      { name: "eth0", mac: "02:00:00:00:00:02", mtu: 1376, sandbox: "/n" },
    ],
    inner: 1,
    addresses: [
      { cidr: address, gateway },
      { cidr: parseCidr("10.40.0.7/24"), gateway: undefined },
    ],
    routes: [
      { destination: parseCidr("0.0.0.0/0"), gateway },
      { destination: parseCidr("10.50.0.0/16"), gateway: undefined },
    ],
    dns: undefined,
  };
  const routes = [{ dst: "0.0.0.0/0", gw: "10.32.0.1" }, { dst: "10.50.0.0/16" }];
  const interfaces = (mtu: boolean) => [
    { name: "veth1", mac: "02:00:00:00:00:01", ...(mtu && { mtu: 1376 }) },
    { name: "eth0", mac: "02:00:00:00:00:02", sandbox: "/n", ...(mtu && { mtu: 1376 }) },
  ];
  const ips = (family: boolean, offset = 0) => [
    { ...(family && { version: "4" }), interface: offset + 1, address: "10.32.0.7/12", gateway: "10.32.0.1" },
    { ...(family && { version: "4" }), interface: offset + 1, address: "10.40.0.7/24" },
  ];

  test.each(SUPPORTED_VERSIONS.map((version) => [version]))("of version %s", (version) => {
    const got = formatResult(version, result, undefined);
    if (version === "0.1.0" || version === "0.2.0")
      expect(got).toEqual({
        cniVersion: version,
        ip4: { ip: "10.32.0.7/12", gateway: "10.32.0.1", routes },
        dns: {},
      });
    else
      expect(got).toEqual({
        ...{
          cniVersion: version,
          interfaces: interfaces(version === "1.1.0"),
          ips: ips(version.startsWith("0.")),
          routes,
          dns: {},
        },
      });
  });

  test("follow those of earlier plugins, and leave out what there is not", () => {
    const previous = {
      interfaces: [{ name: "lo" }],
      ips: [{ address: "127.0.0.1/8" }],
      routes: [{ dst: "9.0.0.0/8" }],
      dns: { x: 1 },
    };
    expect(formatResult("1.0.0", { ...result, dns: { domain: "d" } }, previous)).toEqual({
      cniVersion: "1.0.0",
      interfaces: [...previous.interfaces, ...interfaces(false)],
      ips: [...previous.ips, ...ips(false, 1)],
      routes: [...previous.routes, ...routes],
      dns: { domain: "d" },
    });
    const bare = { ...result, addresses: [{ cidr: address, gateway: undefined }], routes: [] };
    expect(formatResult("0.2.0", bare, undefined)).toEqual({
      cniVersion: "0.2.0",
      ip4: { ip: "10.32.0.7/12" },
      dns: {},
    });
    expect(formatResult("1.0.0", bare, { interfaces: "no list" })).not.toHaveProperty("routes");
    expect(formatResult("1.0.0", bare, { routes: [{ dst: "9.0.0.0/8" }] })).toHaveProperty("routes", [
      { dst: "9.0.0.0/8" },
    ]);
  });

  test("of IPAM plugins are read in old and new shapes; what is unusable says of which plugin", () => {
    const read = (json: unknown) => parseAddressing(JSON.stringify(json), "host-local");
    const expected = {
      addresses: [{ cidr: address, gateway }],
      routes: [{ destination: parseCidr("0.0.0.0/0"), gateway: undefined }],
    };
    expect(
      read({
        ips: [{ address: "10.32.0.7/12", gateway: "10.32.0.1" }],
        routes: [{ dst: "0.0.0.0/0" }],
        dns: { a: 1 },
      }),
    ).toEqual({
      ...expected,
      dns: { a: 1 },
    });
    expect(
      read({ ip4: { ip: "10.32.0.7/12", gateway: "10.32.0.1", routes: [{ dst: "0.0.0.0/0", gw: "" }] } }),
    ).toEqual({ ...expected, dns: undefined });
    expect(read({ ips: [{ address: "10.32.0.7/12" }], routes: null })).toEqual({
      addresses: [{ cidr: address, gateway: undefined }],
      routes: undefined,
      dns: undefined,
    });
    expect(errorOf(() => read({ ips: [] }))).toEqual([
      6,
      "unusable result from IPAM plugin host-local: it has no addresses",
    ]);
    for (const bad of [{}, { ips: [{ address: "x" }] }, { ip4: { ip: "10.0.0.1/33" } }])
      expect(errorOf(() => read(bad))?.[0]).toBe(6);
    expect(errorOf(() => parseAddressing("{", "p"))?.[0]).toBe(6);
  });
});

describe("CHECK verifies the owner of an interface", () => {
  const of = (alias: string | undefined, name = "net", containerId = "c1") =>
    errorOf(() =>
      checkAttachment(
        { bridge: "weave", name } as never,
        { netns: "/n", ifName: "eth0", containerId } as never,
        {
          ...{ link: { name: "eth0", up: true }, port: { name: "veth1", up: true, alias } },
          ...{ bridge: "weave", addresses: [], routes: [] },
        } as unknown as Inspected,
      ),
    );
  const long = "n".repeat(250);

  test("accepts ours, one without an alias, and one with a foreign alias", () => {
    for (const alias of ["net/c1/eth0", undefined, "uplink"]) expect(of(alias)).toBeUndefined();
    expect(of(vethAlias({ network: long, containerId: "c1", ifName: "eth0" }), long)).toBeUndefined();
  });

  test.each([
    ["other/c1/eth0", "container c1 on network other"],
    ["net/c2/eth0", "container c2 on network net"],
    ["/c1/eth0", "container c1 on no CNI network"],
    [vethAlias({ network: long, containerId: "c1", ifName: "eth0" }), "another container"],
  ])("rejects that of another attachment: %s", (alias, whose) => {
    expect(of(alias)).toEqual([101, `interface eth0 in /n belongs to ${whose}, not to c1 on net`]);
  });
});

describe("CHECK compares with the result of ADD", () => {
  const found = {
    link: { name: "eth0", up: true, address: "02:00:00:00:00:02" },
    port: { name: "veth1", up: true },
    bridge: "weave",
    addresses: [parseCidr("10.32.0.7/12")],
    routes: [{ destination: parseCidr("0.0.0.0/0"), gateway: parseIPv4("10.32.0.1") }],
  } as unknown as Inspected;
  const of = (prevResult: unknown) =>
    errorOf(() =>
      checkAttachment(
        { bridge: "weave", prevResult } as never,
        { netns: "/n", ifName: "eth0" } as never,
        found,
      ),
    );
  const own = { name: "eth0", mac: "02:00:00:00:00:02", sandbox: "/n" };

  test.each<[string, unknown, [number, string] | undefined]>([
    [
      "the same",
      {
        interfaces: [own],
        ips: [{ address: "10.32.0.7/12", interface: 0 }],
        routes: [{ dst: "0.0.0.0/0", gw: "10.32.0.1" }],
      },
      undefined,
    ],
    ["a MAC in capitals", { interfaces: [{ ...own, mac: "02:00:00:00:00:02".toUpperCase() }] }, undefined],
    [
      "another MAC",
      { interfaces: [{ ...own, mac: "02:00:00:00:00:99" }] },
      [101, "has Ethernet address 02:00:00:00:00:02 instead of 02:00:00:00:00:99"],
    ],
    [
      "the MAC of another namespace",
      { interfaces: [{ ...own, mac: "02:00:00:00:00:99", sandbox: "/m" }] },
      undefined,
    ],
    [
      "no namespace is ours",
      { interfaces: [{ name: "eth0", mac: "02:00:00:00:00:99" }] },
      [101, "has Ethernet address"],
    ],
    ["another prefix", { ips: [{ address: "10.32.0.7/24" }] }, [101, "lacks address 10.32.0.7/24"]],
    [
      "the second address",
      { ips: [{ address: "10.32.0.7/12" }, { address: "10.32.0.8/12" }] },
      [101, "lacks address 10.32.0.8/12"],
    ],
    [
      "an address of another interface",
      { interfaces: [own, { name: "lo" }], ips: [{ address: "127.0.0.1/8", interface: 1 }] },
      undefined,
    ],
    ["an IPv6 address and route", { ips: [{ address: "fe80::1/64" }], routes: [{ dst: "::/0" }] }, undefined],
    ["a route by any gateway", { routes: [{ dst: "0.0.0.0/0" }] }, undefined],
    [
      "a route by another gateway",
      { routes: [{ dst: "0.0.0.0/0", gw: "10.32.0.2" }] },
      [101, "lacks the route to 0.0.0.0/0 via 10.32.0.2"],
    ],
    ["another route", { routes: [{ dst: "10.0.0.0/8" }] }, [101, "lacks the route to 10.0.0.0/8"]],
    ["nothing to compare", { ips: null, interfaces: null, routes: null }, undefined],
    ["no result", { ips: "x" }, [6, "prevResult: "]],
  ])("%s", (_what, previous, expected) => {
    const error = of(previous);
    if (expected === undefined) expect(error).toBeUndefined();
    else expect(error).toEqual([expected[0], expect.stringContaining(expected[1])]);
  });
});

/** An API that records calls, and answers by `answers` or not at all. */
function router(answers: (method: string, path: string) => string | Error = () => "") {
  const calls: [string, string, CallOptions | undefined][] = [];
  const api: ApiClient = async (method, path, options) => {
    calls.push([method, path, options]);
    const answer = answers(method, path);
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return { api, calls };
}
const ENV = {
  command: "ADD",
  containerId: "c1",
  netns: "/n",
  ifName: "eth0",
  path: [],
  args: new Map(),
} as const;
const source = (api: ApiClient, config: object = {}) => {
  const text = JSON.stringify({ name: "net", ...config });
  return ipamSource(parseConfig(text), text, ENV, api);
};

describe("addresses of the router", () => {
  test("are asked for with the attachment, for 10 s; the host's own without", async () => {
    const { api, calls } = router((method) => (method === "POST" ? "10.32.0.7/12\n" : ""));
    const ipam = source(api, { ipam: { routes: [{ dst: "10.0.0.0/8", gw: "10.32.0.9" }] } });
    expect(await ipam.add("c1")).toEqual({
      addresses: [{ cidr: parseCidr("10.32.0.7/12"), gateway: undefined }],
      routes: [{ destination: parseCidr("10.0.0.0/8"), gateway: parseIPv4("10.32.0.9") }],
      dns: undefined,
    });
    await ipam.add("weave:expose");
    expect(calls).toEqual([
      ["GET", "/ip/c1?attachment=net%2Feth0", { timeoutMs: 5_000 }],
      ["POST", "/ip/c1?wait=false&container=true&attachment=net%2Feth0", { timeoutMs: 10_000 }],
      ["POST", "/ip/weave%3Aexpose?wait=false", { timeoutMs: 10_000 }],
    ]);
    const inSubnet = router(() => "10.40.0.7/24");
    await source(inSubnet.api, { ipam: { subnet: "10.40.0.0/24", gateway: "10.40.0.1" } }).add("c1");
    expect(inSubnet.calls.map(([, path]) => path)).toEqual([
      "/ip/c1/10.40.0.0/24?attachment=net%2Feth0",
      "/ip/c1/10.40.0.0/24?wait=false&container=true&attachment=net%2Feth0&gateway=10.40.0.1",
    ]);
  });

  test("are given back after a failure where they are new alone", async () => {
    for (const [held, undone] of [
      [
        "",
        [
          [
            "DELETE",
            "/ip/c1?attachment=net%2Feth0&detached=true&noErrorOnUnknown=true",
            { timeoutMs: 5_000 },
          ],
        ],
      ],
      ["10.32.0.7/12", []],
    ] as const) {
      const { api, calls } = router((method) => (method === "GET" ? held : "10.32.0.7/12"));
      const ipam = source(api);
      await ipam.undo();
      expect(calls).toEqual([]);
      await ipam.add("c1");
      calls.length = 0;
      await ipam.undo();
      expect(calls).toEqual(undone as never);
    }
  });

  test("that did not come in time say why, where the router knows", async () => {
    const late = new ApiError(NO_ANSWER, "no answer within 10000 ms");
    const withReason = (reason: string | Error) =>
      source(
        router((method, path) => (path.startsWith("/ipinfo") ? reason : method === "GET" ? "" : late)).api,
      )
        .add("c1")
        .catch((error: Error) => error);
    expect(await withReason(new ApiError(503, "undivided"))).toMatchObject({
      status: 504,
      message: "undivided",
    });
    expect(await withReason("ok")).toMatchObject({
      status: NO_ANSWER,
      message: "no address came from other peers within 10 s: 'weave status ipam' shows who has which",
    });
    for (const reason of [new ApiError(500, "broken"), new RouterDownError("x")])
      expect(await withReason(reason)).toBe(late);
    const refused = new ApiError(400, "out of range");
    const plain = router((method) => (method === "GET" ? "" : refused));
    expect(
      await source(plain.api)
        .add("c1")
        .catch((error) => error),
    ).toBe(refused);
    expect(plain.calls).toHaveLength(2);
  });

  test("are released; nothing to release is no error, and a router that does not answer is noted", async () => {
    const released = async (answer: string | Error, detached = true) => {
      const { api, calls } = router(() => answer);
      const error: unknown = await source(api)
        .release(detached)
        .catch((reason) => reason);
      const notes = join(folder, "state/releases");
      const noted = existsSync(notes) ? readdirSync(notes) : [];
      rmSync(notes, { recursive: true, force: true });
      expect(calls).toEqual([
        [
          "DELETE",
          `/ip/c1?attachment=net%2Feth0&detached=${detached}&noErrorOnUnknown=true`,
          { timeoutMs: 5_000 },
        ],
      ]);
      return [error, noted];
    };
    const NOTE = ["net%2Feth0%2Fc1"];
    expect(await released("")).toEqual([undefined, []]);
    expect(await released("", false)).toEqual([undefined, []]);
    expect(await released(new ApiError(400, "none"))).toEqual([undefined, []]);
    expect(await released(new ApiError(NO_ANSWER, "late"))).toEqual([undefined, NOTE]);
    expect(await released(new RouterDownError("x"))).toEqual([undefined, NOTE]);
    for (const error of [new ApiError(500, "broken"), new Error("other")])
      expect(await released(error)).toEqual([error, []]);
  });

  test("STATUS and GC ask for what they need", async () => {
    const { api, calls } = router();
    await source(api).status();
    await source(api, { ipam: { subnet: "10.40.0.0/24" } }).status();
    const valid = [
      { containerID: "c1", ifname: "eth0" },
      { containerID: "c2", ifname: "net1" },
    ];
    await source(api, { "cni.dev/valid-attachments": valid }).gc();
    await source(api).check();
    expect(
      calls.map(([method, path, options]) => [
        method,
        path,
        options?.timeoutMs,
        options?.form?.getAll("valid"),
      ]),
    ).toEqual([
      ["GET", "/ipinfo/available", 1_500, undefined],
      ["GET", "/ipinfo/available/10.40.0.0/24", 1_500, undefined],
      ["POST", "/gc/net", 5_000, ["c1/eth0", "c2/net1"]],
    ]);
    const failed = (error: Error) =>
      source(router(() => error).api)
        .status()
        .catch((reason) => reason);
    expect(await failed(new ApiError(503, "full"))).toMatchObject({
      code: 50,
      message: "the weave router has no address to give: full",
    });
    expect(await failed(new RouterDownError("x"))).toMatchObject({ code: 50 });
    const other = new Error("other");
    expect(await failed(other)).toBe(other);
  });
});

describe("addresses that the runtime requests", () => {
  const put = (cidr: string) => `/ip/c1/${cidr}?container=true&attachment=net%2Feth0`;
  const ips = (...ips: string[]) => ({ runtimeConfig: { ips } });
  const claims = (calls: readonly (readonly [string, string, ...unknown[]])[]) =>
    calls.filter(([method]) => method === "PUT").map(([, path]) => path);

  test("are claimed with their own prefix, else that of the subnet, else that of the default subnet", async () => {
    const { api, calls } = router((_method, path) => (path.startsWith("/ipinfo") ? "10.32.0.0/12\n" : ""));
    const found = await source(api, ips("10.40.0.5/24", "10.40.0.6")).add("c1");
    expect(found.addresses.map(({ cidr }) => formatCidr(cidr))).toEqual(["10.40.0.5/24", "10.40.0.6/12"]);
    expect(calls).toEqual([
      ["GET", "/ip/c1?attachment=net%2Feth0", { timeoutMs: 5_000 }],
      ["GET", "/ipinfo/defaultsubnet", { timeoutMs: 1_500 }],
      ["PUT", put("10.40.0.5/24"), { timeoutMs: 10_000 }],
      ["PUT", put("10.40.0.6/12"), { timeoutMs: 10_000 }],
    ]);
    const subnet = router();
    const ipam = { subnet: "10.40.0.0/24", gateway: "10.40.0.1" };
    const inSubnet = await source(subnet.api, { ...ips("10.40.0.6"), ipam }).add("c1");
    expect(inSubnet.addresses).toEqual([
      { cidr: parseCidr("10.40.0.6/24"), gateway: parseIPv4("10.40.0.1") },
    ]);
    expect(claims(subnet.calls)).toEqual([put("10.40.0.6/24")]);
    // The runtime requests them for the container, not for the host.
    await source(subnet.api, ips("10.40.0.6"))
      .add("weave:expose")
      .catch(() => {});
    expect(claims(subnet.calls)).toHaveLength(1);
  });

  test("are released if one is refused, unless some were held before; the first error is thrown", async () => {
    const refused = new ApiError(400, "10.40.0.6 is owned by c2");
    for (const [held, undone] of [
      ["", 1],
      ["10.40.0.5/24", 0],
    ] as const) {
      const { api, calls } = router((method, path) => {
        if (method === "DELETE") return new ApiError(500, "broken");
        if (path === "/ipinfo/defaultsubnet") return "10.32.0.0/12";
        return path.startsWith("/ip/c1/10.40.0.6") ? refused : method === "GET" ? held : "";
      });
      const { add } = source(api, ips("10.40.0.5/24", "10.40.0.6/24", "10.40.0.7/24"));
      expect(await add("c1").catch((error) => error)).toBe(refused);
      expect(claims(calls)).toEqual([put("10.40.0.5/24"), put("10.40.0.6/24")]);
      expect(calls.filter(([method]) => method === "DELETE")).toHaveLength(undone);
    }
  });
});

test("each verb is delegated to the IPAM plugin of the configuration, which gets that unchanged", async () => {
  const bin = join(folder, "ipam");
  mkdirSync(bin);
  const log = join(bin, "log");
  const answer = JSON.stringify({ cniVersion: "1.0.0", ips: [{ address: "10.99.0.7/24" }] });
  const script = `#!/bin/sh\necho "$CNI_COMMAND $CNI_CONTAINERID $(cat)" >> ${log}\necho '${answer}'\n`;
  writeFileSync(join(bin, "other"), script, { mode: 0o755 });
  const { api, calls } = router();
  const text = JSON.stringify({ name: "net", ipam: { type: "other", range: 7 } });
  const ipam = ipamSource(parseConfig(text), text, { ...ENV, path: [bin] }, api);
  expect((await ipam.add("c1")).addresses).toEqual([{ cidr: parseCidr("10.99.0.7/24"), gateway: undefined }]);
  await ipam.add("weave:expose");
  await ipam.undo();
  await ipam.release(true);
  await ipam.check();
  await ipam.status();
  await ipam.gc();
  const verbs = ["ADD c1", "ADD weave:expose", "DEL c1", "DEL c1", "CHECK c1", "STATUS ", "GC "];
  expect(readFileSync(log, "utf8")).toBe(verbs.map((verb) => `${verb} ${text}\n`).join(""));
  expect(calls).toEqual([]);
});

describe("ADD", () => {
  const MADE = { hostName: "vethhost", hostMac: "02:00:00:00:00:01", mac: "02:00:00:00:00:02", mtu: 1_376 };
  const added = async (config: object, gateway?: string, at: (link: object) => void = () => {}) => {
    const { api, calls } = router((method) => (method === "POST" ? "10.32.0.7/12\n" : ""));
    const attach = async (link: object) => {
      at(link);
      return { ...MADE, gateway: gateway === undefined ? undefined : parseIPv4(gateway) };
    };
    const input = JSON.stringify({ cniVersion: "1.1.0", name: "net", ...config });
    const work = { attach, detach: async () => true, inspect: async () => undefined };
    const call = { environment: ENV, config: parseConfig(input), input, api };
    const result = await add({ ...call, work: work as unknown as ContainerWork });
    return { result, calls };
  };

  test("passes each field of the configuration to the link", async () => {
    const links: object[] = [];
    const config = {
      ...{ bridge: "br7", mtu: 1_300, hairpinMode: false, allowedAddresses: ["10.32.9.0/24"] },
      ...{ runtimeConfig: { mac: "02:AA:00:00:00:05" } },
      ipam: { gateway: "10.32.0.9", routes: [{ dst: "10.0.0.0/8", table: 7 }] },
    };
    await added(config, undefined, (link) => links.push(link));
    await added({}, undefined, (link) => links.push(link));
    await added({ ipam: { routes: [] } }, undefined, (link) => links.push(link));
    const common = { netns: "/n", containerId: "c1", ifName: "eth0", network: "net" };
    const addresses = [parseCidr("10.32.0.7/12")];
    expect(links).toEqual([
      {
        ...{ ...common, addresses, bridge: "br7", mtu: 1_300, hairpin: false, mac: "02:aa:00:00:00:05" },
        ...{ gateway: parseIPv4("10.32.0.9"), allowed: [parseSender("10.32.9.0/24")] },
        routes: [{ destination: parseCidr("10.0.0.0/8"), gateway: undefined, table: 7 }],
      },
      {
        ...{ ...common, addresses, bridge: "weave", mtu: 0, hairpin: true, mac: undefined, allowed: [] },
        ...{ gateway: "bridge", routes: [{ destination: parseCidr("0.0.0.0/0") }] },
      },
      {
        ...{ ...common, addresses, bridge: "weave", mtu: 0, hairpin: true, mac: undefined, allowed: [] },
        ...{ gateway: "bridge", routes: [] },
      },
    ]);
  });

  test("answers with both ends of the link, addresses, gateway and routes", async () => {
    const dns = { nameservers: ["10.0.0.2"] };
    const routes = [
      { dst: "10.0.0.0/8" },
      { dst: "10.1.0.0/16", gw: "10.32.0.3" },
      { dst: "10.2.0.0/16", scope: 253 },
    ];
    const { result } = await added({ dns, ipam: { routes } }, "10.32.0.1");
    expect(JSON.parse(JSON.stringify(result))).toEqual({
      cniVersion: "1.1.0",
      interfaces: [
        { name: "vethhost", mac: MADE.hostMac, mtu: 1_376 },
        { name: "eth0", mac: MADE.mac, mtu: 1_376, sandbox: "/n" },
      ],
      ips: [{ interface: 1, address: "10.32.0.7/12", gateway: "10.32.0.1" }],
      routes: [
        { dst: "10.0.0.0/8", gw: "10.32.0.1" },
        { dst: "10.1.0.0/16", gw: "10.32.0.3" },
        { dst: "10.2.0.0/16", scope: 253 },
      ],
      dns,
    });
  });

  test("exposes the host, with a timeout of 10 s, if it has to be the gateway and is not exposed yet", async () => {
    let links = 0;
    const { result, calls } = await added({}, "10.32.0.7", () => {
      if (links++ === 0) throw new NoGatewayError("none");
    });
    expect(calls.at(-1)).toEqual(["POST", "/expose/10.32.0.7/12", { timeoutMs: 10_000 }]);
    expect(JSON.parse(JSON.stringify(result))).toMatchObject({ ips: [{ gateway: "10.32.0.7" }] });
  });
});

describe("host ports", () => {
  const portMappings = [{ hostPort: 8_080, containerPort: 80, protocol: "udp", hostIP: "10.0.0.1" }];
  const config = parseConfig(JSON.stringify({ name: "net", runtimeConfig: { portMappings } }));
  const wanted = hostPortsOf(config, parseIPv4("10.32.0.7"));
  const path = "/hostports/c1?attachment=net%2Feth0";
  const call = (api: ApiClient) => ({ config, environment: ENV, api });
  const saved = JSON.stringify(wanted);

  test("are forwarded, checked and removed per attachment, with a timeout of 5 s", async () => {
    const { api, calls } = router((method) => (method === "GET" ? saved : ""));
    await forwardPorts(call(api), []);
    await checkPorts(call(api), []);
    expect(calls).toEqual([]);
    await forwardPorts(call(api), wanted);
    await checkPorts(call(api), wanted);
    await endPorts(call(api));
    expect(calls).toEqual([
      ["PUT", path, { body: saved, timeoutMs: 5_000 }],
      ["GET", path, { timeoutMs: 5_000 }],
      ["DELETE", path, { timeoutMs: 5_000 }],
    ]);
  });

  test("fail with the router's reason; the error of a router that does not answer is passed on unchanged", async () => {
    const failed = (error: Error, run: typeof endPorts = (of) => forwardPorts(of, wanted)) =>
      run(call(router(() => error).api)).catch((reason) => reason);
    const taken = new ApiError(400, "8080/udp belongs to c2");
    const message = "cannot forward host ports: 8080/udp belongs to c2";
    expect(await failed(taken)).toMatchObject({ code: 100, message });
    for (const error of [new ApiError(NO_ANSWER, "late"), new RouterDownError("x")])
      expect(await failed(error)).toBe(error);
    expect(await failed(taken, endPorts)).toBe(taken);
  });

  test.each<[string, object[]]>([
    ["is missing", []],
    ["leads to another port", [{ ...wanted[0], port: 81 }]],
    ["leads to another address", [{ ...wanted[0], address: 7 }]],
    ["is of another protocol", [{ ...wanted[0], protocol: "tcp" }]],
    ["is of all addresses of the host", [{ ...wanted[0], hostIp: undefined }]],
  ])("CHECK fails where one %s", async (_what, found) => {
    const { api } = router(() => JSON.stringify(found));
    expect(await checkPorts(call(api), wanted).catch((reason) => reason)).toMatchObject({
      message: expect.stringMatching(/^host port .*8080\/udp is not forwarded to 10\.32\.0\.7:80$/),
    });
  });
});

test("errors have the codes of the specification", () => {
  const netns = (kind: NetnsError["kind"]) =>
    Object.assign(Object.create(NetnsError.prototype), { kind, message: kind }) as NetnsError;
  const cases: [unknown, number, string][] = [
    [new CniError(7, "own"), 7, "own"],
    [new RouterDownError("s"), 11, "weave is not running"],
    [new ApiError(NO_ANSWER, "late"), 11, "late"],
    [new ApiError(503, "no"), 100, "the weave router refused: no"],
    [new AlreadyAttachedError("has one"), 4, "CNI_IFNAME: has one"],
    [netns("missing"), 3, "CNI_NETNS: "],
    [netns("not a namespace"), 4, "CNI_NETNS: "],
    [netns("own"), 8, "CNI_NETNS: "],
    [netns("unreachable"), 4, "CNI_NETNS: "],
    [new Error("x"), 100, "x"],
  ];
  for (const [error, code, message] of cases) {
    const found = toCniError(error);
    expect([found.code, found.message]).toEqual([code, expect.stringContaining(message)]);
  }
});

describe("a call of the plugin", () => {
  const variables = { CNI_COMMAND: "ADD", CNI_CONTAINERID: "c1", CNI_NETNS: "/n", CNI_IFNAME: "eth0" };
  const work = { inspect: () => ({}), detach: async () => true } as unknown as ContainerWork;

  test("answers with its versions, and errors in the version of the configuration", async () => {
    const { api } = router();
    const version = await runPlugin({ CNI_COMMAND: "VERSION" }, undefined, api, work);
    expect([version.code, JSON.parse(version.output)]).toEqual([
      0,
      {
        cniVersion: "1.1.0",
        supportedVersions: ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
      },
    ]);
    const run = async (input: string | undefined, more = {}) => {
      const { output, code } = await runPlugin({ ...variables, ...more }, input, api, work);
      return [code, JSON.parse(output || "null")];
    };
    expect(await run("{")).toEqual([1, expect.objectContaining({ cniVersion: "1.1.0", code: 6 })]);
    expect(await run('{"cniVersion":"0.4.0","isGateway":true}')).toEqual([
      1,
      expect.objectContaining({ code: 2 }),
    ]);
    expect(await run('{"cniVersion":"0.3.2","name":"net"}')).toEqual([
      1,
      expect.objectContaining({
        cniVersion: "1.1.0",
        code: 1,
        msg: expect.stringContaining('config is "0.3.2"'),
      }),
    ]);
    // There is an interface of that name.
    expect(await run('{"cniVersion":"0.4.0","name":"net"}')).toEqual([
      1,
      { cniVersion: "0.4.0", code: 4, msg: "CNI_IFNAME: /n has an interface eth0 already" },
    ]);
    expect(await run('{"cniVersion":"0.4.0","name":"net"}', { CNI_COMMAND: "DEL" })).toEqual([0, null]);
    for (const CNI_COMMAND of ["ADD", "DEL", "CHECK", "STATUS", "GC"])
      expect(await run("{}", { CNI_COMMAND })).toEqual([
        1,
        { cniVersion: "1.1.0", code: 7, msg: "network configuration: name: required, but not set" },
      ]);
    const gc = (config: object) => run(JSON.stringify({ name: "net", ...config }), { CNI_COMMAND: "GC" });
    expect(await gc({ "cni.dev/valid-attachments": null })).toEqual([0, null]);
    // It would release what is in use.
    expect(await gc({})).toEqual([
      1,
      {
        cniVersion: "1.1.0",
        code: 7,
        msg: "network configuration: cni.dev/valid-attachments: required by GC, but not set",
      },
    ]);
  });

  test.each<[string, { readonly CNI_ARGS?: string; readonly [key: string]: unknown }]>([
    ["an address", { runtimeConfig: { ips: ["10.32.0.300"] } }],
    ["an address of IPv6", { args: { cni: { ips: ["fd00::1/64"] } } }],
    ["an address in a variable", { CNI_ARGS: "IP=10.32.0.300" }],
    ["an Ethernet address", { runtimeConfig: { mac: "01:00:5e:00:00:01" } }],
    ["a port", { runtimeConfig: { portMappings: [{ hostPort: 0, containerPort: 80 }] } }],
    [
      "a protocol",
      { runtimeConfig: { portMappings: [{ hostPort: 1, containerPort: 80, protocol: "icmp" }] } },
    ],
    ["something else", { args: 7 }],
  ])(
    "that asks for %s that it cannot have is refused, and detached all the same",
    async (_what, { CNI_ARGS, ...wish }) => {
      const input = JSON.stringify({ cniVersion: "1.0.0", name: "net", ...wish });
      const namespace = String((await Bun.file("/proc/self/ns/net").stat()).ino);
      const codes = async (command: string) => {
        const given = { ...variables, CNI_COMMAND: command, ...(CNI_ARGS !== undefined && { CNI_ARGS }) };
        const inside = { ...given, CNI_NETNS: "/proc/self/ns/net" };
        const own = await runPlugin(given, input, router().api, work);
        const call = { variables: inside, input, namespace };
        return [own.code, (await runInRouter(call, router().api, work, new AbortController().signal))?.code];
      };
      expect(await codes("ADD")).toEqual([1, 1]);
      expect(await codes("DEL")).toEqual([0, 0]);
    },
  );

  test("is run by the router where it sees the same namespace, and allocates itself", async () => {
    const { api } = router();
    const signal = new AbortController().signal;
    const call = (namespace: string, input = '{"name":"net"}', netns = "/proc/self/ns/net") =>
      runInRouter(
        { variables: { ...variables, CNI_COMMAND: "DEL", CNI_NETNS: netns }, input, namespace },
        api,
        work,
        signal,
      );
    const inode = (await Bun.file("/proc/self/ns/net").stat()).ino;
    expect(await call(String(inode))).toEqual({ output: "", code: 0 });
    expect(await call("1")).toBeUndefined();
    expect(await call("", undefined, "/nowhere")).toEqual({ output: "", code: 0 });
    expect(await call(String(inode), '{"name":"net","ipam":{"type":"host-local"}}')).toBeUndefined();
    // Fields that a DEL does not read do not tell who owns the attachment.
    expect(await call(String(inode), '{"name":"net","ipam":{"type":"host-local"},"args":7}')).toBeUndefined();
    expect(await call(String(inode), '{"name":"net","ipam":{"type":"weave-ipam"}}')).toEqual({
      output: "",
      code: 0,
    });
    expect((await call(String(inode), "{"))?.code).toBe(1);
  });
});

describe("delegation", () => {
  const plugin = (name: string, script: string) => {
    mkdirSync(join(folder, "bin"), { recursive: true });
    const file = join(folder, "bin", name);
    writeFileSync(file, `#!/bin/sh\n${script}\n`);
    chmodSync(file, 0o755);
  };
  const run = (type: string, timeoutMs?: number, path = [join(folder, "none"), join(folder, "bin")]) =>
    delegate({
      type,
      path,
      input: '{"a":1}',
      variables: { CNI_COMMAND: "ADD", CNI_CONTAINERID: "c1" },
      ...(timeoutMs && { timeoutMs }),
    }).catch((error: CniError) => [error.code, error.message] as const);

  test("passes the configuration and the variables on, and its output back", async () => {
    plugin("echo", 'cat; echo " $CNI_COMMAND $CNI_CONTAINERID"');
    expect(await run("echo")).toBe('{"a":1} ADD c1\n');
    expect(await run("missing")).toEqual([
      7,
      `ipam.type: no plugin "missing" in CNI_PATH (${join(folder, "none")}:${join(folder, "bin")})`,
    ]);
    // One that cannot be executed does not hide that of a later folder.
    mkdirSync(join(folder, "none"));
    writeFileSync(join(folder, "none/echo"), "#!/bin/sh\n");
    expect(await run("echo")).toBe('{"a":1} ADD c1\n');
    chmodSync(join(folder, "bin/echo"), 0o644);
    if (process.getuid?.() !== 0) expect(await run("echo")).toEqual([7, expect.any(String)]);
  });

  test("says how it failed: by its own code, or by what it printed", async () => {
    plugin("coded", 'echo \'{"code":42,"msg":"no more"}\'; exit 1');
    expect(await run("coded")).toEqual([42, "IPAM plugin coded: no more"]);
    plugin("uncoded", 'echo \'{"code":"x","msg":"no more"}\'; exit 1');
    expect(await run("uncoded")).toEqual([100, "IPAM plugin uncoded: no more"]);
    plugin("text", "echo broken; exit 3");
    expect(await run("text")).toEqual([100, "IPAM plugin text failed: broken"]);
    plugin("mute", "exit 3");
    expect(await run("mute")).toEqual([100, "IPAM plugin mute failed: no output"]);
  });

  test("has a minute, unless told otherwise", async () => {
    plugin("quick", "echo done");
    const timeout = spyOn(AbortSignal, "timeout");
    try {
      expect(await run("quick")).toBe("done\n");
      expect(timeout.mock.calls).toEqual([[60_000]]);
    } finally {
      timeout.mockRestore();
    }
  });

  test("is ended where it does not answer in time, or prints without end", async () => {
    plugin("hangs", "exec sleep 600");
    expect(await run("hangs", 100)).toEqual([11, "IPAM plugin hangs: no answer within 0.1 s"]);
    plugin("chatty", "exec cat /dev/zero");
    expect(await run("chatty", 20_000)).toEqual([100, "IPAM plugin chatty: more output than 1 MiB"]);
    plugin("complains", "exec cat /dev/zero >&2");
    expect(await run("complains", 20_000)).toEqual([100, "IPAM plugin complains: more output than 1 MiB"]);
  });
});

describe("installation", () => {
  const place = (name: string) => {
    const root = join(folder, name);
    const [binDir, confDir] = [join(root, "bin"), join(root, "conf")];
    for (const made of [binDir, confDir]) mkdirSync(made, { recursive: true });
    const executable = join(root, "weave");
    writeFileSync(executable, "program");
    return { binDir, confDir, executable };
  };

  test("links the plugin, once; another version is replaced, and the same contents are left", () => {
    const { binDir, executable } = place("plugin");
    const target = join(binDir, "weave-net");
    expect(installPlugin(binDir, executable)).toBe(`linked ${executable} to ${target}`);
    expect(installPlugin(binDir, executable)).toBe(`${target} is up to date`);
    rmSync(target);
    writeFileSync(target, "program");
    expect(installPlugin(binDir, executable)).toBe(`${target} is up to date`);
    rmSync(target);
    for (const other of ["prograM", "programs", ""]) {
      writeFileSync(target, other);
      expect(sameFile(target, executable)).toBe(false);
      expect(installPlugin(binDir, executable)).toContain("linked");
      expect(readFileSync(target, "utf8")).toBe("program");
      rmSync(target);
    }
    expect(readdirSync(binDir)).toEqual([]);
    writeFileSync(join(folder, "file"), "");
    expect(() => installPlugin(join(folder, "file"), executable)).toThrow("not a folder");
  });

  test("large files that differ in the last byte differ", () => {
    const [a, b, c] = ["a", "b", "c"].map((name) => join(folder, name)) as [string, string, string];
    const bytes = Buffer.alloc((1 << 20) + 5, 1);
    writeFileSync(a, bytes);
    writeFileSync(b, bytes);
    bytes[bytes.length - 1] = 2;
    writeFileSync(c, bytes);
    expect([sameFile(a, b), sameFile(a, c), sameFile(a, a)]).toEqual([true, false, true]);
  });

  test("writes a configuration, or the other kind in its place; one changed by hand stays", () => {
    const { confDir } = place("conf");
    const [list, single] = [join(confDir, "10-weave.conflist"), join(confDir, "10-weave.conf")];
    const install = (hairpin: boolean, alone = false) => installConfig({ confDir, hairpin, single: alone });
    expect(install(true)).toEqual([`wrote ${list}`]);
    expect(readFileSync(list, "utf8")).toBe(conflist(true));
    const { plugins, ...rest } = JSON.parse(conflist(true));
    expect(rest).toEqual({
      cniVersion: "1.0.0",
      cniVersions: ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
      name: "weave",
    });
    // Host ports are our own: no other plugin is needed.
    expect(plugins).toEqual([
      {
        type: "weave-net",
        hairpinMode: true,
        capabilities: { portMappings: true, ips: true, mac: true },
      },
    ]);
    expect(install(true)).toEqual([`${list} is up to date`]);
    expect(install(false)).toEqual([`wrote ${list}`]);
    expect(JSON.parse(readFileSync(list, "utf8")).plugins[0].hairpinMode).toBe(false);
    expect(install(true, true)).toEqual([`removed ${list}`, `wrote ${single}`]);
    expect(JSON.parse(conf(true))).toEqual({
      cniVersion: "0.2.0",
      name: "weave",
      type: "weave-net",
      hairpinMode: true,
    });
    writeFileSync(single, "{}");
    expect(install(true, true)).toEqual([`${single} was changed by hand: kept`]);
    expect(readFileSync(single, "utf8")).toBe("{}");
    expect(readdirSync(confDir)).toEqual(["10-weave.conf"]);
    expect(installConfig({ confDir: join(confDir, "none"), hairpin: true })).toEqual([
      `${join(confDir, "none")} does not exist: CNI configuration not written`,
    ]);
  });

  test("in place of the original's list, the version stays, unless another is asked for", () => {
    const { confDir } = place("versions");
    const list = join(confDir, "10-weave.conflist");
    const version = () => JSON.parse(readFileSync(list, "utf8")).cniVersion;
    for (const hairpin of [true, false]) {
      writeFileSync(list, originalConflist(hairpin));
      expect(installConfig({ confDir, hairpin: true })).toEqual([`wrote ${list}`]);
      expect(version()).toBe("0.3.0");
    }
    expect(installConfig({ confDir, hairpin: true })).toEqual([`${list} is up to date`]);
    expect(installConfig({ confDir, hairpin: true, version: "1.0.0" })).toEqual([`wrote ${list}`]);
    expect(version()).toBe("1.0.0");
    installConfig({ confDir, hairpin: true, version: "0.4.0" });
    expect(version()).toBe("0.4.0");
    expect(readFileSync(list, "utf8")).not.toContain("portmap");
  });

  test("a configuration that goes before ours is found; removal takes ours alone, unless it was changed", () => {
    const { confDir } = place("order");
    expect(precedingConfig(confDir)).toBeUndefined();
    writeFileSync(join(confDir, "05-cilium.conflist"), "{}");
    // Ours is not there: others may well be.
    expect(precedingConfig(confDir)).toBeUndefined();
    installConfig({ confDir, hairpin: true });
    expect(precedingConfig(confDir)).toBe(join(confDir, "05-cilium.conflist"));
    expect(removeConfig(confDir)).toEqual([`removed ${join(confDir, "10-weave.conflist")}`]);
    installConfig({ confDir, hairpin: true });
    rmSync(join(confDir, "05-cilium.conflist"));
    writeFileSync(join(confDir, "99-other.conf"), "{}");
    expect(precedingConfig(confDir)).toBeUndefined();
    writeFileSync(join(confDir, "10-weave.conflist"), "{}");
    expect(removeConfig(confDir)).toEqual([]);
    expect(readdirSync(confDir).sort()).toEqual(["10-weave.conflist", "99-other.conf"]);
  });

  test("says where folders are missing, and removes what is its own alone", () => {
    const places = place("remove");
    expect(setup({ ...places, binDir: join(folder, "no"), hairpin: true })).toEqual([
      `${join(folder, "no")} does not exist: neither CNI plugin nor configuration installed; create it, or name another by --cni-bin-dir`,
    ]);
    const texts = () => cniSteps(places).map(({ does }) => does);
    setup({ ...places, hairpin: false });
    const steps = cniSteps(places);
    expect(steps).toHaveLength(2);
    // The configuration goes first.
    expect(texts()[0]).toContain("10-weave.conflist");
    for (const step of steps) void step.run?.();
    expect([readdirSync(places.confDir), readdirSync(places.binDir)]).toEqual([[], []]);
    // A setup that was interrupted has left parts.
    const parts = [join(places.confDir, "10-weave.conflist.tmp1"), join(places.binDir, "weave-net.tmp22")];
    for (const part of parts) writeFileSync(part, "part");
    for (const step of cniSteps(places)) void step.run?.();
    expect(parts.map(existsSync)).toEqual([false, false]);
    writeFileSync(join(places.confDir, "10-weave.conflist"), "{}");
    rmSync(join(places.binDir, "weave-net"), { force: true });
    symlinkSync(places.executable, join(places.binDir, "weave-net"));
    expect(texts().join()).toContain("changed by hand");
    expect(texts().join()).toContain("of another version or program");
    rmSync(join(places.binDir, "weave-net"));
    linkSync(places.executable, join(places.binDir, "weave-net"));
    expect(texts().join()).not.toContain("of another version");
  });
});
