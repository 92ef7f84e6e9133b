// What the variables of the Kubernetes addon do on a host, run as a static pod is: with peers that are named, and no API
// server.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";
import { addPod, type Pod, ping, podCommand } from "../support/pods.ts";

let hosts: Hosts;
let host: Host;
let outside: Host;
let router: Bun.Subprocess<"ignore", "ignore", "pipe"> | undefined;

const environment = (env: Record<string, string> = {}) => ({
  ...process.env,
  ...host.env,
  HOSTNAME: "node1",
  KUBE_PEERS: host.ip,
  IPALLOC_INIT: "consensus=1",
  ...env,
});

/** Starts the router as the addon's pod does, and waits until it is ready. */
async function start(env: Record<string, string> = {}): Promise<void> {
  router = Bun.spawn(host.command(join(DIST, "weave-router"), "--kubernetes"), {
    env: environment(env),
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  await eventually(
    "the host is ready",
    async () => (await host.exec(["curl", "-s", "http://127.0.0.1:6784/readyz"])).stdout,
    (text) => text === "ok\n",
  );
}

async function stop(): Promise<void> {
  router?.kill();
  await router?.exited;
  router = undefined;
}

beforeEach(async () => {
  hosts = await Hosts.create("env", 2);
  [host, outside] = [hosts.host(1), hosts.host(2)];
});

afterEach(async () => {
  await stop();
  hosts.disposeSync();
});

test("the host gets its address by itself, or the one of WEAVE_EXPOSE_IP; it goes by the name of its node", async () => {
  const addresses = () => host.must(["ip", "-o", "-4", "addr", "show", "weave"]);
  await start();
  expect(await addresses()).toMatch(/ 10\.32\.0\.1\/12 /);
  expect(await host.weave("status")).toContain("(node1)");
  expect(await host.weave("--local", "status", "ipam")).toContain("(1 active)");
  await stop();
  await host.weave("reset", "--yes");
  await start({ WEAVE_EXPOSE_IP: "10.33.0.9", EXPECT_NPC: "0" });
  expect(await addresses()).toMatch(/ 10\.33\.0\.9\/12 /);
}, 300_000);

test("status and metrics are served where they are wanted, to others too", async () => {
  await start({ WEAVE_STATUS_ADDR: "0.0.0.0:6785", WEAVE_METRICS_ADDR: `${host.ip}:6999` });
  const get = async (url: string) => (await outside.exec(["curl", "-s", "-m", "5", url])).stdout;
  expect(await get(`http://${host.ip}:6785/status`)).toContain("Service: router");
  const metrics = await get(`http://${host.ip}:6999/metrics`);
  expect(metrics).toContain("weave_max_ips 1048576\n");
  expect(metrics).toContain('weave_ips{state="local-used"} 1\n');
  expect(await get(`http://${host.ip}:6784/status`)).toBe("");
  // A name could be made to mean this host by others.
  const named = ["curl", "-s", "-H", "Host: evil.example.com", `http://${host.ip}:6785/status`];
  expect((await outside.exec(named)).stdout).toContain("refused");
  await stop();
  await start();
  expect(await get(`http://${host.ip}:6782/metrics`)).toContain("weave_ready 1\n");
  expect(await get(`http://${host.ip}:6785/status`)).toBe("");
}, 300_000);

describe("NO_MASQ_LOCAL", () => {
  /** Who a pod takes a client outside for, that comes by a port of the host. */
  async function seenBy(pod: Pod): Promise<string> {
    const script = `Bun.listen({ hostname: "0.0.0.0", port: 80, socket: { data() {}, open(socket) { console.log(socket.remoteAddress); process.exit(0); } } }); console.log("ready");`;
    const server = Bun.spawn(podCommand(pod, process.execPath, "-e", script), { stdout: "pipe" });
    const output = server.stdout.getReader();
    await output.read();
    await must([
      ...host.command("nft"),
      `table ip test { chain pre { type nat hook prerouting priority -100; tcp dport 8080 dnat to ${pod.address}:80; }; }`,
    ]);
    // The pod ends without an answer once it knows.
    await outside.exec(["curl", "-s", "-m", "30", `http://${host.ip}:8080/`]);
    const { value } = await output.read();
    server.kill();
    await must(host.command("nft", "delete", "table", "ip", "test"));
    return new TextDecoder().decode(value).trim().replace("::ffff:", "");
  }

  test("on, as it is unless it is 0, pods see who comes from outside", async () => {
    await start({ EXPECT_NPC: "0" });
    const pod = await addPod(hosts, host, "pod");
    expect(await seenBy(pod)).toBe(outside.ip);
    await stop();
    await start({ EXPECT_NPC: "0", NO_MASQ_LOCAL: "0" });
    expect(await seenBy(pod)).toBe("10.32.0.1");
  }, 300_000);
});

describe("EXPECT_NPC", () => {
  const reaches = async (from: Pod, to: Pod) =>
    (await ping(from, to.address, "-c", "1", "-W", "1")).code === 0;

  test("on, pods are kept apart until weave-npc is there; 0 opens all, also what an earlier weave-npc has closed", async () => {
    await start();
    const [one, two] = [await addPod(hosts, host, "one"), await addPod(hosts, host, "two")];
    expect(await reaches(one, two)).toBe(false);
    // The node itself gets through: its probes ask.
    expect((await host.exec(["ping", "-n", "-c", "1", "-W", "10", two.address])).code).toBe(0);
    await stop();
    // Rules of an earlier weave-npc stay.
    await start();
    expect(await reaches(one, two)).toBe(false);
    await stop();
    await start({ EXPECT_NPC: "0" });
    await eventually("they reach each other", () => reaches(one, two), Boolean);
    expect(await host.must(["nft", "list", "tables"])).not.toContain("weave-npc");
  }, 300_000);
});

test("HAIRPIN_MODE: as setup writes it, and writes it anew when it changes; by hand it stays", async () => {
  const setup = async (env: Record<string, string>) => {
    const folders = ["--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir];
    await host.must([join(DIST, "weave"), "--local", "setup", ...folders], { env });
    return readFileSync(join(host.confDir, "10-weave.conflist"), "utf8");
  };
  expect(await setup({})).toContain('"hairpinMode": true');
  expect(await setup({ HAIRPIN_MODE: "false" })).toContain('"hairpinMode": false');
  expect(await setup({})).toContain('"hairpinMode": true');
  await Bun.write(join(host.confDir, "10-weave.conflist"), "{}\n");
  expect(await setup({})).toBe("{}\n");
});

test.each([
  [{ IPALLOC_RANGE: "10.99.0.0/16" }, "IPALLOC_RANGE 10.99.0.0/16 overlaps with existing route 10.99.0.0/24"],
  [{ CONN_LIMIT: "many" }, 'CONN_LIMIT: "many": not a whole number'],
  [{ KUBE_PEERS: "" }, "not in a pod of Kubernetes"],
])("%o is refused in one line, and nothing is done", async (env, message) => {
  const command = host.command(join(DIST, "weave-router"), "--kubernetes");
  const { code, stderr } = await exec(command, { env: environment(env) as Record<string, string> });
  expect(code).not.toBe(0);
  expect(stderr).toContain(message);
  expect(stderr.split("\n").filter((line) => !line.startsWith("INFO: "))).toHaveLength(2);
  expect((await host.exec(["ip", "link", "show", "weave"])).code).not.toBe(0);
  expect(await host.must(["nft", "list", "tables"])).toBe("");
});
