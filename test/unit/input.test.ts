// Bad input at the edges, case by case: each has one clear line to say, and changes nothing.

import { afterAll, describe, expect, onTestFinished, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { givenOptions } from "../../cmd/routeroptions.ts";
import { listenAddress, splitHostPort } from "../../lib/address/hostport.ts";
import { checkVersion, parseConfig } from "../../lib/cni/config.ts";
import { readEnvironment } from "../../lib/cni/environment.ts";
import { CniError, CODE } from "../../lib/cni/error.ts";
import { rememberRelease, settleReleases } from "../../lib/ipam/releases.ts";
import { parseFeatures } from "../../lib/mesh/features.ts";
import { ProtocolError } from "../../lib/mesh/framing.ts";
import { Handshake } from "../../lib/mesh/handshake.ts";
import { OptionError, parseOptions } from "../../lib/router/options.ts";

const valid = { CNI_COMMAND: "ADD", CNI_CONTAINERID: "abc", CNI_NETNS: "/run/netns/x", CNI_IFNAME: "eth0" };

describe("CNI environment", () => {
  test.each<[string, Record<string, string | undefined>, string]>([
    ["no command", { CNI_COMMAND: undefined }, "CNI_COMMAND: required"],
    ["an unknown command", { CNI_COMMAND: "FOO" }, 'CNI_COMMAND: "FOO" is not one of ADD'],
    ["no container id", { CNI_CONTAINERID: "" }, "CNI_CONTAINERID: required"],
    ["a container id with a slash", { CNI_CONTAINERID: "a/b" }, "CNI_CONTAINERID"],
    ["no namespace", { CNI_NETNS: undefined }, "CNI_NETNS: required"],
    ["no interface name", { CNI_IFNAME: "" }, "CNI_IFNAME: required"],
    ["an interface name too long", { CNI_IFNAME: "a-very-long-name" }, "at most 15"],
    ["an interface name with a slash", { CNI_IFNAME: "a/b" }, "CNI_IFNAME"],
    ["an interface name of dots", { CNI_IFNAME: ".." }, "CNI_IFNAME"],
  ])("%s", (_what, change, text) => {
    const read = () => readEnvironment({ ...valid, ...change });
    expect(read).toThrow(text);
    expect(read).toThrow(expect.objectContaining({ code: CODE.invalidEnvironment }) as unknown as Error);
  });

  test("a DEL needs no namespace", () => {
    expect(readEnvironment({ ...valid, CNI_COMMAND: "DEL", CNI_NETNS: undefined }).netns).toBe("");
  });
});

describe("CNI configuration", () => {
  test.each<[string, string, number, string]>([
    ["nothing", "", CODE.decode, "failed to load netconf"],
    ["no JSON", "{", CODE.decode, "failed to load netconf"],
    ["a list", "[]", CODE.invalidConfig, "network configuration"],
    ["a bridge name too long", '{"bridge":"a-very-long-name"}', CODE.invalidConfig, "bridge: too long"],
    ["a negative MTU", '{"mtu":-1}', CODE.invalidConfig, "mtu: negative"],
    ["an MTU in words", '{"mtu":"big"}', CODE.invalidConfig, "mtu"],
    ["a huge MTU", '{"mtu":70000}', CODE.invalidConfig, "mtu: more than 65535"],
    ["hairpin in words", '{"hairpinMode":"yes"}', CODE.invalidConfig, "hairpinMode"],
    [
      "a subnet with host bits",
      '{"ipam":{"subnet":"10.32.0.1/24"}}',
      CODE.invalidConfig,
      "ipam.subnet: invalid subnet",
    ],
    [
      "a subnet too small",
      '{"ipam":{"subnet":"10.32.0.0/31"}}',
      CODE.invalidConfig,
      "smaller than minimum size",
    ],
    ["a gateway that is no address", '{"ipam":{"gateway":"10.32.0"}}', CODE.invalidConfig, "ipam.gateway"],
    ["routes that are no list", '{"ipam":{"routes":{}}}', CODE.invalidConfig, "ipam.routes"],
    [
      "a route without prefix",
      '{"ipam":{"routes":[{"dst":"10.0.0.0"}]}}',
      CODE.invalidConfig,
      "ipam.routes.0.dst",
    ],
    ["an IPAM plugin elsewhere", '{"ipam":{"type":"../evil"}}', CODE.invalidConfig, "ipam.type"],
    ["a network name with a slash", '{"name":"a/b"}', CODE.invalidConfig, "name: not a valid network name"],
    ["a gateway to be", '{"isGateway":true}', CODE.unsupportedField, "Gateway functionality not supported"],
    ["masquerading", '{"ipMasq":true}', CODE.unsupportedField, "Masquerading functionality not supported"],
  ])("%s", (_what, config, code, text) => {
    let error: unknown;
    try {
      parseConfig(config);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(CniError);
    expect((error as CniError).code).toBe(code);
    expect((error as CniError).message).toContain(text);
    expect((error as CniError).message).not.toContain("\n");
  });

  test("a version to come", () => {
    expect(() => checkVersion("9.9.9")).toThrow("incompatible CNI versions");
  });
});

describe("router options", () => {
  test.each<[Record<string, unknown>, string[], string]>([
    [{ port: "0" }, [], "--port"],
    [{ port: "65535" }, [], "--port"],
    [{ port: "six" }, [], "--port"],
    [{ name: "host1" }, [], "--name"],
    [{ name: "zz" }, [], '--name: invalid peer name format: "zz"'],
    [{ name: "ff:ff:ff:ff:ff:ff" }, [], "unicast"],
    [{ name: "01:00:5e:00:00:01" }, [], "unicast"],
    [{ name: "00:00:00:00:00:00" }, [], "unicast"],
    [{ "conn-limit": "99999999999999" }, [], "more than 4096"],
    [{ "dns-domain": "" }, [], '--dns-domain: "" is not a domain name'],
    [{ "docker-api": "tcp://192.0.2.1" }, [], '--docker-api: "tcp://192.0.2.1" is not'],
    [{ "trusted-subnets": "x" }, [], '--trusted-subnets: "x" is not an IPv4'],
    [{ nickname: "" }, [], "--nickname"],
    [{ host: "nowhere" }, [], "--host"],
    [{ mtu: "100" }, [], "--mtu"],
    [{ "conn-limit": "-1" }, [], "--conn-limit"],
    [{ "ipalloc-range": "10.32.0.0" }, [], "--ipalloc-range"],
    [{ "ipalloc-range": "10.32.0.1/12" }, [], "bits after network prefix"],
    [{ "ipalloc-range": "10.32.0.0/31" }, [], "smaller than minimum size"],
    [{ "ipalloc-range": "0.0.0.0/0" }, [], "no container can use"],
    [{ "ipalloc-range": "127.0.0.0/8" }, [], "127.0.0.0/8 (loopback)"],
    [{ "ipalloc-range": "239.1.0.0/16" }, [], "224.0.0.0/4 (multicast)"],
    [{ "ipalloc-range": "255.255.255.0/24" }, [], "(broadcast)"],
    [{ "ipalloc-default-subnet": "192.168.0.0/16" }, [], "does not overlap"],
    [{ "ipalloc-init": "sometimes" }, [], "--ipalloc-init"],
    [{ "ipalloc-init": "consensus=many" }, [], "--ipalloc-init"],
    [{ "ipalloc-init": "seed=host1" }, [], "--ipalloc-init"],
    [{ "ipalloc-init": "observer=1" }, [], "--ipalloc-init"],
    [{ "trusted-subnets": "10.0.0.0/8,home" }, [], "--trusted-subnets"],
    [{ "min-protocol-version": "3" }, [], "--min-protocol-version"],
    [{ "http-addr": "127.0.0.1" }, [], "--http-addr"],
    [{ "http-addr": "127.0.0.1:6784/" }, [], "--http-addr"],
    [{ "metrics-addr": "10.0.0.1 :6782" }, [], "--metrics-addr"],
    [{ "dns-listen-address": "host1:53" }, [], "--dns-listen-address"],
    [{ password: "" }, [], '--password: "": is empty'],
    [{}, ["10.0.0.1/24"], 'peer "10.0.0.1/24": should be HOST or HOST:PORT'],
    [{ "log-level": "loud" }, [], "--log-level"],
    [{ "log-format": "xml" }, [], "--log-format"],
    [{}, ["host:port"], 'peer "host:port": should be HOST or HOST:PORT'],
    [{}, ["1.2.3.4:99999"], "should be HOST or HOST:PORT"],
    [{}, ["[fd00::1]:7"], 'peer "[fd00::1]:7": hosts connect over IPv4; give an IPv4 address'],
    [{}, ["fd00::1"], 'peer "fd00::1": hosts connect over IPv4; give an IPv4 address'],
  ])("%p %p", (raw, peers, text) => {
    const parse = () => parseOptions(raw, peers);
    expect(parse).toThrow(OptionError);
    expect(parse).toThrow(text);
  });

  test("defaults", () => {
    const options = parseOptions({}, ["10.0.0.1", "host:7000"]);
    expect(options).toMatchObject({ port: 6783, mtu: "auto", "conn-limit": 200, discovery: true });
    expect(options.password).toBeUndefined();
    expect(options["http-addr"]).toEqual({ host: "127.0.0.1", port: 6784 });
  });
});

test("variables that Kubernetes sets for a Service called weave are not ours", () => {
  const service = {
    WEAVE_SERVICE_HOST: "10.96.0.7",
    WEAVE_SERVICE_PORT: "80",
    WEAVE_PORT: "tcp://10.96.0.7:80",
  };
  expect(givenOptions({}, service)).toEqual({});
  expect(givenOptions({}, { WEAVE_PORT: "7000" })).toEqual({ port: "7000" });
  expect(() => parseOptions(givenOptions({}, { WEAVE_PORT: "tcp" }), [])).toThrow("--port");
});

describe("remembered releases", () => {
  const folder = mkdtempSync(join(tmpdir(), "weave-releases-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  test("files that are none of ours stop nothing, and are told", () => {
    writeFileSync(join(folder, "%"), "");
    mkdirSync(join(folder, "folder"));
    writeFileSync(join(folder, "folder/file"), "");
    rememberRelease(folder, "a/b", "weave/eth0");
    const [released, told]: [string[], string[]] = [[], []];
    settleReleases(
      folder,
      (id) => released.push(id),
      (text) => told.push(text),
    );
    expect(released).toContain("a/b");
    expect(told.join()).toContain(join(folder, "%"));
    expect(readdirSync(folder).sort()).toEqual(["%", "folder"]);
  });
});

describe("bytes of a peer", () => {
  const text = (value: string) => new TextEncoder().encode(value);
  const weave = (...rest: number[]) => new Uint8Array([...text("weave"), ...rest]);

  test.each<[string, Uint8Array, string]>([
    ["another protocol", text("GET / HTTP/1.1\r\n"), "remote protocol header not recognised"],
    ["versions we do not speak", weave(3, 9), "incompatible with ours"],
    ["an encryption flag that there is not", weave(1, 2, 7), "Bad encryption flag 7"],
    ["encryption where we have no password", weave(1, 2, 1), "no password specified"],
    ["a message of 4 GB", weave(1, 2, 0, 0xff, 0xff, 0xff, 0xff), "incoming message exceeds maximum size"],
    ["features that are no gob", weave(1, 2, 0, 0, 0, 0, 3, 9, 9, 9), "gob ends early"],
    ["a public key that is no key", weave(1, 1, 0xff, 0xff), ""],
  ])("%s", (_what, bytes, message) => {
    const handshake = new Handshake({ outbound: false, features: new Map() }, () => {});
    if (message === "") expect(handshake.receive(bytes)).toBeUndefined();
    else expect(() => handshake.receive(bytes)).toThrow(message);
  });

  test("endless features", () => {
    const handshake = new Handshake({ outbound: false, features: new Map() }, () => {});
    handshake.receive(weave(1, 2, 0, 0, 0x90, 0, 0));
    expect(() => handshake.receive(new Uint8Array(70_000))).toThrow("handshake too long");
  });

  const features = {
    PeerNameFlavour: "mac",
    Name: "00:00:00:00:00:01",
    NickName: "n",
    UID: "1",
    ConnID: "2",
  };
  test.each<[string, Record<string, string | undefined>, string]>([
    ["no name", { Name: undefined }, "field Name is missing"],
    ["another kind of names", { PeerNameFlavour: "hash" }, "Peer name flavour mismatch"],
    ["a name that is none", { Name: "host1" }, "invalid peer name format"],
    ["a uid that is no number", { UID: "-1" }, "field UID is not a number"],
    ["a uid of 65 bits", { UID: "18446744073709551616" }, "field UID is not a number"],
    ["a short id of 13 bits", { ShortID: "4096" }, "field ShortID is not a number"],
    ["a nickname without end", { NickName: "n".repeat(2000) }, "nickname too long"],
  ])("features with %s", (_what, change, message) => {
    const all = Object.entries({ ...features, ...change }).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    );
    expect(() => parseFeatures(new Map(all))).toThrow(message);
  });

  test("protocol errors are told from ours", () => {
    expect(() => parseFeatures(new Map())).toThrow(ProtocolError);
  });
});

test.each([
  ...["", ":6783", "host:", "host:0", "host:65536", "a:b:c", "[::1", "[host]:1", "[::1]x:1", "::1"],
  ...["host:6783 ", "host:6783/x", "host:67x", " host", "host/24", "10.0.0.1/24", "1.2.3", "1.2.3.256:1"],
  ...["1.2.3.4.5", "http://host", "user@host", "-host", "host-:1", "a..b", `${"a".repeat(64)}:1`, "host:1\n"],
])("%p is no address of a peer", (text) => {
  expect(splitHostPort(text)).toBeUndefined();
});

test.each([
  ["10.0.0.1", "10.0.0.1", undefined],
  ["host_1.example.:65535", "host_1.example.", 65535],
  ["[fe80::1%eth0]:1", "fe80::1%eth0", 1],
])("%p is an address of a peer", (text, host, port) => {
  expect(splitHostPort(text)).toEqual({ host, port });
});

test.each<[string, string | undefined]>([
  [":6781", "0.0.0.0"],
  ["127.0.0.1:6781", "127.0.0.1"],
  ["[::1]:6781", "::1"],
  ["localhost:6781", "localhost"],
  ["host1:6781", undefined],
  [":6781x", undefined],
  ["127.0.0.1", undefined],
  ["a:b:6781", undefined],
])("to listen on %p", (text, host) => {
  expect(listenAddress(text)?.host).toBe(host as string);
});

test("a password file comes before the environment, and not with --password", () => {
  const folder = mkdtempSync(join(tmpdir(), "weave-password-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "key");
  writeFileSync(file, "of the file\n");
  const options = { "password-file": file };
  expect(givenOptions(options, { WEAVE_PASSWORD: "of the environment" })).toEqual({
    password: "of the file",
  });
  expect(() => givenOptions({ ...options, password: "x" }, {})).toThrow("not both");
});

test("an empty variable is no password, an empty option is refused", () => {
  expect(givenOptions({}, { WEAVE_PASSWORD: "" })).toEqual({});
  const given = givenOptions({ password: "" }, { WEAVE_PASSWORD: "from the environment" });
  expect(() => parseOptions(given, [])).toThrow("--password");
});
