// What others do to our part of the packet filter, by the tools that they do it with, is seen for what it is, and put back to
// the last byte.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import type { Exposed } from "../../lib/host/expose.ts";
import { FirewallResource, removeFirewall } from "../../lib/host/firewall.ts";
import { ForwardingResource } from "../../lib/host/forwarding/forwarding.ts";
import { type Keeper, keeper } from "../../lib/host/reconcile/resource.ts";
import { legacyTables } from "../../lib/netlink/iptables/socket.ts";
import { addChain } from "../../lib/netlink/nftables/chain.ts";
import { commit } from "../../lib/netlink/nftables/message.ts";
import { addTable, deleteTable, NFT_TABLE_F_OWNER } from "../../lib/netlink/nftables/table.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { syscall } from "../../lib/sys/syscall.ts";
import { type Host, Hosts } from "../support/hosts.ts";

const LOCK_EX = 2;

let hosts: Hosts;
let host: Host;
let nf: NetlinkSocket;
const netns = () => `/run/netns/${host.netns}`;
const exposed: Exposed[] = [{ cidr: parseCidr("10.32.0.1/12"), masquerade: true }];

beforeAll(async () => {
  hosts = await Hosts.create("pfl", 1);
  host = hosts.host(1);
  nf = inNetns(netns(), () => new NetlinkSocket(NETLINK_NETFILTER));
});

afterAll(() => {
  nf?.close();
  hosts?.disposeSync();
});

const sh = (script: string) => host.must(["sh", "-ec", script]);

/** What is changed, in words. */
function reconcile({ reconcile: run }: Keeper): string[] {
  return inNetns(netns(), () => run(() => true)).map(({ object, wrong }) => `${object} was ${wrong}`);
}

/** The rules of the whole namespace, without what counts. */
async function ruleset(): Promise<string> {
  const [nft, legacy] = [await sh("nft list ruleset 2>/dev/null"), await legacySaved()];
  return `${nft}${legacy}`.replace(/ packets \d+ bytes \d+|\[\d+:\d+\]/g, "");
}

const legacySaved = async () =>
  legacyTablesHere().length === 0 ? "" : (await sh("iptables-legacy-save")).replace(/^#.*$/gm, "");
const legacyTablesHere = () => inNetns(netns(), legacyTables);

describe("table weave", () => {
  const local = [
    { start: parseIPv4("10.32.0.0"), end: parseIPv4("10.32.1.0") },
    { start: parseIPv4("10.40.0.0"), end: parseIPv4("10.40.0.8") },
  ];
  let firewall: Keeper;
  beforeAll(() => {
    const other = { cidr: parseCidr("10.50.0.1/32"), masquerade: false };
    firewall = keeper(
      new FirewallResource(nf, () => ({ exposed: [...exposed, other], controlPort: 6784, local })),
    );
  });
  afterAll(() => removeFirewall(nf));

  test("is written once, and then left alone", () => {
    expect(reconcile(firewall)).toEqual(["table ip weave was missing"]);
    expect(reconcile(firewall)).toEqual([]);
  });

  const rule = (chain: string, n: number) =>
    `$(nft -a list chain ip weave ${chain} | sed -n 's/.* handle \\([0-9]*\\)$/\\1/p' | sed -n ${n + 1}p)`;
  const changes: [script: string, wrong: string][] = [
    ["nft flush ruleset", "missing"],
    ["nft delete table ip weave", "missing"],
    [
      "nft flush table ip weave",
      "with 0 of 5 rules in chain postrouting, with 0 of 7 rules in chain forward, with 0 of 4 rules in chain input",
    ],
    ["nft flush chain ip weave forward", "with 0 of 7 rules in chain forward"],
    ["nft flush chain ip weave forward; nft delete chain ip weave forward", "without chain forward"],
    [`nft delete rule ip weave postrouting handle ${rule("postrouting", 2)}`, "with 4 of 5 rules"],
    [
      `nft replace rule ip weave forward handle ${rule("forward", 1)} iifname weave drop`,
      "with changed rules",
    ],
    [
      `nft replace rule ip weave forward handle ${rule("forward", 1)} iifname weave counter accept`,
      "with changed rules",
    ],
    [
      `nft replace rule ip weave forward handle ${rule("forward", 1)} 'iifname weave accept comment "x"'`,
      "with changed rules",
    ],
    ["nft insert rule ip weave forward ip saddr 10.32.0.5 drop", "with 8 of 7 rules in chain forward"],
    [
      `handle=${rule("forward", 1)}; nft "delete rule ip weave forward handle $handle; add rule ip weave forward iifname weave accept"`,
      "with changed rules in chain forward",
    ],
    ["nft add chain ip weave forward '{ policy drop; }'", "policy drop"],
    ["nft add table ip weave '{ flags dormant; }'", "dormant"],
    ["nft add element ip weave local '{ 10.41.0.1 }'", "with other elements in set local"],
    ["nft delete element ip weave local '{ 10.40.0.0/29 }'", "with other elements in set local"],
    ["nft flush set ip weave local", "with other elements in set local"],
    ["nft add chain ip weave other", "with foreign chains or sets"],
    ["nft add set ip weave other '{ type ipv4_addr; }'", "with foreign chains or sets"],
    ["nft add counter ip weave other", "with foreign chains or sets"],
  ];
  test.each(changes)("%s", async (script, wrong) => {
    const before = await ruleset();
    await sh(script);
    expect(await ruleset()).not.toBe(before);
    expect(reconcile(firewall)).toEqual([expect.stringContaining(wrong)]);
    expect(await ruleset()).toBe(before);
    expect(reconcile(firewall)).toEqual([]);
  });

  test("a table of others is nothing to it", async () => {
    await sh("nft add table ip other; nft add chain ip other weave; nft add rule ip other weave accept");
    expect(reconcile(firewall)).toEqual([]);
    await sh("nft delete table ip other");
  });
});

describe.each(["iptables-nft", "iptables-legacy"])("forwarding by %s", (iptables) => {
  let forwarding: Keeper;
  let resource: ForwardingResource;
  beforeAll(() => {
    // iptables compares whole octets where a prefix ends with one.
    const subnets = ["10.32.0.1/12", "10.50.0.1/16"].map(parseCidr);
    resource = new ForwardingResource(nf, () => subnets);
    forwarding = keeper(resource);
  });

  test("nothing is touched, and no table comes into being, where nothing drops", async () => {
    expect(reconcile(forwarding)).toEqual([]);
    if (iptables === "iptables-nft") {
      expect(legacyTablesHere()).toEqual([]);
      expect(await ruleset()).toBe("");
    }
  });

  test("goes in front where the policy is to drop, and goes with the policy", async () => {
    await sh(`${iptables} -P FORWARD ACCEPT; ${iptables} -A FORWARD -s 192.0.2.1 -j DROP`);
    const before = await ruleset();
    expect(reconcile(forwarding)).toEqual([]);
    await sh(`${iptables} -P FORWARD DROP`);
    expect(reconcile(forwarding)).toEqual([expect.stringContaining("was missing")]);
    expect(resource.dropping).toEqual([iptables as "iptables-nft"]);
    expect((await sh(`${iptables} -S`)).split("\n").filter((line) => line.startsWith("-A"))).toEqual([
      "-A FORWARD -j WEAVE-FORWARD",
      "-A FORWARD -s 192.0.2.1/32 -j DROP",
      "-A WEAVE-FORWARD -i weave -j ACCEPT",
      "-A WEAVE-FORWARD -d 10.32.0.0/12 -o weave -j ACCEPT",
      "-A WEAVE-FORWARD -d 10.50.0.0/16 -o weave -j ACCEPT",
    ]);
    expect(reconcile(forwarding)).toEqual([]);
    await sh(`${iptables} -P FORWARD ACCEPT`);
    expect(reconcile(forwarding)).toEqual([expect.stringContaining("drops nothing any more")]);
    expect(await ruleset()).toBe(before);
    expect(resource.dropping).toEqual([]);
  });

  test.each(["DROP", "REJECT"])("goes in front of a last rule that is to %s", async (target) => {
    await sh(`${iptables} -A FORWARD -j ${target}`);
    expect(reconcile(forwarding)).toEqual([expect.stringContaining("was missing")]);
    await sh(`${iptables} -D FORWARD -j ${target}`);
    expect(reconcile(forwarding)).toEqual([expect.stringContaining("drops nothing any more")]);
    expect(reconcile(forwarding)).toEqual([]);
  });

  // Programs of nftables have transactions, and no lock.
  const locked = iptables === "iptables-legacy" ? test : () => {};
  locked("is not changed while another iptables changes it", async () => {
    await sh(`${iptables} -P FORWARD DROP`);
    const before = await ruleset();
    const other = openSync("/run/xtables.lock", "r");
    try {
      syscall("lock", "flock", other, LOCK_EX);
      expect(() => reconcile(forwarding)).toThrow("cannot lock /run/xtables.lock");
    } finally {
      closeSync(other);
    }
    expect(await ruleset()).toBe(before);
    expect(reconcile(forwarding)).toEqual([expect.stringContaining("was missing")]);
    await sh(`${iptables} -P FORWARD ACCEPT`);
    reconcile(forwarding);
  });

  const save = `${iptables}-save -t filter`;
  const changes: [script: string, wrong: string, restore?: string][] = [
    [`${iptables} -F FORWARD; ${iptables} -A FORWARD -s 192.0.2.1 -j DROP`, "not jumped to from FORWARD"],
    [`${iptables} -F WEAVE-FORWARD`, "with 0 of 3 rules"],
    [`${iptables} -D FORWARD -j WEAVE-FORWARD`, "not jumped to from FORWARD"],
    [
      `${iptables} -D FORWARD -j WEAVE-FORWARD; ${iptables} -F WEAVE-FORWARD; ${iptables} -X WEAVE-FORWARD`,
      "missing",
    ],
    [`${iptables} -D WEAVE-FORWARD 1`, "with 2 of 3 rules"],
    [`${iptables} -R WEAVE-FORWARD 2 -o weave -d 10.32.0.0/13 -j ACCEPT`, "with changed rules"],
    [`${iptables} -I WEAVE-FORWARD -s 10.32.0.7 -j DROP`, "with 4 of 3 rules"],
    [
      `${iptables} -I FORWARD -s 192.0.2.2 -j DROP`,
      "behind other rules of FORWARD",
      `${iptables} -D FORWARD -s 192.0.2.2 -j DROP`,
    ],
    [`${iptables} -A FORWARD -j WEAVE-FORWARD`, "behind other rules of FORWARD"],
    [`${save} | grep -v WEAVE | ${iptables}-restore`, "missing"],
  ];
  describe("", () => {
    beforeAll(async () => {
      await sh(`${iptables} -P FORWARD DROP; ${save} | ${iptables}-restore`);
      reconcile(forwarding);
    });
    afterAll(async () => {
      await sh(`${iptables} -P FORWARD ACCEPT; ${iptables} -F FORWARD`);
      reconcile(forwarding);
    });

    test.each(changes.map((change) => ({ change, script: change[0] })))("$script", async ({ change }) => {
      const [script, wrong, restore] = change;
      const before = await ruleset();
      await sh(script);
      expect(reconcile(forwarding)).toEqual([expect.stringContaining(wrong)]);
      if (restore) await sh(restore);
      expect(await ruleset()).toBe(before);
      expect(reconcile(forwarding)).toEqual([]);
    });

    test.each([`${iptables} -Z`, `${save} | ${iptables}-restore`])("%s changes nothing", async (script) => {
      await sh(script);
      expect(reconcile(forwarding)).toEqual([]);
    });
  });
});

describe("forwarding by firewalld", () => {
  const script =
    "table inet firewalld { chain filter_FORWARD { type filter hook forward priority filter + 10; ct state established accept; reject with icmpx admin-prohibited; }; }";
  const forwarding = () => keeper(new ForwardingResource(nf, () => exposed.map(({ cidr }) => cidr)));

  test("goes in front of its rules, again after a reload, and away with it", async () => {
    await sh(`nft '${script}'`);
    const reload = `nft 'delete table inet firewalld; ${script}'`;
    for (const change of ["true", reload, "nft flush chain inet firewalld WEAVE-FORWARD"]) {
      await sh(change);
      expect(reconcile(forwarding())).toHaveLength(1);
      expect(await ruleset()).toContain("counter jump WEAVE-FORWARD\n\t\tct state established accept\n");
      expect(await ruleset()).toContain('oifname "weave" ip daddr 10.32.0.0/12 counter accept');
      expect(reconcile(forwarding())).toEqual([]);
    }
    await sh("nft delete table inet firewalld");
    expect(reconcile(forwarding())).toEqual([]);
  });

  test("is nothing where only firewalld may change its table", async () => {
    using owner = inNetns(netns(), () => new NetlinkSocket(NETLINK_NETFILTER));
    const table = { family: "inet", name: "firewalld" } as const;
    const chain = {
      name: "filter_FORWARD",
      base: { type: "filter", hook: "forward", priority: 10, policy: "drop" },
    } as const;
    commit(owner, [addTable(table, NFT_TABLE_F_OWNER), addChain(table, chain)]);
    expect(reconcile(forwarding())).toEqual([]);
    commit(owner, [deleteTable(table)]);
  });
});
