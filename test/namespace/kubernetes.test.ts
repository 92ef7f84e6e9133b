// The addon as a cluster has it: three nodes, each with the pod of our manifest (its commands, environment, folders and
// capabilities taken from the YAML, its files from the image), an API server, pods that a runtime attaches, policies.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ApiServer, TOKEN } from "../support/apiserver.ts";
import { certificates } from "../support/certificates.ts";
import { DIST, eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";
import { Kubelet } from "../support/kubelet.ts";
import { inPod, type Pod, podCommand } from "../support/pods.ts";
import { Stream } from "../support/stream.ts";
import { layOut } from "../tools/image.ts";

const SERVER = { host: "10.99.0.254", port: 6443 };

let hosts: Hosts;
let api: ApiServer;
let kubelets: Kubelet[];

const OTHER_TAINT = { key: "node.example.com/gpu", effect: "NoSchedule" };
const CONFLIST = "etc/cni/net.d/10-weave.conflist";
const DAEMON_SET = { kind: "DaemonSet", metadata: { namespace: "kube-system", name: "weave-net" } };

const node = ({ name, ip }: Host) => ({
  kind: "Node",
  metadata: { name, uid: `uid-of-${name}` },
  spec: { taints: [{ key: "weave.network/not-ready", effect: "NoExecute" }, OTHER_TAINT] },
  status: {
    addresses: [
      { type: "Hostname", address: name },
      { type: "InternalIP", address: ip },
    ],
  },
});
const namespace = (name: string) => ({ kind: "Namespace", metadata: { name, labels: { ns: name } } });

const kubelet = (number: number): Kubelet => {
  const found = kubelets[number - 1];
  if (!found) throw new Error(`there is no node ${number}`);
  return found;
};

/** The folder of a node as its processes see it. */
const onNode = (host: Host, path: string) => join(host.folder, "root", path);

/** Runs a container runtime's call of the plugin, as the init container has installed it. */
async function cni(host: Host, command: string, netns: string, name: string) {
  const list = JSON.parse(readFileSync(onNode(host, "etc/cni/net.d/10-weave.conflist"), "utf8"));
  const [plugin] = list.plugins;
  const [podNamespace, podName] = name.split("/");
  return exec(host.command(onNode(host, `opt/cni/bin/${plugin.type}`)), {
    stdin: JSON.stringify({ cniVersion: list.cniVersion, ...plugin, name: list.name }),
    env: {
      WEAVE_RUN_DIR: onNode(host, "run/weave"),
      WEAVE_STATE_DIR: onNode(host, "var/lib/weave"),
      CNI_COMMAND: command,
      CNI_CONTAINERID: `id-of-${name.replace("/", "-")}`,
      CNI_NETNS: netns,
      CNI_IFNAME: "eth0",
      CNI_PATH: onNode(host, "opt/cni/bin"),
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${podNamespace};K8S_POD_NAME=${podName};K8S_POD_INFRA_CONTAINER_ID=x`,
    },
  });
}

/** A pod "namespace/name" on a node, as the API server tells of it once it runs. */
async function addPod(host: Host, name: string): Promise<Pod> {
  const path = await hosts.pod(name.replace("/", "-"));
  const { code, stdout } = await cni(host, "ADD", path, name);
  if (code !== 0) throw new Error(stdout);
  const address = JSON.parse(stdout).ips[0].address.split("/")[0];
  const [of = "", own = ""] = name.split("/");
  api.apply({
    kind: "Pod",
    metadata: { namespace: of, name: own, labels: { app: own } },
    spec: { nodeName: host.name, containers: [] },
    status: { phase: "Running", podIP: address, hostIP: host.ip },
  });
  return { netns: path.split("/").at(-1) ?? "", address, mac: "" };
}

const reaches = async (from: Pod, to: Pod) =>
  (await inPod(from, "ping", "-n", "-c", "1", "-W", "1", to.address)).code === 0;
const becomes = (from: Pod, to: Pod, open: boolean) =>
  eventually(
    `${from.netns} ${open ? "reaches" : "does not reach"} ${to.netns}`,
    () => reaches(from, to),
    (now) => now === open,
  );

interface Listed {
  PeerName: string;
  NodeName: string;
}
const annotations = () => {
  const configMap = api.find("ConfigMap", "kube-system/weave-net");
  return (configMap?.metadata["annotations"] ?? {}) as Record<string, string>;
};
const listed = (): Listed[] =>
  JSON.parse(annotations()["kube-peers.weave.works/peers"] ?? '{"Peers":[]}').Peers;

const weave = async (number: number, ...args: string[]) => {
  const { code, stdout, stderr } = await kubelet(number).exec(
    "weave",
    "/home/weave/weave",
    "--local",
    ...args,
  );
  if (code !== 0) throw new Error(stderr);
  return stdout;
};
const established = (number: number, count: number) =>
  eventually(
    `node ${number} has ${count} connections by fastdp`,
    () => weave(number, "status", "connections"),
    (text) => text.split("\n").filter((line) => / established .*fastdp /.test(line)).length === count,
  );

beforeAll(async () => {
  hosts = await Hosts.create("k8s", 3);
  const image = join(hosts.folder, "image");
  layOut(image);
  const account = join(hosts.folder, "account");
  mkdirSync(account);
  const tls = await certificates(join(hosts.folder, "pki"), "kubernetes", SERVER.host);
  copyFileSync(tls.ca, join(account, "ca.crt"));
  writeFileSync(join(account, "token"), TOKEN);
  api = new ApiServer(await hosts.beside(SERVER.host), SERVER.port, SERVER.host);
  api.apply(...hosts.hosts.map(node), namespace("shop"), namespace("kube-system"), DAEMON_SET);
  api.start(tls);
  const manifest = await must([
    join(DIST, "weave"),
    ...["manifest", "kubernetes", "--password-secret", "weave-passwd", "--trusted-subnets", "10.99.0.0/24"],
    ...["--startup-taint", "--env", "WEAVE_MTU=1300", "--env", "IPALLOC_RANGE=10.40.0.0/16"],
  ]);
  const secrets = { "weave-passwd/weave-passwd": "s3cr3t" };
  kubelets = hosts.hosts.map(
    (host) => new Kubelet({ manifest, image, account, server: SERVER, secrets }, host),
  );
  await Promise.all(kubelets.map((each) => each.start()));
  await Promise.all(kubelets.map((each) => each.ready()));
}, 300_000);

afterAll(async () => {
  for (const each of kubelets ?? []) await each.stop("SIGKILL");
  await api?.stop();
  hosts?.disposeSync();
});

test("the nodes are one network: peers listed, nodes marked as usable, plugins installed", async () => {
  for (const number of [1, 2, 3]) await established(number, 2);
  expect(
    listed()
      .map(({ NodeName }) => NodeName)
      .sort(),
  ).toEqual(["host1", "host2", "host3"]);
  for (const host of hosts.hosts) {
    expect(api.find("Node", `/${host.name}`)?.["status"]).toMatchObject({
      conditions: [{ type: "NetworkUnavailable", status: "False", reason: "WeaveIsUp" }],
    });
    // The startup taint goes, others stay.
    expect(api.find("Node", `/${host.name}`)?.["spec"]).toEqual({ taints: [OTHER_TAINT] });
    expect(existsSync(onNode(host, "opt/cni/bin/weave-net"))).toBe(true);
    expect(await host.must(["ip", "-o", "link", "show", "weave"])).toContain("mtu 1300");
    expect(await host.must(["ip", "-o", "-4", "addr", "show", "weave"])).toContain("/16");
  }
  const status = await weave(1, "status");
  expect(status).toContain("Encryption: enabled");
  expect(status).toContain("TrustedSubnets: 10.99.0.0/24");
  expect(status).toContain("Range: 10.40.0.0/16");
  const metrics = await hosts.host(2).must(["curl", "-s", `http://${hosts.host(3).ip}:6782/metrics`]);
  expect(metrics).toContain('weave_connections{state="established",type="fastdp",encryption=""} 2');
}, 300_000);

test("pods talk across nodes, a policy holds across nodes, and a restart of all loses no flow", async () => {
  const [first, second, third] = [hosts.host(1), hosts.host(2), hosts.host(3)];
  const client = await addPod(first, "shop/client");
  const server = await addPod(second, "shop/server");
  const other = await addPod(third, "shop/other");
  await becomes(client, server, true);
  await becomes(other, server, true);
  api.apply({
    kind: "NetworkPolicy",
    metadata: { namespace: "shop", name: "server" },
    spec: {
      podSelector: { matchLabels: { app: "server" } },
      ingress: [{ from: [{ podSelector: { matchLabels: { app: "client" } } }] }],
    },
  });
  await becomes(other, server, false);
  using flow = new Stream("the allowed pods", podCommand(client), server.address, 50);
  await flow.flows();
  flow.mark();
  for (const each of kubelets) {
    await each.stop();
    // A restart is no departure: the runtime may go on to start pods, which wait for the router.
    expect(existsSync(onNode(each.host, CONFLIST))).toBe(true);
    await each.start();
    await each.ready();
    for (const number of [1, 2, 3]) await established(number, 2);
    // What the kernel has stands from the first look on.
    expect(each.log("weave")).not.toContain("repaired kernel state");
    // While weave-npc is away, and after, what is denied stays denied.
    expect(await reaches(other, server)).toBe(false);
  }
  await flow.flows();
  expect(flow.lost).toBeLessThanOrEqual(1);
  expect(listed()).toHaveLength(3);
}, 300_000);

test("the addresses of a node that goes are taken over once; a node of that name comes back as a new peer", async () => {
  const gone = hosts.host(3);
  const [peer] = listed().filter(({ NodeName }) => NodeName === gone.name);
  const owners = async (number: number): Promise<string[]> => {
    const entries = JSON.parse(await weave(number, "report", "-f", "{{json .IPAM.Entries}}"));
    return entries.map(({ Peer }: { Peer: string }) => Peer);
  };
  expect(await owners(1)).toContain(peer?.PeerName ?? "");
  // While its router runs, its addresses are its own, whatever the cluster says.
  api.delete(node(gone));
  await eventually(
    "the node is missed",
    () => `${kubelet(1).log("weave")}${kubelet(2).log("weave")}`,
    (log) => log.includes("keeping the addresses of a peer"),
  );
  expect(listed()).toHaveLength(3);
  await kubelet(3).stop("SIGKILL");
  await eventually(
    "the peer is off the list",
    () => listed().map(({ NodeName }) => NodeName),
    (names) => !names.includes(gone.name),
    120_000,
  );
  await eventually(
    "nothing is its any more",
    async () => [...(await owners(1)), ...(await owners(2))],
    (peers) => !peers.includes(peer?.PeerName ?? ""),
  );
  expect(Object.keys(annotations())).toEqual(["kube-peers.weave.works/peers"]);
  const logs = `${kubelet(1).log("weave")}${kubelet(2).log("weave")}`;
  expect(logs.match(/ taking over the addresses of a peer/g)).toHaveLength(1);
  // The same machine joins again: what it kept is others' now.
  api.apply(node(gone));
  await kubelet(3).start();
  await kubelet(3).ready();
  expect(kubelet(3).log("weave")).toContain("another peer took over the addresses of");
  expect(listed()).toHaveLength(3);
  await established(3, 2);
  const [client] = [await addPod(gone, "shop/again")];
  await becomes(client, { ...client, address: (await addPod(hosts.host(1), "shop/near")).address }, true);
}, 300_000);

test("the runtime's configuration is written when the router is ready, and taken away when the addon is deleted", async () => {
  const each = kubelet(1);
  const conflist = () => existsSync(onNode(each.host, CONFLIST));
  await each.stop();
  rmSync(onNode(each.host, CONFLIST));
  writeFileSync(onNode(each.host, "etc/cni/net.d/05-other.conflist"), "{}");
  await each.start();
  const log = await eventually(
    "it is written, and said to be",
    () => each.log("weave"),
    (text) => text.includes("wrote /host/etc/cni/net.d/10-weave.conflist"),
  );
  expect(log.indexOf("wrote /host/etc/cni/net.d/10-weave.conflist")).toBeGreaterThan(
    log.indexOf("weave is ready"),
  );
  expect(log.indexOf("weave is ready")).toBeGreaterThan(0);
  expect(JSON.parse(readFileSync(onNode(each.host, CONFLIST), "utf8")).cniVersion).toBe("1.0.0");
  expect(log).toContain("runtimes take /host/etc/cni/net.d/05-other.conflist before 10-weave.conflist");
  await each.ready();
  api.delete(DAEMON_SET);
  await each.stop();
  expect(conflist()).toBe(false);
  // Pods go on, and can be removed.
  expect(await each.host.must(["ip", "-br", "link"])).toContain("vethwepl");
}, 300_000);
