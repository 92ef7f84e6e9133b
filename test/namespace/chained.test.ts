// Plugins of containernetworking-plugins behind ours in a list: each reads our result, and does what it is for.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFileSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, exec, type Host, Hosts, type Output } from "../support/hosts.ts";

let hosts: Hosts;
let host: Host;

const PLUGINS = "/usr/lib/cni";
const OURS = { type: "weave-net", hairpinMode: true };

beforeAll(async () => {
  hosts = await Hosts.create("chain", 1);
  host = hosts.host(1);
  copyFileSync(join(DIST, "weave-net"), join(host.binDir, "weave-net"));
  // The router looks there for a bandwidth plugin: in the mount namespace of `ip netns exec`, it is the host's own.
  const list = { cniVersion: "1.0.0", name: "weave", plugins: [OURS, { type: "bandwidth" }] };
  writeFileSync(join(host.confDir, "10-weave.conflist"), JSON.stringify(list));
  const launch = [join(DIST, "weave"), "launch", "--ipalloc-init=consensus=1"].join(" ");
  const mount = existsSync("/etc/cni/net.d") ? `mount --bind ${host.confDir} /etc/cni/net.d && ` : "";
  await host.must(["sh", "-c", `${mount}exec ${launch}`]);
});

afterAll(() => hosts.disposeSync());

interface Plugin {
  readonly type: string;
  readonly [key: string]: unknown;
}

interface Call {
  readonly id: string;
  readonly netns: string;
  readonly runtimeConfig?: object;
}

/** Calls a list as libcni does: ADD and CHECK in order, DEL in reverse, each with the result of those before it. */
async function call(
  command: "ADD" | "CHECK" | "DEL",
  plugins: readonly Plugin[],
  { id, netns, runtimeConfig }: Call,
  result?: object,
): Promise<{ outputs: Output[]; result: object | undefined }> {
  const outputs: Output[] = [];
  let prevResult = result;
  for (const plugin of command === "DEL" ? plugins.toReversed() : plugins) {
    const folder = plugin.type === "weave-net" ? host.binDir : PLUGINS;
    const config = { cniVersion: "1.0.0", name: "weave", ...plugin, runtimeConfig, prevResult };
    const output = await host.exec([join(folder, plugin.type)], {
      stdin: JSON.stringify(config),
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: id,
        CNI_NETNS: netns,
        CNI_IFNAME: "eth0",
        CNI_PATH: `${host.binDir}:${PLUGINS}`,
      },
    });
    outputs.push(output);
    if (output.code !== 0) throw new Error(`${command} of ${plugin.type}: ${output.stdout}${output.stderr}`);
    if (command === "ADD") prevResult = JSON.parse(output.stdout);
  }
  return { outputs, result: prevResult };
}

const inPod = (netns: string, ...command: string[]) =>
  exec(["ip", "netns", "exec", netns.split("/").at(-1) ?? "", ...command]);

/** Attaches a pod by our plugin and one behind it, and checks it; what `looks` sees has to be gone after the DEL. */
async function chained(
  plugin: Plugin,
  looks: (netns: string, address: string) => Promise<void>,
  runtimeConfig: object = {},
): Promise<void> {
  const netns = await hosts.pod(plugin.type);
  const of = { id: plugin.type, netns, runtimeConfig };
  const { result } = await call("ADD", [OURS, plugin], of);
  const [{ address }] = (result as { ips: [{ address: string }] }).ips;
  await looks(netns, address.split("/")[0] ?? "");
  await call("CHECK", [OURS, plugin], of, result);
  const { outputs } = await call("DEL", [OURS, plugin], of, result);
  expect(outputs.map(({ stdout }) => stdout).join("")).toBe("");
  expect(await host.weave("ps")).not.toContain(plugin.type);
  // Runtimes repeat it; sbr itself then fails.
  await call("DEL", plugin.type === "sbr" ? [OURS] : [OURS, plugin], of, result);
}

test("firewall accepts what is forwarded to the pod, and from it", async () => {
  await chained({ type: "firewall", backend: "iptables" }, async (_, address) => {
    const rules = await host.must(["iptables", "-S", "CNI-FORWARD"]);
    expect(rules).toContain(`-d ${address}/32`);
    expect(rules).toContain(`-s ${address}/32 -j ACCEPT`);
  });
  expect(await host.must(["iptables", "-S", "CNI-FORWARD"])).not.toContain("/32");
});

test("tuning sets what it is told to in the pod", async () => {
  const sysctl = { "net.ipv4.conf.eth0.arp_filter": "1" };
  await chained({ type: "tuning", sysctl }, async (netns) => {
    expect((await inPod(netns, "sysctl", "-n", "net.ipv4.conf.eth0.arp_filter")).stdout).toBe("1\n");
  });
});

test("sbr routes what the pod sends from its address by a table of its own, through our gateway", async () => {
  await chained({ type: "sbr" }, async (netns, address) => {
    expect((await inPod(netns, "ip", "rule")).stdout).toMatch(new RegExp(`from ${address} lookup \\d+`));
    expect((await inPod(netns, "ip", "route", "show", "table", "all")).stdout).toMatch(
      /default via 10\.\S+ dev eth0 table \d+/,
    );
  });
});

test("bandwidth limits what the pod receives: its discipline is on the host's end of our link", async () => {
  if (!existsSync("/etc/cni/net.d")) return;
  const bandwidth = { ingressRate: 8_000_000, ingressBurst: 800_000 };
  await chained(
    { type: "bandwidth" },
    async (netns) => {
      const index = (await inPod(netns, "cat", "/sys/class/net/eth0/iflink")).stdout.trim();
      const link = JSON.parse(await host.must(["ip", "-j", "link"])).find(
        ({ ifindex }: { ifindex: number }) => ifindex === Number(index),
      );
      expect(await host.must(["tc", "qdisc", "show", "dev", link.ifname])).toContain("tbf");
      // The guard of the port is beside it.
      expect(await host.weave("status")).not.toContain("cannot repair");
    },
    { bandwidth },
  );
});
