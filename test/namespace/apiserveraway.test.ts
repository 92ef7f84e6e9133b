// Nodes of a cluster whose API server is away, hangs or lies: a node that was in the cluster before has its network all the
// same, and enters again later; any other waits, and says so.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { lockHolder } from "../../lib/sys/lockholder.ts";
import { ApiServer, TOKEN } from "../support/apiserver.ts";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";
import { addPod, type Pod, ping } from "../support/pods.ts";

const SERVER = "10.99.0.254";
const PEERS = "kube-peers.weave.works/peers";

let hosts: Hosts;
let api: ApiServer;
let kubeconfig: string;
const routers = new Map<Host, Bun.Subprocess>();

const log = (host: Host) => readFileSync(join(host.folder, "router.log"), "utf8");

function start(host: Host): void {
  writeFileSync(join(host.folder, "router.log"), "");
  const command = [join(DIST, "weave-router"), "--kubernetes", `--kubeconfig=${kubeconfig}`];
  const env = { HOSTNAME: host.name, EXPECT_NPC: "0", IPALLOC_RANGE: "10.40.0.0/16" };
  const child = Bun.spawn(host.command(...command), {
    env: { ...(process.env as Record<string, string>), ...host.env, ...env },
    stdout: "ignore",
    stderr: Bun.file(join(host.folder, "router.log")),
  });
  routers.set(host, child);
}

async function end(host: Host, signal: NodeJS.Signals): Promise<void> {
  const pid = lockHolder(join(host.folder, "run/weave.pid"));
  if (pid !== undefined) process.kill(pid, signal);
  await routers.get(host)?.exited;
}

const get = async (host: Host, path: string) =>
  (await host.exec(["curl", "-s", "-m", "2", "-w", " %{http_code}", `http://127.0.0.1:6784${path}`])).stdout;
const answers = (host: Host, path: string, text: string) =>
  eventually(
    `${host.name} answers ${path} with "${text}"`,
    () => get(host, path),
    (answer) => answer.includes(text),
  );
const ready = (host: Host) => answers(host, "/readyz", " 200");
const logs = (host: Host, text: string) =>
  eventually(
    `${host.name} logs "${text}"`,
    () => log(host),
    (lines) => lines.includes(text),
  );
const established = (host: Host) =>
  eventually(
    `${host.name} has a connection by fastdp`,
    () => host.status("connections"),
    (text) => / established .*fastdp /.test(text),
  );
const reaches = (from: Pod, to: Pod) =>
  eventually(
    `${from.netns} reaches ${to.netns}`,
    () => ping(from, to.address),
    ({ code }) => code === 0,
  );

const node = ({ name, ip }: Host) => ({
  kind: "Node",
  metadata: { name, uid: `uid-of-${name}` },
  status: { addresses: [{ type: "InternalIP", address: ip }] },
});
const configMap = () => {
  const found = api.find("ConfigMap", "kube-system/weave-net");
  if (!found) throw new Error("there is no ConfigMap");
  return found;
};
const listed = (): { PeerName: string; NodeName: string }[] => {
  const annotations = configMap().metadata["annotations"] as Record<string, string>;
  return JSON.parse(annotations[PEERS] ?? "").Peers;
};

let one: Host;
let two: Host;
let pods: readonly [Pod, Pod];

beforeAll(async () => {
  hosts = await Hosts.create("awy", 2);
  [one, two] = [hosts.host(1), hosts.host(2)];
  api = new ApiServer(await hosts.beside(SERVER), 6443, SERVER);
  api.apply(...hosts.hosts.map(node));
  kubeconfig = join(hosts.folder, "kubeconfig");
  writeFileSync(join(hosts.folder, "token"), TOKEN);
  writeFileSync(kubeconfig, api.kubeconfig(join(hosts.folder, "token")));
});

afterAll(async () => {
  for (const host of routers.keys()) await end(host, "SIGKILL");
  await api.stop();
  hosts.disposeSync();
});

/** What a host hears of the API server: nothing at all. */
const silence = (host: Host, silent: boolean) =>
  host.must(
    silent
      ? [
          "nft",
          `add table ip silence; add chain ip silence out { type filter hook output priority 0; }; add rule ip silence out ip daddr ${SERVER} drop`,
        ]
      : ["nft", "delete", "table", "ip", "silence"],
  );

describe("the API server is away", () => {
  test("nodes that never were in the cluster wait: alive, not ready, and saying why", async () => {
    for (const host of [one, two]) start(host);
    for (const host of [one, two]) {
      await answers(host, "/healthz", "ok\n 200");
      await answers(host, "/readyz", `not ready: http://${SERVER}:6443: `);
      expect(await get(host, "/status")).toEndWith(" 503");
    }
    api.start();
    for (const host of [one, two]) await ready(host);
    await established(two);
    pods = [await addPod(hosts, one, "one"), await addPod(hosts, two, "two")];
    await reaches(...pods);
    expect(
      listed()
        .map(({ NodeName }) => NodeName)
        .sort(),
    ).toEqual(["host1", "host2"]);
  }, 300_000);

  test("nodes that were in it start without: mesh, addresses and pods", async () => {
    await api.stop();
    await silence(two, true);
    for (const host of [one, two]) await end(host, "SIGKILL");
    for (const host of [one, two]) start(host);
    for (const host of [one, two]) await ready(host);
    await established(two);
    await reaches(...pods);
    const more = [await addPod(hosts, one, "three"), await addPod(hosts, two, "four")] as const;
    await reaches(...more);
    await reaches(more[1], pods[0]);
    for (const host of [one, two])
      expect(await host.weave("status")).toContain("not in the list of peers of the cluster yet");
  }, 300_000);

  test("and enter when it is back, whatever it says first", async () => {
    // As a server that has lost its data.
    const nodes = hosts.hosts.map(node);
    api.delete(...nodes);
    api.start();
    await logs(one, "the API server lists no nodes");
    api.apply(...nodes);
    await silence(two, false);
    for (const host of [one, two]) {
      await logs(host, "joined the network");
      expect(await host.weave("status")).not.toContain("not in the list of peers of the cluster");
    }
    // One that forgets them later, all at once, takes nobody's peers away.
    await api.stop();
    api.delete(...nodes);
    api.compact();
    const asked = api.asked.watch;
    api.start();
    await eventually(
      "both nodes have its list",
      () => api.asked.watch,
      (count) => count >= asked + 4,
    );
    for (const host of [one, two]) expect(await host.weave("status", "targets")).not.toBe("");
    api.apply(...nodes);
    await reaches(...pods);
  }, 300_000);

  test("one whose addresses were taken over meanwhile starts again, and forgets them", async () => {
    await api.stop();
    await end(two, "SIGKILL");
    const [own] = listed().filter(({ NodeName }) => NodeName === "host2");
    const Peers = listed().filter(({ NodeName }) => NodeName === "host1");
    const found = configMap();
    api.apply({
      ...found,
      metadata: { ...found.metadata, annotations: { [PEERS]: JSON.stringify({ Peers }) } },
    });
    await eventually(
      "the other node is gone",
      () => one.status(),
      (text) => /Peers: 1\b/.test(text),
    );
    await one.weave("rmpeer", own?.PeerName ?? "");
    start(two);
    await ready(two);
    const { pid } = two;
    api.start();
    await logs(two, "while its node was gone; starting again");
    await eventually(
      "it is in the list again",
      () => listed().map(({ NodeName }) => NodeName),
      (names) => names.includes("host2"),
    );
    await logs(two, "joined the network");
    await ready(two);
    expect(two.pid).toBe(pid);
    expect(log(two)).toContain("deleting the saved addresses");
    await established(two);
    await reaches(await addPod(hosts, two, "five"), pods[0]);
  }, 300_000);

  test("SIGTERM ends them in order", async () => {
    for (const host of [one, two]) {
      await end(host, "SIGTERM");
      expect(await routers.get(host)?.exited).toBe(0);
      expect(log(host)).not.toMatch(/does not stop|cannot stop/);
    }
  });
});
