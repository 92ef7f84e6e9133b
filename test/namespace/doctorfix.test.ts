// weave doctor --fix: each kind of fault is made on purpose, listed, put right, and found no more; what is not listed is
// left alone.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, type Host, Hosts, type Output } from "../support/hosts.ts";

let hosts: Hosts;
let host: Host;

beforeEach(async () => {
  hosts = await Hosts.create("fix", 1);
  host = hosts.host(1);
  await host.weave("setup", ...folders());
});

afterEach(() => hosts.disposeSync());

const folders = () => ["--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir];
const doctor = (...args: string[]): Promise<Output> =>
  host.exec([join(DIST, "weave"), "doctor", ...folders(), ...args]);
const sysctl = (name: string, value: string) =>
  host.must(["sh", "-c", `echo ${value} > /proc/sys/net/${name}`]);
const sysctls = (...names: string[]) =>
  host
    .must(["sh", "-c", `cd /proc/sys/net && cat ${names.join(" ")}`])
    .then((text) => text.trim().split("\n"));
const ip = (...args: string[]) => host.must(["ip", ...args]);

interface Plan {
  readonly planned: readonly { readonly does: string; readonly error?: string }[];
  readonly done: readonly { readonly does: string; readonly error?: string }[];
  readonly left: readonly { readonly check: string; readonly level: string; readonly found: string }[];
}

const does = async (...args: string[]) =>
  (JSON.parse((await doctor("--fix", "--json", ...args)).stdout) as Plan).planned.map(({ does }) => does);

/** What is planned is listed and not done, done, and found no more. */
async function expectFixed(planned: string[], state: () => Promise<unknown>): Promise<void> {
  const before = await state();
  expect((await does()).sort()).toEqual(planned.sort());
  expect(await state()).toEqual(before);
  const fixed = await doctor("--fix", "--yes");
  for (const line of planned) expect(fixed.stdout).toContain(`done: ${line}\n`);
  expect(fixed.stdout).not.toContain("failed: ");
  expect(await does()).toEqual([]);
}

test("a link that was made anew since it was looked at is left alone", async () => {
  await ip("link", "add", "vethweplx", "type", "veth", "peer", "name", "other0");
  const index = Number((await ip("-o", "link", "show", "vethweplx")).split(":")[0]);
  const apply = (at: number) =>
    host.must([
      process.execPath,
      "-e",
      `import { applyFixes } from "${join(import.meta.dir, "../../lib/doctor/apply.ts")}";
       const fix = { action: "delete-link", link: "vethweplx", index: ${at}, kind: "veth" };
       console.log(applyFixes([{ check: "links", does: "delete it", fix }])[0].error);`,
    ]);
  expect(await apply(index + 1)).toBe("another link has that name now\n");
  expect(await ip("link", "show", "vethweplx")).toContain("vethweplx");
  expect(await apply(index)).toBe("undefined\n");
  expect((await host.exec(["ip", "link", "show", "vethweplx"])).code).not.toBe(0);
});

test("settings, CNI's folders, and leftovers of the original and of a router that was killed", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await host.weave("expose");
  await host.must(["iptables-nft", "-P", "FORWARD", "DROP"]);
  await host.weave("hide");
  await host.weave("expose");
  await host.killRouter();
  await ip("link", "del", "weave");
  await ip("link", "add", "eth1", "type", "veth", "peer", "name", "vethwe-pcap");
  for (const link of ["eth1", "vethwe-pcap"]) await ip("link", "set", link, "up");
  await ip("addr", "add", "192.168.7.1/24", "dev", "eth1");
  await sysctl("ipv4/ip_forward", "0");
  await sysctl("ipv4/conf/all/rp_filter", "1");
  for (const name of ["iptables", "ip6tables"]) await sysctl(`bridge/bridge-nf-call-${name}`, "0");
  await host.must(["iptables-nft", "-N", "WEAVE-NPC"]);
  await host.must(["iptables-nft", "-A", "FORWARD", "-o", "weave", "-j", "WEAVE-NPC"]);
  await host.must(["iptables-nft", "-A", "FORWARD", "-i", "eth9", "-j", "ACCEPT"]);
  await host.must(["ipset", "create", "weave-k1", "hash:ip"]);
  await host.must(["ipset", "create", "others", "hash:ip"]);
  // It is a link to ours.
  rmSync(join(host.binDir, "weave-net"));
  writeFileSync(join(host.binDir, "weave-net"), "an older one", { mode: 0o755 });
  writeFileSync(join(host.confDir, "10-weave.conflist"), "{");

  const bridged = ["iptables", "ip6tables"].map((name) => `net.bridge.bridge-nf-call-${name}`);
  const run = join(host.folder, "run");
  await expectFixed(
    [
      "sysctl -w net.ipv4.ip_forward=1",
      ...bridged.map((name) => `sysctl -w ${name}=1`),
      ...["eth0", "eth1"].map((link) => `sysctl -w net.ipv4.conf.${link}.rp_filter=2`),
      `ln -f ${join(DIST, "weave-net")} ${host.binDir}/weave-net`,
      `rm ${host.confDir}/10-weave.conflist`,
      `write ${host.confDir}/10-weave.conflist`,
      "ip link del vethwe-pcap",
      "remove 1 chains WEAVE* and 1 rules of the original from iptables-nft; ipset destroy weave-k1",
      "ip link del vxlan-6784",
      `rm ${run}/weave.sock`,
      `rm ${run}/weave.pid`,
      "nft delete table ip weave; iptables-nft -F, -X WEAVE-FORWARD, and the jumps to it",
    ],
    async () => [
      await sysctls("ipv4/ip_forward", "ipv4/conf/eth0/rp_filter", "bridge/bridge-nf-call-iptables"),
      await ip("-o", "link"),
      await host.must(["nft", "list", "ruleset"]),
      await host.must(["ipset", "list", "-n"]),
      readFileSync(join(host.binDir, "weave-net"), "utf8"),
      existsSync(join(run, "weave.sock")),
    ],
  );
  expect(await host.must(["ipset", "list", "-n"])).toBe("others\n");
  const rules = await host.must(["iptables-nft", "-S"]);
  expect(rules).not.toContain("WEAVE");
  expect(rules).toContain("-A FORWARD -i eth9 -j ACCEPT");
  expect(await sysctls("ipv4/conf/all/rp_filter")).toEqual(["1"]);
  await host.weave("launch");
}, 300_000);

test("the bridge's MTU and iptables' policy, while the router is stopped; a link of an earlier router, while it runs", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await host.weave("expose");
  await host.weave("stop");
  await host.must(["iptables-nft", "-P", "FORWARD", "DROP"]);
  await host.must(["iptables-legacy", "-P", "FORWARD", "DROP"]);
  await ip("link", "set", "eth0", "mtu", "1400");
  await expectFixed(
    [
      "ip link set weave mtu 1350",
      ["iptables-nft", "iptables-legacy"]
        .map((variant) => `${variant} -I FORWARD -j WEAVE-FORWARD (accepting what is from and to weave)`)
        .join("; "),
    ],
    async () => [await ip("-o", "link", "show", "weave"), await host.must(["iptables-nft", "-S"])],
  );
  for (const variant of ["iptables-nft", "iptables-legacy"])
    expect(await host.must([variant, "-S", "WEAVE-FORWARD"])).toContain(
      "-A WEAVE-FORWARD -i weave -j ACCEPT",
    );
  await ip("link", "set", "eth0", "mtu", "1500");
  await host.weave("launch");
  await ip("link", "add", "vxlan-7001", "type", "vxlan", "external", "dstport", "7001");
  await ip("link", "add", "vxlan9", "type", "vxlan", "external", "dstport", "7009");
  await expectFixed(["ip link del vxlan-7001"], () => ip("-o", "link"));
  const links = await ip("-o", "link");
  for (const name of ["vxlan-6784", "vxlan9"]) expect(links).toContain(`${name}:`);
}, 300_000);

test("it asks on a terminal, changes nothing without one or --yes, and needs --fix for that", async () => {
  await sysctl("ipv4/ip_forward", "0");
  const forwarding = () => sysctls("ipv4/ip_forward");
  const plan = "to be done:\n  ip_forward: sysctl -w net.ipv4.ip_forward=1\n";
  const alone = await doctor("--fix");
  expect([alone.code, alone.stdout]).toEqual([1, expect.stringContaining(plan)]);
  expect(alone.stdout).toContain("nothing changed: confirm on a terminal, or use --yes\n");
  expect((await doctor()).stdout).toContain(
    "'weave doctor --fix' can make 1 of these repairs; it lists them first\n",
  );
  expect((await doctor("--yes")).code).toBe(2);
  const answer = (text: string) => {
    const command = [join(DIST, "weave"), "doctor", "--fix", ...folders()].join(" ");
    return host.exec(["script", "-qec", command, "/dev/null"], { stdin: text });
  };
  const refused = await answer("n\n");
  expect(refused.stdout).toContain("Do this? [y/N]");
  expect([refused.code, await forwarding()]).toEqual([1, ["0"]]);
  expect((await answer("y\n")).stdout).toContain("done: sysctl -w net.ipv4.ip_forward=1");
  expect(await forwarding()).toEqual(["1"]);
  expect((await doctor("--fix", "--force")).stdout).toContain("nothing that --fix can repair");
}, 300_000);

test("what cannot be done is told, and keeps nothing else from being done", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await host.must(["ipset", "create", "weave-k1", "hash:ip"]);
  await host.weave("stop");
  await sysctl("ipv4/ip_forward", "0");
  await host.must(["iptables-nft", "-A", "FORWARD", "-m", "set", "--match-set", "weave-k1", "src"]);
  const { code, stdout } = await doctor("--fix", "--yes", "--json");
  const { done, left } = JSON.parse(stdout) as Plan;
  expect(code).toBe(1);
  expect(done).toEqual([
    expect.objectContaining({ does: "sysctl -w net.ipv4.ip_forward=1" }),
    expect.objectContaining({
      does: "ipset destroy weave-k1",
      error: "something still uses the ipsets weave-k1",
    }),
  ]);
  expect(done[0]?.error).toBeUndefined();
  expect(left.some(({ check, level }) => check === "original" && level === "warning")).toBe(true);
}, 300_000);
