// The plugin of netavark, called as podman 5 and netavark call it: by a link in their folder, with JSON.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { apiClient, holders } from "../../lib/api/client.ts";
import { eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";

let hosts: Hosts;
let host: Host;
let folder: string;
let pods: [string, string];

const NETWORK = { name: "app", id: "1".repeat(64), driver: "weave", internal: false, ipv6_enabled: false };

/** Calls the plugin; returns its exit code and what it prints, as JSON. */
async function call(
  args: readonly string[],
  input: object,
): Promise<{ code: number; answer: Record<string, unknown> }> {
  const { code, stdout } = await host.exec([join(folder, "weave"), ...args], {
    stdin: JSON.stringify(input),
  });
  return { code, answer: stdout === "" ? {} : JSON.parse(stdout) };
}

const exec1 = (network: object, more: object = {}) => ({
  ...{ container_id: "c1".repeat(32), container_name: "web", port_mappings: null, network },
  network_options: {
    interface_name: "eth0",
    aliases: ["db", "c1c1c1c1c1c1"],
    static_ips: null,
    static_mac: null,
    ...more,
  },
});

const held = async () =>
  Array.from(
    await holders(apiClient(join(host.folder, "run/weave.sock"))),
    ([id, addresses]) => `${id} ${addresses}`,
  );

/** A web server in a namespace. */
const serveIn = (name: string) =>
  Bun.spawn(["ip", "netns", "exec", name, "busybox", "httpd", "-f", "-p", "80", "-h", host.folder]);

beforeAll(async () => {
  hosts = await Hosts.create("na", 1);
  host = hosts.host(1);
  folder = join(host.folder, "plugins/netavark");
  pods = [await hosts.pod("one"), await hosts.pod("two")];
  await host.weave("launch", "--ipalloc-init=consensus=1", "--docker-api=");
  const cni = ["--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir];
  await host.weave("setup", "--netavark", "--netavark-dir", folder, ...cni);
}, 300_000);

afterAll(() => hosts?.disposeSync());

test("a network is created, two containers are set up and talk, have names, and are torn down", async () => {
  expect((await call(["info"], {})).answer).toMatchObject({ api_version: "1.0.0" });
  const created = await call(["create"], { ...NETWORK, subnets: [{ subnet: "10.40.1.0/24" }] });
  expect(created.answer).toMatchObject({ options: { subnet: "10.40.1.0/24" }, subnets: [] });
  const port_mappings = [{ container_port: 80, host_ip: "", host_port: 18081, protocol: "tcp", range: 1 }];
  const one = { ...exec1(created.answer, { static_mac: "02:00:00:00:00:77" }), port_mappings };
  const two = { ...exec1(created.answer, { static_ips: ["10.40.1.77"] }), container_id: "c2".repeat(32) };
  const first = await call(["setup", pods[0]], one);
  expect(first).toMatchObject({
    code: 0,
    answer: {
      dns_search_domains: ["weave.local"],
      interfaces: { eth0: { mac_address: "02:00:00:00:00:77" } },
    },
  });
  const second = await call(["setup", pods[1]], two);
  expect(second.answer).toMatchObject({ interfaces: { eth0: { subnets: [{ ipnet: "10.40.1.77/24" }] } } });
  await must([
    "ip",
    "netns",
    "exec",
    pods[0].replace("/run/netns/", ""),
    "ping",
    "-c",
    "1",
    "-W",
    "2",
    "10.40.1.77",
  ]);
  const { dns_server_ips: [server] = [] } = first.answer as { dns_server_ips?: string[] };
  const asked = await exec([
    "ip",
    "netns",
    "exec",
    pods[1].replace("/run/netns/", ""),
    "dig",
    "+short",
    `@${server}`,
    "db.app.weave.local",
  ]);
  expect(asked.stdout.split("\n").filter(Boolean).sort()).toEqual(["10.40.1.1", "10.40.1.77"]);

  const [, name = ""] = /([^/]+)$/.exec(pods[0]) ?? [];
  await using web = serveIn(name);
  await eventually(
    "the published port answers",
    () => host.exec(["curl", "-s", "-m", "2", "-o", "/dev/null", "http://10.99.0.1:18081/"]),
    ({ code }) => code === 0,
  );
  expect(web.exitCode).toBeNull();

  const again = await call(["setup", pods[0]], one);
  expect([again.code, again.answer["error"]]).toEqual([
    1,
    expect.stringContaining("has an interface eth0 already"),
  ]);
  for (const [pod, container] of [
    [pods[0], one],
    [pods[1], two],
    [pods[1], two],
  ] as const)
    expect(await call(["teardown", pod], container)).toEqual({ code: 0, answer: {} });
  expect((await held()).filter((text) => !text.startsWith("weave:expose"))).toEqual([]);
  expect(await host.weave("dns-lookup", "db")).toBe("");
});

test("what is wrong is an error in JSON, and a teardown while no router runs is settled later", async () => {
  for (const [args, input, why] of [
    [["create"], { ...NETWORK, ipv6_enabled: true }, "IPv6 is not supported"],
    [["setup"], {}, "the path of the network namespace is missing"],
    [["setup", pods[0]], {}, "the container on standard input is invalid"],
    [["update"], {}, "unknown command update"],
  ] as const) {
    const { code, answer } = await call(args, input);
    expect([code, answer["error"]]).toEqual([1, expect.stringContaining(why)]);
  }
  const container = exec1(NETWORK);
  // A label of a name has 63 octets.
  const unnameable = { ...container, container_name: "a".repeat(64) };
  expect((await call(["setup", pods[0]], unnameable)).answer["error"]).toBeUndefined();
  expect(await host.weave("dns-lookup", "db")).toContain("10.");
  await host.weave("stop");
  expect((await call(["setup", pods[1]], container)).answer["error"]).toContain("weave is not running");
  expect((await call(["teardown", pods[0]], container)).code).toBe(0);
  await host.weave("launch", "--ipalloc-init=consensus=1", "--docker-api=");
  await eventually("nobody holds an address but the host", held, (holders) =>
    holders.every((text) => text.startsWith("weave:expose")),
  );
  expect(await host.weave("setup", "--netavark", "--netavark-dir", folder, "--remove")).toBe(
    `removed ${folder}/weave\n`,
  );
}, 300_000);
