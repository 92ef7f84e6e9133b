// What other programs (firewalld, Docker, ufw, an administrator) take from the packet filter is put back, to the last byte.
import { afterEach, describe, expect, test } from "bun:test";
import { eventually, exec, type Host, Hosts } from "../support/hosts.ts";
import { addPod, type Pod, podCommand } from "../support/pods.ts";

let hosts: Hosts;
afterEach(() => hosts?.disposeSync());

/** All that a host filters by, without what counts. */
async function filters(host: Host): Promise<string> {
  const legacy = "! grep -q . /proc/net/ip_tables_names || iptables-legacy-save | grep -v '^#'";
  const text = await host.must([
    "sh",
    "-c",
    `cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/weave/forwarding; ${legacy}; nft list ruleset 2>/dev/null`,
  ]);
  return text.replace(/ packets \d+ bytes \d+|\[\d+:\d+\]/g, "");
}

/** A host with two pods, a way out, and another host that knows no way to pods. */
async function start(name: string) {
  hosts = await Hosts.create(name, 2);
  const [host, outside] = [hosts.host(1), hosts.host(2)];
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await host.weave("expose");
  const [one, two] = [await addPod(hosts, host, "one"), await addPod(hosts, host, "two")];
  return { host, one, targets: [two.address, outside.ip] };
}

async function talks(one: Pod, targets: readonly string[]): Promise<void> {
  for (const to of targets) {
    const { code } = await exec(podCommand(one, "ping", "-n", "-c", "1", "-W", "5", to));
    expect(`ping ${to}: ${code}`).toBe(`ping ${to}: 0`);
  }
}

describe.each(["iptables-nft", "iptables-legacy"])("%s", (iptables) => {
  const save = `${iptables}-save -t filter`;
  test("what is flushed, replaced, reordered or turned off is put back, and pods talk", async () => {
    const { host, one, targets } = await start(`flt${iptables[9]}`);
    // As Docker does, started after us; saved and restored, so that all chains are there that this makes.
    const docker = [`-N DOCKER-USER`, `-I FORWARD -j DOCKER-USER`, `-P FORWARD DROP`];
    await host.must([
      "sh",
      "-ec",
      `${docker.map((each) => `${iptables} ${each}`).join(";")}; ${save} | ${iptables}-restore`,
    ]);
    const accepted = await eventually(
      "our chain is the first",
      () => filters(host),
      (text) =>
        /chain FORWARD \{[^}]*drop;\s*counter jump WEAVE-FORWARD|^-A FORWARD -j WEAVE-FORWARD\n-A FORWARD -j DOCKER/m.test(
          text,
        ),
    );
    await talks(one, targets);
    const changes: readonly string[] = [
      `${save} | sed /WEAVE/d | ${iptables}-restore`,
      `${iptables} -F WEAVE-FORWARD`,
      `${iptables} -D FORWARD -j DOCKER-USER; ${iptables} -I FORWARD -j DOCKER-USER`,
      `${iptables} -P FORWARD ACCEPT; sleep 0.5; ${iptables} -P FORWARD DROP`,
      "nft delete table ip weave",
      "nft flush chain ip weave postrouting",
      "nft insert rule ip weave forward drop",
      "nft add table ip weave '{ flags dormant; }'",
      "echo 0 > /proc/sys/net/ipv4/ip_forward",
      "echo 0 > /proc/sys/net/ipv4/conf/weave/forwarding",
    ];
    for (const change of changes) {
      await host.must(["sh", "-ec", change]);
      await eventually(
        `${change} is repaired`,
        () => filters(host),
        (text) => sorted(text) === sorted(accepted),
      );
      await talks(one, targets);
    }
    // Nothing of others is kept through it.
    await host.must([iptables, "-F"]);
    await eventually(
      "iptables -F is repaired",
      () => host.must([iptables, "-S"]),
      (text) => text.includes("-A FORWARD -j WEAVE-FORWARD\n-A WEAVE-FORWARD -i weave -j ACCEPT\n"),
    );
    await talks(one, targets);
    await host.must(["nft", "flush", "ruleset"]);
    await eventually(
      "nft flush ruleset is repaired",
      () => exec(host.command("nft", "list", "table", "ip", "weave")),
      ({ stdout }) => stdout.includes("masquerade fully-random"),
    );
    await talks(one, targets);
    await host.logged(/repaired table ip weave: it was missing, by nft \(pid \d+\)/);
    await host.weave("reset", "--force");
    expect(await host.must(["sh", "-c", `nft list ruleset; ${iptables} -S`])).not.toMatch(/weave/i);
  }, 300_000);
});

/** By table: one that was deleted comes back behind the others. */
const sorted = (text: string) =>
  text
    .split(/^(?=table )/m)
    .sort()
    .join("");

test("a fight is told with who it is with, and backs off", async () => {
  hosts = await Hosts.create("fltf", 1);
  const host = hosts.host(1);
  await host.weave("launch");
  const fighter = Bun.spawn(
    host.command("sh", "-c", "while :; do nft delete table ip weave 2>/dev/null; sleep 0.2; done"),
  );
  try {
    await eventually(
      "the fight is told",
      () => host.log,
      (text) => /nft \(pid \d+\) keeps changing table ip weave: repairing it at most every \d+ s/.test(text),
      30_000,
    );
    expect(await host.weave("status")).toMatch(/nft \(pid \d+\) keeps changing table ip weave/);
  } finally {
    fighter.kill("SIGKILL");
    await fighter.exited;
  }
  await eventually(
    "the table is put back once nobody fights",
    () => exec(host.command("nft", "list", "table", "ip", "weave")),
    ({ code }) => code === 0,
    40_000,
  );
}, 300_000);
