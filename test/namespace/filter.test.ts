// What other programs (firewalld, Docker, an administrator) take from the packet filter is put back.
import { afterEach, expect, test } from "bun:test";
import { eventually, exec, Hosts } from "../support/hosts.ts";
import { addPod, podCommand } from "../support/pods.ts";

let hosts: Hosts;
afterEach(() => hosts.disposeSync());

test.each(["iptables-nft", "iptables-legacy"])(
  "pods reach each other and the outside again after a flush, with %s",
  async (iptables) => {
    hosts = await Hosts.create(`flt${iptables[9]}`, 2);
    // The second has no router, and no way to the pods but by the address of the first.
    const [host, outside] = [hosts.host(1), hosts.host(2)];
    await host.weave("launch", "--ipalloc-init=consensus=1");
    await host.weave("expose");
    const [one, two] = [await addPod(hosts, host, "one"), await addPod(hosts, host, "two")];
    const changes = [
      [iptables, "-P", "FORWARD", "DROP"],
      [iptables, "-F"],
      // As firewalld and nftables.service do, with whatever was in it.
      ["nft", iptables === "iptables-nft" ? "flush ruleset" : "flush chain ip weave postrouting"],
    ];
    for (const change of changes) {
      const before = (await host.weave("status")).match(/others changed: (\d+) in all/)?.[1] ?? "0";
      await host.must(change);
      await eventually(
        `${change.join(" ")} is repaired`,
        () => host.weave("status"),
        (text) => text.includes(`repaired what others changed: ${Number(before) + 1} in all`),
      );
      for (const to of [two.address, outside.ip]) {
        const { code } = await exec(podCommand(one, "ping", "-n", "-c", "1", "-W", "5", to));
        expect(`${change.join(" ")}: ping ${to} ${code}`).toBe(`${change.join(" ")}: ping ${to} 0`);
      }
    }
  },
  120_000,
);
