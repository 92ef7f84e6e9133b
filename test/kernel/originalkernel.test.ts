// What the original leaves in a host's kernel: found, counted and removed, and nothing of others.
import { describe, expect, test } from "bun:test";
import { ipsetDestroy, ipsetList } from "../../lib/migration/ipset.ts";
import {
  findOriginalKernel,
  isEmpty,
  removeOriginalLinks,
  removeOriginalRules,
} from "../../lib/migration/kernel.ts";
import { linkAdd, linkList } from "../../lib/netlink/link.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { inHost, isRoot, nft } from "../support/newnetns.ts";
import { scriptedSocket } from "../support/rtsocket.ts";

/** linux/netfilter/ipset/ip_set.h: IPSET_ERR_BUSY. */
const [BUSY, ENOENT, EPERM] = [4_100, 2, 1];
const [FLUSH, DESTROY] = [0x604, 0x603];

describe("a set", () => {
  const destroy = (answer: (type: number) => number) => {
    const { nl, asked } = scriptedSocket(({ type }) => answer(type) || []);
    return [ipsetDestroy(nl, "weave-x"), asked.map(({ type }) => type)];
  };

  test("is emptied, then destroyed", () => {
    const { nl, asked } = scriptedSocket();
    expect(ipsetDestroy(nl, "weave-x")).toBe(true);
    const named = "020000000500010006000000" + "0c00020077656176652d7800";
    expect(asked.map(({ type, body }) => [type, body.toHex()])).toEqual([
      [FLUSH, named],
      [DESTROY, named],
    ]);
  });

  test.each([
    ["in use", BUSY],
    ["gone meanwhile", ENOENT],
  ])("that is %s stays, and is no error", (_, errno) => {
    expect(destroy((type) => (type === DESTROY ? errno : 0))).toEqual([false, [FLUSH, DESTROY]]);
    expect(destroy((type) => (type === FLUSH ? errno : 0))).toEqual([false, [FLUSH]]);
  });

  test("that may not be destroyed is an error", () => {
    expect(() => destroy(() => EPERM)).toThrow("ipset flush weave-x");
  });

  test("is not looked for where the kernel has none", () => {
    const { nl } = scriptedSocket(() => EPERM);
    expect(ipsetList(nl)).toEqual([]);
  });
});

describe.if(isRoot)("in a network namespace", () => {
  function host(
    act: (find: () => ReturnType<typeof findOriginalKernel>, nf: NetlinkSocket, route: NetlinkSocket) => void,
  ) {
    inHost((route) => {
      using nf = new NetlinkSocket(NETLINK_NETFILTER);
      act(() => findOriginalKernel(route, nf), nf, route);
    });
  }

  test("there is nothing at first", () => {
    host((find) => {
      expect(find()).toEqual({ links: [], rules: [], sets: [] });
      expect(isEmpty(find())).toBe(true);
    });
  });

  test("its links are veths of these names; they are removed, others stay", () => {
    host((find, _nf, route) => {
      linkAdd(route, { kind: "veth", name: "vethwe-bridge", peer: { name: "vethwe-datapath" } });
      linkAdd(route, { kind: "veth", name: "vethwepl1", peer: { name: "other" } });
      linkAdd(route, { kind: "bridge", name: "datapath" });
      linkAdd(route, { kind: "bridge", name: "vethwe-pcap" });
      expect([...find().links].sort()).toEqual(["vethwe-bridge", "vethwe-datapath"]);
      expect(isEmpty(find())).toBe(false);
      removeOriginalLinks(route);
      expect(linkList(route).map(({ name }) => name)).toEqual([
        "lo",
        "other",
        "vethwepl1",
        "datapath",
        "vethwe-pcap",
      ]);
    });
  });

  test.each(["vethwe-bridge", "vethwe-datapath", "vethwe-pcap"])("%s is one of its links", (name) => {
    host((find, _nf, route) => {
      linkAdd(route, { kind: "veth", name, peer: { name: "other" } });
      expect(find().links).toEqual([name]);
    });
  });

  test("its rules are chains WEAVE and WEAVE-…, and jumps to them; they are removed, others stay", () => {
    host((find, nf) => {
      nft(
        `add table ip filter
         add chain ip filter FORWARD { type filter hook forward priority 0; policy accept; }
         add chain ip filter INPUT { type filter hook input priority 0; policy accept; }
         add chain ip filter WEAVE-NPC
         add chain ip filter WEAVE-NPC-DEFAULT
         add chain ip filter WEAVER
         add rule ip filter FORWARD oifname "weave" jump WEAVE-NPC
         add rule ip filter FORWARD ip saddr 10.0.0.1 accept
         add rule ip filter INPUT jump WEAVER
         add rule ip filter WEAVE-NPC jump WEAVE-NPC-DEFAULT
         add rule ip filter WEAVER drop
         add table ip nat
         add chain ip nat POSTROUTING { type nat hook postrouting priority 100; }
         add chain ip nat WEAVE
         add rule ip nat POSTROUTING jump WEAVE
         add rule ip nat WEAVE ip saddr 10.32.0.0/12 masquerade
         add table ip other
         add chain ip other WEAVE-X`,
      );
      const [found, ...more] = find().rules;
      expect([found?.variant, more]).toEqual(["iptables-nft", []]);
      expect(found?.chains).toBe(3);
      expect(removeOriginalRules(nf)).toEqual([]);
      expect(find().rules).toEqual([]);
      const left = nft("list", "ruleset");
      for (const text of ["WEAVER", "10.0.0.1", "WEAVE-X"]) expect(left).toContain(text);
      for (const text of ["WEAVE-NPC", "masquerade", "oifname"]) expect(left).not.toContain(text);
    });
  });
});
