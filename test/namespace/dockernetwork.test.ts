// Docker's networks of driver weave: two hosts with a dockerd each, and containers that find each other.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { apiClient, holders } from "../../lib/api/client.ts";
import { poolId } from "../../lib/container/plugin/pool.ts";
import { DockerHost } from "../support/dockerhosts.ts";
import { eventually, Hosts, must } from "../support/hosts.ts";

const NET = ["--driver=weave", "--ipam-driver=weave"];
/** As weave dns-args prints it. */
const DNS = ["--dns=172.17.0.1", "--dns-search=weave.local"];

let hosts: Hosts;
let a: DockerHost;
let b: DockerHost;

/** "ID ADDRESS,…" of each holder of addresses on a host. */
async function held({ host }: DockerHost): Promise<string> {
  const byId = await holders(apiClient(join(host.folder, "run/weave.sock")));
  return Array.from(byId, ([id, addresses]) => `${id} ${addresses.join()}`).join("\n");
}

const addressOf = (on: DockerHost, container: string, network: string) =>
  on.docker("inspect", "-f", `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`, container);

const ping = (on: DockerHost, from: string, to: string) =>
  on.tryDocker("exec", from, "/bin/ping", "-c", "1", "-W", "2", to);
const reaches = (on: DockerHost, from: string, to: string, answer = /1 packets received/) =>
  eventually(
    `${from} reaches ${to}`,
    async () => (await ping(on, from, to)).stdout,
    (text) => answer.test(text),
  );

/** Addresses of a name, asked as the container is configured to; its C library has no resolver. */
async function resolved(on: DockerHost, from: string, name: string): Promise<string[]> {
  const { stdout } = await on.tryDocker("exec", from, "/bin/nslookup", name);
  const [, ...answers] = stdout.split("\nName:");
  return answers.flatMap((text) => /Address: ([\d.]+)/.exec(text)?.[1] ?? []);
}

/** Finds a container by name, and reaches it. */
async function found(what: string, on: DockerHost, from: string, name: string): Promise<void> {
  const addresses = await eventually(
    what,
    () => resolved(on, from, name),
    ({ length }) => length > 0,
    15_000,
  );
  for (const address of addresses) await reaches(on, from, address);
}

const launch = (on: DockerHost, ...peers: string[]) =>
  on.weave("launch", "--docker-plugin", "--ipalloc-init=consensus=2", ...peers);

beforeAll(async () => {
  hosts = await Hosts.create("dn", 2);
  [a, b] = await Promise.all([DockerHost.create(hosts.host(1)), DockerHost.create(hosts.host(2))]);
  await launch(a);
  await launch(b, "10.99.0.1");
  await Promise.all([a, b].map((on) => on.startDocker("--live-restore")));
  await Promise.all([a, b].map((on) => on.image()));
}, 300_000);

afterAll(async () => {
  await Promise.all([a, b].map((on) => on?.end()));
  hosts?.disposeSync();
}, 300_000);

test("two services find each other by name across two hosts, as a compose file has them", async () => {
  for (const on of [a, b])
    await on.docker(
      "network",
      "create",
      ...NET,
      "--subnet=10.40.1.0/24",
      "-o",
      "works.weave.multicast",
      "app_default",
    );
  const alias = (name: string) => ["--network=app_default", `--network-alias=${name}`, ...DNS];
  const web = await a.run("app-web-1", ...alias("web"), "-p", "18080:80");
  await b.run("app-db-1", ...alias("db"), "--sysctl=net.ipv4.icmp_echo_ignore_broadcasts=0");
  await found("web finds db", a, "app-web-1", "db");
  await found("db finds web by its container's name", b, "app-db-1", "app-web-1");
  await found("web by its name with that of the network", b, "app-db-1", "web.app_default.weave.local");
  const address = await addressOf(a, "app-web-1", "app_default");
  expect(address).toMatch(/^10\.40\.1\./);
  expect(await held(a)).toContain(`${web} ${address}/24`);
  expect(await a.weave("ps")).toContain(`${web.slice(0, 12)} `);

  const [inspected] = JSON.parse(await a.docker("network", "inspect", "app_default"));
  expect([inspected.Driver, inspected.Scope, inspected.IPAM.Driver, inspected.IPAM.Config[0].Subnet]).toEqual(
    ["weave", "local", "weave", "10.40.1.0/24"],
  );
  expect(inspected.Containers[web].IPv4Address).toBe(`${address}/24`);

  // Who answers a multicast ping: only the container on the other host does.
  await reaches(a, "app-web-1", "224.0.0.1", /bytes from 10\.40\.1\./);

  await a.docker("exec", "-d", "app-web-1", "/bin/httpd", "-f", "-p", "80");
  await eventually(
    "the published port answers from the other host",
    () => b.host.exec(["curl", "-s", "-m", "2", "-o", "/dev/null", "http://10.99.0.1:18080/"]),
    ({ code }) => code === 0,
  );
  await reaches(a, "app-web-1", "10.99.0.2");
}, 300_000);

test("a network of another subnet is apart; a container can be on both, with an address of its choice", async () => {
  for (const on of [a, b])
    await on.docker("network", "create", ...NET, "--subnet=10.40.2.0/24", "--gateway=10.40.2.1", "other");
  await a.run("both", "--network=other", "--ip=10.40.2.77");
  const taken = await b.tryDocker(
    "run",
    "--rm",
    "--network=other",
    "--ip=10.40.2.77",
    "busybox:test",
    "/bin/true",
  );
  expect(taken.stderr).toContain("10.40.2.77");
  expect(taken.code).toBe(125);
  await b.run("far", "--network=other");
  const far = await addressOf(b, "far", "other");
  await reaches(a, "both", far);
  expect((await ping(a, "app-web-1", far)).stdout).toContain("100% packet loss");
  await a.docker("network", "connect", "--alias=bridge", "app_default", "both");
  await found("it is found by its alias on the network that it was connected to", b, "app-db-1", "bridge");
  const address = await addressOf(a, "both", "app_default");
  await a.docker("network", "disconnect", "app_default", "both");
  expect(await held(a)).not.toContain(address);
  await eventually(
    "its name there is gone",
    () => a.weave("dns-lookup", "bridge"),
    (text) => text === "",
  );
  await reaches(a, "both", far);
}, 300_000);

test("containers go on while dockerd or weave is away, and both know their addresses afterwards", async () => {
  const before = await held(a);
  const db = await addressOf(b, "app-db-1", "app_default");
  await a.endDocker("SIGKILL");
  await a.host.killRouter();
  rmSync(join(a.host.folder, "docker/docker.pid"), { force: true });
  await launch(a, "10.99.0.2");
  await a.startDocker("--live-restore");
  await found("a container that was there all the time", a, "app-web-1", "db");
  expect((await held(a)).split("\n").sort()).toEqual(before.split("\n").sort());
  await a.run("late", "--network=app_default");
  await reaches(a, "late", db);
  await a.weave("stop");
  await launch(a, "10.99.0.2");
  await a.run("later", "--network=app_default");
  await a.docker("restart", "-t", "0", "app-web-1");
  await found("one that was restarted", b, "app-db-1", "web");
  await a.docker("rm", "-f", "late", "later", "both", "app-web-1");
  await eventually(
    "all addresses are released",
    () => held(a),
    (text) => !text.includes("10.40."),
  );
}, 300_000);

test("endpoints of a dockerd that has lost its state are let go of, and wrong requests are answered", async () => {
  for (const name of ["weave", "weavemesh"]) expect(a.pluginMode(name)).toBe(0o600);
  const bad = await a.tryDocker("network", "create", ...NET, "--subnet=192.168.50.0/24", "outside");
  expect(bad.stderr).toContain("subnet 192.168.50.0/24 is not within the range of the network, 10.32.0.0/12");
  const option = await a.tryDocker("network", "create", ...NET, "-o", "works.weave.multicats", "typo");
  expect(option.stderr).toContain("unknown option works.weave.multicats");
  // An address that dockerd names may be a pod's by now.
  const api = apiClient(join(a.host.folder, "run/weave.sock"));
  const [address = ""] = (await api("POST", "/ip/pod1")).split("/");
  const pool = poolId({ subnet: parseCidr("10.32.0.0/12"), range: parseCidr("10.32.0.0/12") });
  expect(await a.plugin("IpamDriver.ReleaseAddress", { PoolID: pool, Address: address })).toBe("{}");
  expect(await held(a)).toBe(`pod1 ${address}/12`);
  await api("DELETE", "/ip/pod1");
  for (const [on, container] of [
    [b, "app-db-1"],
    [b, "far"],
  ] as const)
    await on.docker("rm", "-f", container);
  for (const on of [a, b]) await on.docker("network", "rm", "app_default", "other");
  for (const on of [a, b]) {
    expect(await held(on)).toBe("");
    await eventually(
      "its links are gone",
      () => must(["ip", "-n", on.host.netns, "link", "show", "type", "veth"]),
      (links) => !links.includes("vethwg"),
    );
  }
}, 300_000);
