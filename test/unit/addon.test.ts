// The variables of the Kubernetes addon: each as the original's documentation or its launch script has it.
import { describe, expect, test } from "bun:test";
import { readAddon } from "../../cmd/addon.ts";
import { readArguments } from "../../cmd/arguments.ts";
import { router } from "../../cmd/commands/router.ts";
import { formatCidr } from "../../lib/address/ipv4.ts";

const NODE = { HOSTNAME: "node1" };
const addon = (env: Record<string, string> = {}, ...argv: string[]) =>
  readAddon({ ...NODE, ...env }, readArguments(router, argv));
const options = (env: Record<string, string> = {}, ...argv: string[]) =>
  addon(env, ...argv).options({ peers: ["10.0.0.2", "10.0.0.3"] });

test("without any variable: what the original's launch script says", () => {
  const read = options();
  expect(formatCidr(read.range)).toBe("10.32.0.0/12");
  expect(read["metrics-addr"]).toEqual({ host: "0.0.0.0", port: 6782 });
  expect(read["status-addr"]).toBeUndefined();
  expect(read).toMatchObject({
    nickname: "node1",
    dns: false,
    "docker-api": [],
    "conn-limit": 200,
    "expect-npc": true,
    "masq-local": false,
    fastdp: true,
    mtu: "auto",
    "ipalloc-init": { kind: "consensus", count: 3 },
    peers: ["10.0.0.2", "10.0.0.3"],
  });
  expect(addon()).toMatchObject({
    node: "node1",
    peers: undefined,
    exposeAddress: undefined,
    policies: true,
  });
});

describe("variables", () => {
  test.each<[string, string, object]>([
    ["CONN_LIMIT", "50", { "conn-limit": 50 }],
    ["IPALLOC_RANGE", "10.0.0.0/16", { range: { address: 0x0a000000, prefix: 16 } }],
    ["IPALLOC_INIT", "observer", { "ipalloc-init": { kind: "observer" } }],
    ["IPALLOC_INIT", "consensus=9", { "ipalloc-init": { kind: "consensus", count: 9 } }],
    ["WEAVE_MTU", "1337", { mtu: 1337 }],
    ["WEAVE_METRICS_ADDR", "127.0.0.1:9999", { "metrics-addr": { host: "127.0.0.1", port: 9999 } }],
    ["WEAVE_STATUS_ADDR", "0.0.0.0:6785", { "status-addr": { host: "0.0.0.0", port: 6785 } }],
    ["WEAVE_HTTP_ADDR", "127.0.0.1:7784", { "http-addr": { host: "127.0.0.1", port: 7784 } }],
    ["WEAVE_PASSWORD", "s3cr3t", { password: "s3cr3t" }],
    ["WEAVE_NO_FASTDP", "1", { fastdp: false }],
    ["EXPECT_NPC", "0", { "expect-npc": false }],
    ["EXPECT_NPC", "1", { "expect-npc": true }],
    ["NO_MASQ_LOCAL", "0", { "masq-local": true }],
    ["NO_MASQ_LOCAL", "1", { "masq-local": false }],
    ["LOG_LEVEL", "debug", { "log-level": "debug" }],
    ["EXTRA_ARGS", "--log-level=debug --no-discovery 10.0.0.9", { "log-level": "debug", discovery: false }],
    ["CHECKPOINT_DISABLE", "1", {}],
  ])("%s=%s", (name, value, expected) => {
    expect(options({ [name]: value })).toMatchObject(expected);
  });

  test("KUBE_PEERS: the peers, and how many have to agree on the first division", () => {
    const read = addon({ KUBE_PEERS: "10.0.0.5 10.0.0.6,host.example.com:6783" });
    expect(read.peers).toEqual(["10.0.0.5", "10.0.0.6", "host.example.com:6783"]);
    expect(read.options({ peers: read.peers ?? [] })["ipalloc-init"]).toEqual({
      kind: "consensus",
      count: 4,
    });
  });

  test("WEAVE_EXPOSE_IP: with a prefix, or in the default subnet", () => {
    expect(addon({ WEAVE_EXPOSE_IP: "10.32.0.1/16" }).exposeAddress).toBe("10.32.0.1/16");
    expect(addon({ WEAVE_EXPOSE_IP: "10.32.0.1" }).exposeAddress).toBe("10.32.0.1/12");
  });

  test("what was said last counts: the command line, a variable, EXTRA_ARGS", () => {
    const env = { EXTRA_ARGS: "--conn-limit=10 --mtu=1000" };
    expect(options(env)["conn-limit"]).toBe(10);
    expect(options({ ...env, CONN_LIMIT: "20" })["conn-limit"]).toBe(20);
    expect(options({ ...env, CONN_LIMIT: "20" }, "--conn-limit=30")["conn-limit"]).toBe(30);
    expect(options(env, "--mtu=1100").mtu).toBe(1100);
  });

  test.each([
    [{ CONN_LIMIT: "many" }, 'CONN_LIMIT: "many": not a whole number'],
    [{ IPALLOC_RANGE: "10.0.0.0" }, 'IPALLOC_RANGE: "10.0.0.0" is not'],
    [{ IPALLOC_INIT: "now" }, 'IPALLOC_INIT: "now": should be consensus'],
    [{ EXPECT_NPC: "perhaps" }, 'EXPECT_NPC: "perhaps": should be 0 or 1'],
    [{ NO_MASQ_LOCAL: "2" }, 'NO_MASQ_LOCAL: "2": should be 0 or 1'],
    [{ WEAVE_EXPOSE_IP: "here" }, "WEAVE_EXPOSE_IP: "],
    [{ EXTRA_ARGS: "--colour=red" }, "EXTRA_ARGS: unknown option --colour"],
    [{ KUBE_PEERS: "10.0.0.1:99999" }, 'peer "10.0.0.1:99999"'],
    [{ LOG_LEVEL: "loud" }, 'LOG_LEVEL: "loud": should be one of'],
  ])("%o is refused", (env, message) => {
    expect(() => addon(env)).toThrow(message);
  });

  test("HOSTNAME has to say which node this is", () => {
    expect(() => addon({ HOSTNAME: "" })).toThrow("HOSTNAME is not set");
  });
});
