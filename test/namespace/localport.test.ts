// 127.0.0.1:6782, where every local user can ask: containers cannot, and nobody takes the router's time from others.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Host, Hosts, must } from "../support/hosts.ts";
import { addPod, type Pod } from "../support/pods.ts";

const STATUS = "http://127.0.0.1:6782";

let hosts: Hosts;
let host: Host;

beforeAll(async () => {
  hosts = await Hosts.create("local", 1);
  host = hosts.host(1);
  await host.weave("launch", "--ipalloc-init=consensus=1");
}, 300_000);

afterAll(() => hosts.disposeSync());

const inside = (pod: Pod, ...command: string[]) => must(["ip", "netns", "exec", pod.netns, ...command]);

test("a container does not get in, not even where the kernel lets it", async () => {
  const gateway = (await host.weave("expose")).trim().replace(/\/.*/, "");
  const pod = await addPod(hosts, host, "pod");
  // As kube-proxy sets it. A container can then write 127.0.0.1 in its packets itself; here the host does it for it.
  await host.must(["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"]);
  const nat = `add table ip t; add chain ip t in { type nat hook prerouting priority -100; };
    add rule ip t in ip daddr ${gateway} tcp dport 6782 dnat to 127.0.0.1`;
  await host.must(["nft", nat]);
  const curl = ["curl", "-s", "-m", "10", "-w", " %{http_code}"];
  expect(await inside(pod, ...curl, `http://${gateway}:6782/status`)).toBe(
    "refused: this port is for this host\n 403",
  );
  expect(await host.must([...curl, `${STATUS}/status`])).toEndWith(" 200");
  // The overlays' ports are closed to it, too, on its host and on others.
  const table = await host.must(["nft", "list", "table", "ip", "weave"]);
  expect(Array.from(table.matchAll(/iifname.* dport .* drop/g), ([rule]) => rule)).toEqual([
    ...[6783, 6784].map((port) => `iifname "weave" oifname != "weave" udp dport ${port} drop`),
    ...[6783, 6784].map((port) => `iifname "weave" udp dport ${port} drop`),
    'iifname != "lo" ip daddr 127.0.0.0/8 tcp dport 6784 drop',
  ]);
}, 300_000);

test("expensive formats are refused after a while; the Unix socket and probes are answered meanwhile", async () => {
  const format = `{{$s := print "${"x".repeat(1_000)}"}}${"{{$s = print $s $s}}".repeat(14)}`;
  const url = `${STATUS}/report?format=${encodeURIComponent(format)}`;
  const codes = new Set<string>();
  // Each takes some ms; a second gives back 250.
  // Many for each process, whose start would take more of a busy machine than they do.
  for (let i = 0; i < 100 && !codes.has("503"); i++) {
    const many = Array.from({ length: 200 }, () => ["-o", "/dev/null", url]).flat();
    const answers = await host.must(["curl", "-s", "-Z", "-w", "%{http_code}\n", ...many]);
    for (const code of answers.trim().split("\n")) codes.add(code);
  }
  expect(codes).toContain("503");
  expect(await host.must(["curl", "-s", `${STATUS}/healthz`])).toBe("ok\n");
  expect(await host.status()).toContain("Service: router");
}, 300_000);
