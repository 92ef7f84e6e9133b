// The control API as a table: every path with every method, what it does with good and bad input, and what it passes on.
import { describe, expect, test } from "bun:test";
import { formatIPv4, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { CniTimes } from "../../lib/api/cnitimes.ts";
import { emptyText } from "../../lib/api/empty.ts";
import { localClient } from "../../lib/api/listen.ts";
import { cniText, eventLoopText } from "../../lib/api/peermetrics.ts";
import { PingError } from "../../lib/api/pingerror.ts";
import { topOf } from "../../lib/api/rates.ts";
import { type Api, answer, routeOf } from "../../lib/api/server.ts";
import { trafficOf } from "../../lib/api/traffic.ts";
import { DomainNameError, fullyQualified } from "../../lib/dns/name.ts";
import { CancelledError, ExhaustedError, IpamError, UnknownPeerError } from "../../lib/ipam/errors.ts";
import { type LogLevel, logTo } from "../../lib/log/log.ts";
import { AskError } from "../../lib/mesh/ask.ts";
import { PeerAddressError } from "../../lib/mesh/dial/named.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";

const METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"] as const;
const PORT = { protocol: "tcp", hostPort: 8080, address: 169_869_319, port: 80 } as const;

type Step = (...args: never[]) => unknown;

/** A router that records what it is asked for; `does` takes the place of single steps. */
function target(does: Record<string, Step> = {}, more: Record<string, unknown> = {}) {
  const asked: unknown[][] = [];
  const logged: LogLevel[] = [];
  const step =
    (name: string, otherwise?: Step) =>
    (...args: never[]) => {
      asked.push([name, ...args]);
      return (does[name] ?? otherwise)?.(...args);
    };
  const api = {
    log: logTo((level) => logged.push(level)),
    allocates: true,
    defaultSubnet: parseCidr("10.32.0.0/12"),
    allocator: {
      allocate: step("allocate", async () => parseIPv4("10.32.0.7")),
      claim: step("claim", async () => {}),
      lookup: step("lookup", () => [parseCidr("10.32.0.7/12"), parseCidr("10.32.0.8/12")]),
      free: step("free", async () => {}),
      delete: step("delete", async () => {}),
      prime: step("prime", async () => {}),
      waits: step("waits", () => ["one", "two"]),
      obstacle: step("obstacle", () => undefined),
      holders: () => new Map([["c1", { isContainer: true, cidrs: [parseCidr("10.32.0.7/12")] }]]),
      takeOver: step("takeOver", async () => 12),
      shutdown: step("shutdown", async () => nameFromNumber(2n)),
      lifecycle: { collect: step("collect", async () => {}) },
    },
    report: () => ({
      Ready: true,
      Router: { Targets: ["h2"], Peers: [{ Name: nameFromNumber(2n), NickName: "h2" }] },
    }),
    connect: step("connect", async () => ["no h9"]),
    forget: step("forget", () => ["h9"]),
    traffic: () => ({ name: "n", links: [] }),
    attachments: { note: step("note"), forget: step("forget attachment"), attach: step("attach", () => []) },
    hostPorts: {
      set: step("set host ports"),
      remove: step("remove host ports"),
      inForce: step("host ports in force", () => [PORT]),
      collect: step("collect host ports"),
    },
    expose: step("expose", async () => {}),
    hide: step("hide", async () => true),
    isRunning: step("isRunning", async () => true),
    ask: step("ask", async () => ({ yes: 1 })),
    ping: step("ping", async () => ({ pings: 1 })),
    dns: {
      address: () => "10.32.0.1:53",
      server: { config: { domain: "weave.local." } },
      nameserver: {
        config: { domain: "weave.local." },
        lookup: step("dns lookup", () => [parseIPv4("10.32.0.7"), parseIPv4("10.32.0.8")]),
        reverse: step("dns reverse", () => "a.weave.local."),
        add: step("dns add", () => true),
        delete: step("dns delete", () => {}),
        entries: { all: () => [] },
      },
    },
    isReady: () => true,
    cni: step("cni", async () => ({ output: "{}", code: 0 })),
    ...more,
  } as unknown as Api;
  return { api, asked, logged };
}

async function call(
  method: string,
  path: string,
  options: {
    does?: Record<string, Step>;
    more?: Record<string, unknown>;
    body?: string | URLSearchParams;
    json?: boolean;
  } = {},
) {
  const { api, asked, logged } = target(options.does, options.more);
  const request = new Request(`http://localhost${path}`, {
    method,
    ...(options.body !== undefined && { body: options.body }),
    ...(options.json && { headers: { accept: "application/json" } }),
  });
  const response = await answer(request, api);
  const body = await response.text();
  return { status: response.status, body, asked, logged, type: response.headers.get("content-type") ?? "" };
}

const form = (...pairs: [string, string][]) => new URLSearchParams(pairs);
const throwing =
  (error: Error): Step =>
  () => {
    throw error;
  };

test("each path has its methods, and no other", async () => {
  const paths: Record<string, readonly string[]> = {
    "/healthz": ["GET"],
    "/readyz": ["GET"],
    "/status": ["GET"],
    "/status/targets": ["GET"],
    "/status/connections": ["GET"],
    "/status/peers": ["GET"],
    "/status/ipam": ["GET"],
    "/status/dns": ["GET"],
    "/report": ["GET"],
    "/metrics": ["GET"],
    "/traffic": ["GET"],
    "/ring": ["GET"],
    "/ipinfo/defaultsubnet": ["GET"],
    "/ipinfo/available": ["GET"],
    "/ipinfo/available/10.32.1.0/24": ["GET"],
    "/ipinfo/waits": ["GET"],
    "/ipinfo/waits/c1": ["GET"],
    "/ipinfo/tracker": ["GET"],
    "/ip": ["GET"],
    "/ip/c1": ["GET", "POST", "DELETE"],
    "/ip/c1/10.32.0.7": ["DELETE"],
    "/ip/c1/10.32.1.0/24": ["GET", "POST", "PUT"],
    "/gc/net": ["POST"],
    "/peer": ["DELETE"],
    "/peer/h2": ["DELETE"],
    "/domain": ["GET"],
    "/dns-address": ["GET"],
    "/dns-address-port": ["GET"],
    "/dns-lookup/a": ["GET"],
    "/name": ["GET", "DELETE"],
    "/name/c1": ["DELETE"],
    "/name/c1/10.32.0.7": ["PUT", "DELETE"],
    "/connect": ["POST"],
    "/forget": ["POST"],
    "/ping": ["POST"],
    [`/ask/${nameFromNumber(2n)}/echo`]: ["POST"],
    "/expose/10.32.0.7/12": ["POST", "DELETE"],
    "/cni": ["POST"],
    "/cni/raw": ["POST"],
    "/attachment/c1": ["PUT", "POST", "DELETE"],
    "/hostports/c1": ["GET", "PUT", "DELETE"],
  };
  for (const [path, methods] of Object.entries(paths)) {
    for (const method of METHODS) {
      const { status, body } = await call(method, path);
      if (methods.includes(method))
        expect([path, method, status === 405 || status === 404]).toEqual([path, method, false]);
      else
        expect([path, method, status, body]).toEqual([
          path,
          method,
          405,
          `${method} is not possible on ${path}\n`,
        ]);
    }
  }
});

test("what is served for status alone, charged, endless, or open to any name", () => {
  const { api } = target();
  const traits = (path: string) => {
    const {
      status = false,
      costly = false,
      endless = false,
      anyHost = false,
    } = routeOf(api, path)?.route ?? {};
    return [path, status, costly, endless, anyHost];
  };
  const plain = [
    "/ring",
    "/ip/c1",
    "/name/c1",
    "/connect",
    "/ping",
    "/peer",
    "/expose/10.32.0.7/12",
    "/cni",
    "/domain",
  ];
  for (const path of plain) expect(traits(path)).toEqual([path, false, false, false, false]);
  for (const path of ["/healthz", "/readyz"]) expect(traits(path)).toEqual([path, true, false, false, false]);
  const reading = ["", "/targets", "/connections", "/peers", "/ipam", "/dns"].map((part) => `/status${part}`);
  for (const path of [...reading, "/report"]) expect(traits(path)).toEqual([path, true, true, false, false]);
  expect(traits("/metrics")).toEqual(["/metrics", true, true, false, true]);
  for (const path of ["/ip", "/name", "/traffic"])
    expect(traits(path)).toEqual([path, false, true, false, false]);
});

describe("a request does", () => {
  const SIGNAL = expect.any(AbortSignal);
  const plain = {
    isContainer: false,
    attachment: undefined,
    gateway: undefined,
    failWhenExhausted: false,
    signal: SIGNAL,
  };
  const cidr = (text: string) => parseCidr(text);
  const peer = nameFromNumber(2n);
  const CNI = { variables: { CNI_COMMAND: "ADD" }, input: "{}" };

  test.each<[string, string, Parameters<typeof call>[2], number, string | RegExp, unknown[][]]>([
    ["GET", "/ring", {}, 200, "", [["prime", SIGNAL]]],
    ["GET", "/ipinfo/defaultsubnet", {}, 200, "10.32.0.0/12", []],
    ["GET", "/ipinfo/available", {}, 200, "ok\n", [["obstacle", cidr("10.32.0.0/12")]]],
    ["GET", "/ipinfo/available/10.33.0.0/16", {}, 200, "ok\n", [["obstacle", cidr("10.33.0.0/16")]]],
    ["GET", "/ipinfo/waits", {}, 200, "one\ntwo\n", [["waits"]]],
    ["GET", "/ipinfo/waits/c1", {}, 200, "one\ntwo\n", [["waits", "c1"]]],
    ["GET", "/ipinfo/tracker", {}, 200, "\n", []],
    ["GET", "/ip", {}, 200, '{"owned":[{"containerid":"c1","addrs":["10.32.0.7/12"]}]}', []],
    [
      ...(["GET", "/ip/c1", {}, 200, "10.32.0.7/12 10.32.0.8/12"] as const),
      [["lookup", "c1", { start: parseIPv4("10.32.0.1"), end: parseIPv4("10.47.255.255") }, undefined]],
    ],
    [
      ...(["GET", "/ip/c1/10.33.0.0/24?attachment=a/eth0", {}, 200, /^10/] as const),
      [["lookup", "c1", { start: parseIPv4("10.33.0.1"), end: parseIPv4("10.33.0.255") }, "a/eth0"]],
    ],
    ["POST", "/ip/c1", {}, 200, "10.32.0.7/12", [["allocate", "c1", cidr("10.32.0.0/12"), plain]]],
    [
      ...([
        "POST",
        "/ip/c1/10.32.0.0/24?wait=false&gateway=10.32.0.1&container=true&attachment=a/eth0",
        {},
        200,
      ] as const),
      "10.32.0.7/24",
      [
        [
          ...["allocate", "c1", cidr("10.32.0.0/24")],
          {
            isContainer: true,
            attachment: "a/eth0",
            gateway: parseIPv4("10.32.0.1"),
            failWhenExhausted: true,
            signal: SIGNAL,
          },
        ],
      ],
    ],
    [
      ...(["POST", "/ip/c1?check-alive=true", {}, 200, "10.32.0.7/12"] as const),
      [
        ["isRunning", "c1"],
        ["allocate", "c1", cidr("10.32.0.0/12"), { ...plain, isContainer: true }],
      ],
    ],
    [
      ...([
        "POST",
        "/ip/c1?check-alive=true",
        { does: { isRunning: async () => false } },
        200,
        "cancelled",
      ] as const),
      [["isRunning", "c1"]],
    ],
    ["DELETE", "/ip/c1", {}, 204, "", [["delete", "c1", { attachment: undefined, detached: false }]]],
    [
      ...(["DELETE", "/ip/c1?detached=true&attachment=a/eth0", {}, 204, ""] as const),
      [["delete", "c1", { attachment: "a/eth0", detached: true }]],
    ],
    ["DELETE", "/ip/c1/10.32.0.7", {}, 204, "", [["free", "c1", parseIPv4("10.32.0.7")]]],
    [
      ...(["PUT", "/ip/c1/10.32.0.9/12", {}, 204, ""] as const),
      [
        [
          "claim",
          "c1",
          cidr("10.32.0.9/12"),
          { isContainer: false, noErrorOnUnknown: false, signal: SIGNAL },
        ],
      ],
    ],
    [
      ...(["PUT", "/ip/c1/10.32.0.9/12?noErrorOnUnknown=true&check-alive=true", {}, 204, ""] as const),
      [
        ["isRunning", "c1"],
        ["claim", "c1", cidr("10.32.0.9/12"), { isContainer: true, noErrorOnUnknown: true, signal: SIGNAL }],
      ],
    ],
    [
      ...(["POST", "/gc/net", { body: form(["valid", "a/eth0"], ["valid", "b/eth0"]) }, 204, ""] as const),
      [
        ["collect host ports", "net", new Set(["a/eth0", "b/eth0"])],
        ["collect", "net", new Set(["a/eth0", "b/eth0"])],
      ],
    ],
    [
      ...(["PUT", "/hostports/c1?attachment=n/eth0", { body: JSON.stringify([PORT]) }, 204, ""] as const),
      [["set host ports", "n/c1/eth0", [PORT]]],
    ],
    [
      ...(["GET", "/hostports/c1?attachment=n/eth0", {}, 200, JSON.stringify([PORT])] as const),
      [["host ports in force", "n/c1/eth0"]],
    ],
    ["DELETE", "/hostports/c1?attachment=/eth0", {}, 204, "", [["remove host ports", "/c1/eth0"]]],
    ["DELETE", "/peer", {}, 204, "", [["shutdown"]]],
    ["DELETE", "/peer", { json: true }, 200, `{"heir":{"name":"${peer}","nickname":"h2"}}`, [["shutdown"]]],
    [
      ...([
        "DELETE",
        "/peer",
        { json: true, does: { shutdown: async () => undefined } },
        200,
        '{"heir":null}',
      ] as const),
      [["shutdown"]],
    ],
    ["DELETE", "/peer/h2", {}, 200, "12 IPs taken over from h2\n", [["takeOver", "h2", false]]],
    ["DELETE", "/peer/h2?force=true", {}, 200, "12 IPs taken over from h2\n", [["takeOver", "h2", true]]],
    ["GET", "/domain", {}, 200, "weave.local.", []],
    ["GET", "/dns-address", {}, 200, "10.32.0.1", []],
    ["GET", "/dns-address-port", {}, 200, "10.32.0.1:53", []],
    ["GET", "/dns-lookup/a", {}, 200, "10.32.0.7\n10.32.0.8\n", [["dns lookup", "a.weave.local."]]],
    ["GET", "/dns-lookup/a.", {}, 200, /^10/, [["dns lookup", "a.weave.local."]]],
    ["GET", "/dns-lookup/12", {}, 200, /^10/, [["dns lookup", "12.weave.local."]]],
    ["GET", "/dns-lookup/a.b.c", {}, 200, /^10/, [["dns lookup", "a.b.c."]]],
    [
      "GET",
      "/dns-lookup/a.b",
      { does: { "dns lookup": (name) => (name === "a.b." ? [] : [parseIPv4("10.32.0.9")]) } },
      200,
      "10.32.0.9\n",
      [
        ["dns lookup", "a.b."],
        ["dns lookup", "a.b.weave.local."],
      ],
    ],
    ["GET", "/dns-lookup/10.32.0.7", {}, 200, "a.weave.local.\n", [["dns reverse", parseIPv4("10.32.0.7")]]],
    [
      ...(["GET", "/dns-lookup/10.32.0.7", { does: { "dns reverse": () => undefined } }, 200, ""] as const),
      [["dns reverse", parseIPv4("10.32.0.7")]],
    ],
    [
      ...(["DELETE", "/name", { body: form(["fqdn", "a.weave.local"]) }, 204, ""] as const),
      [["dns delete", { hostname: "a.weave.local.", containerId: undefined, address: undefined }]],
    ],
    [
      ...(["DELETE", "/name/c1?fqdn=b", {}, 204, ""] as const),
      [["dns delete", { hostname: "b.", containerId: "c1", address: undefined }]],
    ],
    [
      ...(["DELETE", "/name/c1/10.32.0.7", {}, 204, ""] as const),
      [["dns delete", { hostname: undefined, containerId: "c1", address: parseIPv4("10.32.0.7") }]],
    ],
    [
      ...(["DELETE", "/name/c1/10.32.0.7", { json: true, does: { "dns delete": () => 2 } }, 200] as const),
      '{"removed":2}',
      [["dns delete", { hostname: undefined, containerId: "c1", address: parseIPv4("10.32.0.7") }]],
    ],
    [
      ...(["PUT", "/name/c1/10.32.0.7", { body: form(["fqdn", "a.b"]) }, 204, ""] as const),
      [["dns add", "a.b", "c1", parseIPv4("10.32.0.7")]],
    ],
    [
      ...(["PUT", "/name/c1/10.32.0.7?fqdn=a&check-alive=true", { json: true }, 200] as const),
      '{"added":true,"domain":"weave.local."}',
      [
        ["isRunning", "c1"],
        ["dns add", "a", "c1", parseIPv4("10.32.0.7")],
      ],
    ],
    [
      ...([
        "PUT",
        "/name/c1/10.32.0.7?fqdn=a&check-alive=true",
        { does: { isRunning: async () => false } },
        204,
        "",
      ] as const),
      [["isRunning", "c1"]],
    ],
    [
      ...(["POST", "/connect", { body: form(["peer", "h1"], ["peer", "h2"]) }, 200, "no h9\n"] as const),
      [["connect", ["h1", "h2"], false]],
    ],
    ["POST", "/connect?peer=h3&replace=true", {}, 200, "no h9\n", [["connect", ["h3"], true]]],
    ["POST", "/forget", { body: form(["peer", "h1"]) }, 200, "", [["forget", ["h1"]]]],
    ["POST", "/forget?peer=h9", { json: true }, 200, '{"unknown":["h9"]}', [["forget", ["h9"]]]],
    ["POST", "/ping", {}, 200, '{"pings":1}', [["ping", [], 10]]],
    ["POST", "/ping?peer=h1&count=999", {}, 200, '{"pings":1}', [["ping", ["h1"], 999]]],
    [
      ...(["POST", `/ask/${peer}/echo`, { body: '{"a":1}' }, 200, '{"yes":1}'] as const),
      [["ask", peer, "echo", { a: 1 }, 10_000]],
    ],
    ["POST", `/ask/::2/echo?timeout=30000`, { body: "1" }, 200, /yes/, [["ask", peer, "echo", 1, 30_000]]],
    ["POST", "/expose/10.32.0.7/12", {}, 204, "", [["expose", cidr("10.32.0.7/12"), true]]],
    ["POST", "/expose/10.32.0.7/12?skipNAT=false", {}, 204, "", [["expose", cidr("10.32.0.7/12"), true]]],
    ["POST", "/expose/10.32.0.7/12?skipNAT=true", {}, 204, "", [["expose", cidr("10.32.0.7/12"), false]]],
    ["DELETE", "/expose/10.32.0.7/12", {}, 204, "", [["hide", cidr("10.32.0.7/12")]]],
    [
      ...(["POST", "/cni", { body: JSON.stringify(CNI) }, 200, '{"output":"{}","code":0}'] as const),
      [["cni", { ...CNI, namespace: "" }, SIGNAL]],
    ],
    [
      ...([
        "POST",
        "/cni",
        { body: JSON.stringify(CNI), does: { cni: async () => undefined } },
        409,
        "run it yourself\n",
      ] as const),
      [["cni", { ...CNI, namespace: "" }, SIGNAL]],
    ],
    [
      ...(["PUT", "/attachment/c1"] as const),
      { body: JSON.stringify({ addresses: [{ cidr: "10.32.0.7/12", asked: true }], multicastRoute: true }) },
      204,
      "",
      [["note", "c1", [{ ...cidr("10.32.0.7/12"), asked: true }], true]],
    ],
    [
      ...(["POST", "/attachment/c1"] as const),
      { body: JSON.stringify({ pid: 7, addresses: "net:default", fqdn: "a.weave.local" }) },
      200,
      "",
      [["attach", { id: "c1", pid: 7, addresses: "net:default", fqdn: "a.weave.local" }, SIGNAL]],
    ],
    ["DELETE", "/attachment/c1", {}, 204, "", [["forget attachment", "c1", undefined]]],
    [
      ...(["DELETE", "/attachment/c1?address=10.32.0.7&address=10.32.0.8", {}, 204, ""] as const),
      [["forget attachment", "c1", [parseIPv4("10.32.0.7"), parseIPv4("10.32.0.8")]]],
    ],
    ["GET", "/readyz", { more: { isReady: () => false } }, 503, "not ready for containers yet\n", []],
    ["GET", "/readyz", {}, 200, "ok\n", []],
    ["GET", "/status/targets", {}, 200, "h2\n", []],
    [
      "GET",
      "/status/targets",
      { more: { report: () => ({ Ready: false, Router: { Targets: [] } }) } },
      503,
      "",
      [],
    ],
  ])("%s %s", async (method, path, options, status, body, asked) => {
    const got = await call(method, path, options);
    expect([got.status, got.logged]).toEqual([status, []]);
    if (typeof body !== "string") expect(got.body).toMatch(body);
    else if (body.startsWith("{")) expect(JSON.parse(got.body)).toEqual(JSON.parse(body));
    else expect(got.body).toBe(body);
    expect(got.asked).toEqual(asked);
  });
});

describe.each([
  ["GET", "/ip/c1"],
  ["POST", "/ip/c1"],
  ["DELETE", "/ip/c1"],
  ["PUT", "/ip/c1/10.32.0.9/12"],
  ["GET", "/hostports/c1"],
  ["PUT", "/hostports/c1"],
  ["DELETE", "/hostports/c1"],
])("%s %s", (method, path) => {
  const body = method === "PUT" ? { body: JSON.stringify([PORT]) } : {};
  test.each([
    ["an interface and no network", "/e", true],
    ["the longest of both", `${"n".repeat(256)}/${"e".repeat(15)}`, true],
    ["a longer interface", `n/${"e".repeat(16)}`, false],
    ["a longer network", `${"n".repeat(257)}/e`, false],
    ["a network and no interface", "n/", false],
    ["no network", "e", false],
    ["an interface in parts", "n/e/f", false],
    ["a space", "n/e f", false],
    ["nothing", "", false],
  ])("takes an attachment of %s or refuses it", async (_what, attachment, taken) => {
    const got = await call(method, `${path}?attachment=${encodeURIComponent(attachment)}`, body);
    if (taken) expect(got.status).toBeOneOf([200, 204]);
    else expect([got.status, got.body]).toEqual([400, "an attachment is NETWORK/INTERFACE\n"]);
    expect(got.asked.length).toBe(taken ? 1 : 0);
  });
});

test.each([
  ["GET", (id: string) => `/ip/${id}`],
  ["DELETE", (id: string) => `/hostports/${id}?attachment=/e`],
  ["DELETE", (id: string) => `/attachment/${id}`],
  ["GET", (id: string) => `/ipinfo/waits/${id}`],
])("%s of a container with an ID of 256 characters is done, and of no longer one", async (method, path) => {
  const [longest, longer] = [256, 257].map((length) => path("c".repeat(length)));
  expect((await call(method, longest ?? "", {})).status).toBeOneOf([200, 204]);
  expect((await call(method, longer ?? "", {})).status).toBe(400);
});

describe("a request is refused", () => {
  const long = "c".repeat(257);
  const none = { more: { allocates: false } };
  const noDns = { more: { dns: undefined } };
  const peer = nameFromNumber(2n);

  test.each<[string, string, Parameters<typeof call>[2], number, string]>([
    ["GET", "/ring", none, 404, "no addresses are allocated"],
    ["GET", "/status/ipam", none, 404, "no addresses are allocated"],
    ["GET", "/ipinfo/defaultsubnet", none, 404, "no addresses are allocated"],
    ["POST", "/ip/c1", none, 404, "no addresses are allocated"],
    ["POST", "/ip/c1/10.32.0.0/24", none, 404, "no addresses are allocated"],
    ["POST", `/ip/${long}`, {}, 400, "a container id has 1 to 256 characters"],
    [
      "PUT",
      `/attachment/${long}`,
      { body: '{"addresses":[{"cidr":"10.32.0.7/12","asked":true}],"multicastRoute":true}' },
      400,
      "container id",
    ],
    ["DELETE", "/hostports/c1", {}, 400, "host ports need an attachment: NETWORK/INTERFACE"],
    ["PUT", "/hostports/c1?attachment=n/eth0", { body: "[{}]" }, 400, "host ports have protocol"],
    ["PUT", "/hostports/c1?attachment=n/eth0", { body: "[" }, 400, "host ports have protocol"],
    ["POST", "/ip/c1?gateway=10.0.0.256", {}, 400, "256 is more than 255"],
    ["POST", "/ip/c1/10.32.0.1/24", {}, 400, "bits after network prefix"],
    ["POST", "/ip/c1/10.32.0.0/31", {}, 400, "smaller than minimum size"],
    ["PUT", "/ip/c1/10.32.0.1/33", {}, 400, "prefix length 33"],
    ["PUT", "/ip/c1/127.0.0.1/8", {}, 400, "127.0.0.1"],
    ["DELETE", "/ip/c1/x", {}, 400, "is not an IPv4 address"],
    [
      "DELETE",
      "/ip/c1/10.32.0.7",
      { does: { free: throwing(new IpamError("gone")) } },
      400,
      "Unable to free: gone",
    ],
    [
      "PUT",
      "/ip/c1/10.32.0.9/12",
      { does: { claim: throwing(new IpamError("taken")) } },
      400,
      "Unable to claim: taken",
    ],
    ["PUT", "/ip/c1/10.32.0.9/12", { does: { claim: throwing(new CancelledError("x")) } }, 200, "cancelled"],
    ["POST", "/ip/c1", { does: { allocate: throwing(new IpamError("none")) } }, 400, "none"],
    ["DELETE", "/peer/h9", { does: { takeOver: throwing(new UnknownPeerError("no h9")) } }, 404, "no h9"],
    [
      "GET",
      "/ipinfo/available",
      { does: { obstacle: () => ({ cause: "c", reason: "full", remedy: "r" }) } },
      503,
      "full\n",
    ],
    [
      ...(["GET", "/ipinfo/available"] as const),
      { json: true, does: { obstacle: () => ({ cause: "c", reason: "full", remedy: "r" }) } },
      503,
      '{"cause":"c","reason":"full","remedy":"r"}',
    ],
    ["GET", "/domain", noDns, 404, "no DNS: the router was launched with --no-dns"],
    ["GET", "/status/dns", noDns, 404, "no DNS"],
    ["PUT", "/name/c1/10.32.0.7", noDns, 404, "no DNS"],
    ["DELETE", "/name", noDns, 404, "no DNS"],
    [
      "GET",
      "/dns-address",
      { more: { dns: { address: () => undefined } } },
      400,
      "not answering DNS queries yet",
    ],
    [
      "PUT",
      "/name/c1/10.32.0.7",
      { does: { "dns add": throwing(new DomainNameError("no name")) } },
      400,
      "no name",
    ],
    ["PUT", `/name/${long}/10.32.0.7`, {}, 400, "container id"],
    ["PUT", "/name/c1/10.32.0", {}, 400, "is not an IPv4 address"],
    ["POST", "/ping?count=0", {}, 400, "count 0 is not a number from 1 to 999"],
    ["POST", "/ping?count=1000", {}, 400, "count 1000 is not"],
    ["POST", "/ping?count=1x", {}, 400, "count 1x is not"],
    ["POST", "/ping?peer=h9", { does: { ping: throwing(new PingError("no peer h9")) } }, 404, "no peer h9"],
    [
      "POST",
      "/connect?peer=:",
      { does: { connect: throwing(new PeerAddressError("peer of no form")) } },
      400,
      "peer of no form",
    ],
    ["POST", `/ask/${peer}/echo`, { body: "{" }, 400, "a question is JSON"],
    [
      "POST",
      `/ask/${peer}/echo?timeout=30001`,
      { body: "1" },
      400,
      "timeout 30001 is not a number from 1 to 30000 ms",
    ],
    ["POST", `/ask/${peer}/echo?timeout=0`, { body: "1" }, 400, "timeout 0 is not"],
    ["POST", "/ask/h2/echo", { body: "1" }, 400, "invalid peer name"],
    ...(
      [
        ["not-ours", 501],
        ["unknown subject", 501],
        ["silent", 504],
        ["refused", 502],
        ["busy", 503],
      ] as const
    ).map(
      ([code, status]) =>
        [
          "POST",
          `/ask/${peer}/echo`,
          { body: "1", does: { ask: throwing(new AskError(code, `it is ${code}`)) } },
          status,
          `it is ${code}`,
        ] as [string, string, Parameters<typeof call>[2], number, string],
    ),
    ["POST", "/expose/10.32.0.7/12?skipNAT=yes", {}, 400, 'unable to parse skipNAT option: "yes"'],
    [
      "DELETE",
      "/expose/10.32.0.7/12",
      { does: { hide: async () => false } },
      400,
      "10.32.0.7/12 is not exposed",
    ],
    ["POST", "/cni/raw", { body: "\0" }, 400, "a CNI call has variables and input"],
    ["POST", "/cni/raw", { body: "12345678PATH=x\0\0" }, 400, "a CNI call has"],
    ["POST", "/cni", { body: "{" }, 400, "a CNI call has variables and input"],
    ["POST", "/cni", { body: '{"variables":{"PATH":"x"},"input":""}' }, 400, "a CNI call has"],
    [
      "POST",
      "/attachment/c1",
      { body: '{"pid":0,"addresses":""}' },
      400,
      "an attachment has pid and addresses",
    ],
    [
      "PUT",
      "/attachment/c1",
      { body: '{"addresses":[],"multicastRoute":true}' },
      400,
      "an attachment has addresses and multicastRoute",
    ],
    [
      "PUT",
      "/attachment/c1",
      { body: '{"addresses":[{"cidr":"10.32.0/12","asked":true}],"multicastRoute":true}' },
      400,
      "10.32.0",
    ],
    [
      ...(["PUT", "/attachment/c1"] as const),
      {
        body: JSON.stringify({
          addresses: Array(65).fill({ cidr: "10.32.0.7/12", asked: true }),
          multicastRoute: true,
        }),
      },
      400,
      "an attachment has addresses",
    ],
    ["GET", "/report", {}, 400, "must supply one format parameter"],
    ["GET", "/report?format=%7B%7B.x", {}, 400, ""],
    ["GET", "/ip/%ff", {}, 400, "URI error"],
  ])("%s %s", async (method, path, options, status, message) => {
    const got = await call(method, path, options);
    expect(got.status).toBe(status);
    expect(got.body).toContain(message);
  });

  test("exhaustion is not logged: the allocator does; what else a caller does wrong is a warning", async () => {
    const failed = async (error: Error) =>
      (await call("POST", "/ip/c1", { does: { allocate: throwing(error) } })).logged;
    expect([
      await failed(new ExhaustedError("none")),
      await failed(new IpamError("none")),
      await failed(new Error("x")),
    ]).toEqual([[], ["warning"], ["error"]]);
  });

  test("of 48 peers at most one ping is sent, and a report is JSON or a template", async () => {
    const many = form(...Array.from({ length: 60 }, (_, i): [string, string] => ["peer", `h${i}`]));
    expect(((await call("POST", "/ping", { body: many })).asked[0] ?? [])[1]).toHaveLength(48);
    const report = await call("GET", "/report", { json: true });
    expect([report.type, JSON.parse(report.body).Router.Targets]).toEqual(["application/json", ["h2"]]);
    expect((await call("GET", "/report?format=%7B%7B.Ready%7D%7D")).body).toBe("true");
  });
});

test("a call that its caller gives up is cancelled where it waits, and so is one that takes too long", async () => {
  for (const [path, step, method] of [
    ["/ip/c1", "allocate", "POST"],
    ["/ip/c1/10.32.0.9/12", "claim", "PUT"],
    ["/ring", "prime", "GET"],
  ] as const) {
    let signal: AbortSignal | undefined;
    const wait = (...args: unknown[]) =>
      new Promise((_resolve, reject) => {
        const last = args.at(-1) as { signal?: AbortSignal } | AbortSignal;
        signal = last instanceof AbortSignal ? last : last.signal;
        signal?.addEventListener("abort", () => reject(new CancelledError("cancelled")));
      });
    const caller = new AbortController();
    const { api } = target({ [step]: wait });
    const waiting = localClient(api, caller.signal)(method, path);
    await Bun.sleep(0);
    expect(signal?.aborted).toBe(false);
    caller.abort();
    await expect(waiting).rejects.toThrow(`the caller has gone: ${method} ${path}`);
    expect(signal?.aborted).toBe(true);
    const late = localClient(target({ [step]: wait }).api)(method, path, { timeoutMs: 5 });
    await expect(late).rejects.toMatchObject({
      status: 504,
      message: `no answer within 5 ms: ${method} ${path}`,
    });
    expect(signal?.aborted).toBe(true);
  }
  const ok = localClient(target().api);
  expect(await ok("POST", "/ip/c1", { timeoutMs: 60_000 })).toBe("10.32.0.7/12");
  await expect(ok("GET", "/nothing")).rejects.toMatchObject({ status: 404, message: "404 page not found" });
});

describe("figures of the API", () => {
  test("CNI calls are counted by command and outcome; what the plugin runs itself is not", async () => {
    let now = 0;
    const times = new CniTimes(() => now);
    // A first failure is an increase: the series is there before, with 0.
    const none = cniText(times.report());
    for (const command of ["ADD", "DEL", "CHECK", "VERSION", "STATUS", "GC", "other"])
      expect(none).toContain(`weave_cni_seconds_count{command="${command}",outcome="failure"} 0\n`);
    const run = (command: string, ms: number, code: number | undefined) =>
      times.measure({ variables: { CNI_COMMAND: command }, input: "", namespace: "" }, async () => {
        now += ms;
        return code === undefined ? undefined : { output: "", code };
      });
    await run("ADD", 12, 0);
    await run("ADD", 3_000, 1);
    await run("ADD", 5, undefined);
    await run("rm -rf", 7, 0);
    const failing = times.measure({ variables: {}, input: "", namespace: "" }, async () => {
      throw new Error("broken");
    });
    await expect(failing).rejects.toThrow("broken");
    expect(
      times
        .report()
        .filter(({ Times }) => Times.count > 0)
        .map(({ Command, Outcome, Times }) => [Command, Outcome, Times.count, Times.sum]),
    ).toEqual([
      ["ADD", "failure", 1, 3],
      ["other", "failure", 1, 0],
      ["ADD", "success", 1, 0.012],
      ["other", "success", 1, 0.007],
    ]);
    const text = cniText(times.report());
    expect(text).toStartWith(
      "\n# HELP weave_cni_seconds Time that CNI calls take in the router.\n# TYPE weave_cni_seconds histogram\n",
    );
    expect(text).toContain('weave_cni_seconds_bucket{command="ADD",outcome="success",le="+Inf"} 1\n');
    expect(text).toContain('weave_cni_seconds_sum{command="ADD",outcome="failure"} 3\n');
    expect(text).toEndWith('weave_cni_seconds_count{command="other",outcome="success"} 1\n');
    expect(cniText([])).toBe("");
    const counts = { buckets: [[0.001, 1]] as const, count: 2, sum: 0.5 };
    const loop = { Lag: counts, KernelCalls: counts, LongestCall: { Operation: "x", Seconds: 0.4 } };
    expect(eventLoopText(undefined)).toBe("");
    expect(eventLoopText(loop)).toContain('\nweave_event_loop_lag_seconds_bucket{le="0.001"} 1\n');
    expect(eventLoopText(loop)).toContain("\nweave_kernel_call_seconds_sum 0.5\n");
    expect(eventLoopText(loop)).toEndWith("\nweave_longest_kernel_call_seconds 0.4\n");
  });

  const link = (id: string, more = {}) => ({
    ...{ id, interface: "eth0", port: `v${id}`, index: 3, addresses: [] },
    ...{
      receivedBytes: 0,
      sentBytes: 0,
      receivedPackets: 0,
      sentPackets: 0,
      receivedDropped: 0,
      sentDropped: 0,
    },
    ...more,
  });
  const sample = (...links: ReturnType<typeof link>[]) => ({ name: "n", nickname: "h", peers: 2, links });

  test("rates are what has grown, by the seconds; the busiest first, then by totals, then by name", () => {
    const before = sample(
      link("a", { receivedBytes: 100, sentPackets: 10, receivedDropped: 1 }),
      link("b", { sentBytes: 50 }),
      link("c", { receivedBytes: 900 }),
      link("same", { receivedBytes: 5 }),
    );
    const now = sample(
      link("z"),
      link("y"),
      link("a", { receivedBytes: 300, sentPackets: 40, receivedDropped: 3, sentDropped: 1 }),
      link("b", { sentBytes: 500 }),
      link("c", { receivedBytes: 100 }),
      link("new", { receivedBytes: 700, receivedDropped: 9 }),
      { ...link("same", { receivedBytes: 50 }), index: 4 },
    );
    const top = topOf(now, before, 2, new Map([["a", "web"]]));
    expect([top.name, top.nickname, top.peers]).toEqual(["n", "h", 2]);
    expect(
      top.containers.map((row) => [row.name, row.receivedBytesPerS, row.sentBytesPerS, row.newlyDropped]),
    ).toEqual([
      ["b", 0, 225, 0],
      ["web", 100, 0, 3],
      ["new", 0, 0, 0],
      ["c", 0, 0, 0],
      ["same", 0, 0, 0],
      ["y", 0, 0, 0],
      ["z", 0, 0, 0],
    ]);
    expect(top.containers[1]).toMatchObject({
      sentPacketsPerS: 15,
      receivedPacketsPerS: 0,
      receivedBytes: 300,
    });
    expect(topOf(now, now, 0, new Map()).containers.every((row) => row.receivedBytesPerS === 0)).toBe(true);
    expect(
      topOf(
        sample({ ...link(""), port: "veth1" }, link("0123456789abcdef")),
        before,
        1,
        new Map(),
      ).containers.map(({ name }) => name),
    ).toEqual(["0123456789ab", "veth1"]);
  });

  test("counters of the host's end are the container's the other way round, with what programs dropped", () => {
    const counters = {
      receivedBytes: 1,
      sentBytes: 2,
      receivedPackets: 3,
      sentPackets: 4,
      receivedDropped: 5,
      sentDropped: 6,
    };
    const state = {
      port: { name: "veth1", index: 9 },
      owner: { containerId: "c1", ifName: "net1" },
      inside: { link: { name: "eth0" }, addresses: [parseCidr("10.32.0.7/12")] },
    } as unknown as Parameters<typeof trafficOf>[0];
    const expected = {
      ...{ id: "c1", interface: "eth0", port: "veth1", index: 9, addresses: ["10.32.0.7/12"] },
      ...{
        receivedBytes: 2,
        sentBytes: 1,
        receivedPackets: 4,
        sentPackets: 3,
        receivedDropped: 6,
        sentDropped: 15,
      },
    };
    expect(trafficOf(state, counters as never, 10)).toEqual(expected);
    expect(trafficOf({ ...state, inside: undefined } as never, counters as never, 0)).toMatchObject({
      interface: "net1",
      addresses: [],
      sentDropped: 5,
    });
    expect(trafficOf({ port: state.port } as never, counters as never, 0)).toMatchObject({
      id: "",
      interface: "",
    });
  });

  test("empty parts of the status say how to fill them", () => {
    const text = (part: string, more: object = {}) => emptyText(part, more as never);
    expect(text("targets")).toContain("'weave connect HOST' names one");
    expect(text("connections")).toContain("connects to a peer");
    expect(text("dns", { DNS: { Domain: "weave.local." } })).toContain("in weave.local. get one");
    expect(text("ipam", { IPAM: { Entries: null, Paxos: null } })).toBe(
      "the address range is not divided among peers yet: idle",
    );
    expect(text("ipam")).toContain("an empty --ipalloc-range");
    expect(text("drops")).toBe("no drops");
  });
});

test("names and addresses of look-ups are told apart by their form", () => {
  expect([fullyQualified("a"), fullyQualified("a.")]).toEqual(["a.", "a."]);
  expect(formatIPv4(parseIPv4("10.32.0.7"))).toBe("10.32.0.7");
});
