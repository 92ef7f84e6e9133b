// What the doctor finds in a host's kernel, and what its fixes change there: in namespaces of this process.
import { afterAll, afterEach, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { applyFixes } from "../../lib/doctor/apply.ts";
import { configuredFindings } from "../../lib/doctor/configured.ts";
import { filterFindings, forwardPolicy } from "../../lib/doctor/filter.ts";
import { firewalldFindings } from "../../lib/doctor/firewalld.ts";
import { type Fix, planFixes } from "../../lib/doctor/fix.ts";
import { kernelFindings } from "../../lib/doctor/kernel.ts";
import { leftoverFindings } from "../../lib/doctor/leftovers.ts";
import { portFindings } from "../../lib/doctor/ports.ts";
import { firewallTable } from "../../lib/host/firewall.ts";
import { sysctlGet } from "../../lib/host/sysctl.ts";
import { addressAdd } from "../../lib/netlink/address.ts";
import { linkAdd, linkByName } from "../../lib/netlink/link.ts";
import { tableReplace } from "../../lib/netlink/nftables/replace.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import * as instances from "../../lib/router/instance.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import * as holders from "../../lib/sys/portholder.ts";
import { takenPorts } from "../../lib/sys/portholder.ts";
import { bareContainer, indexOf, inHost, ip, isRoot, nft, veth } from "../support/newnetns.ts";

let folder: string;
const before = process.env["WEAVE_RUN_DIR"];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-doctorhost-"));
  process.env["WEAVE_RUN_DIR"] = folder;
});
afterAll(() => {
  if (before === undefined) delete process.env["WEAVE_RUN_DIR"];
  else process.env["WEAVE_RUN_DIR"] = before;
  rmSync(folder, { recursive: true });
});

const spies: { mockRestore(): void }[] = [];
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
});

const EXPOSED = parseCidr("10.32.0.1/12");
/** A bridge of ours, with an address if one is exposed. */
function bridge(nl: NetlinkSocket, exposed = false): void {
  linkAdd(nl, { kind: "bridge", name: "weave", up: true });
  if (exposed) addressAdd(nl, "weave", indexOf(nl, "weave"), EXPOSED);
}
function firewall(masquerade: boolean): void {
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  const exposed = [{ cidr: EXPOSED, masquerade }];
  tableReplace(nf, firewallTable({ exposed, controlPort: undefined, local: [] }));
}
const told = (findings: ReturnType<typeof filterFindings>) =>
  findings.map(({ check, level, found }) => `${level} ${check}: ${found}`);

describe("a packet filter that drops what is forwarded", () => {
  const dropping = (accepts: boolean) => [{ variant: "iptables-nft" as const, accepts }];
  const of = (...args: Parameters<typeof forwardPolicy>) => {
    const { level, fixes } = forwardPolicy(...args);
    return [level, fixes?.length ?? 0];
  };

  test("is a problem where nothing accepts ours; a router that runs repairs it by itself", () => {
    expect(of([], true, false)).toEqual(["ok", 0]);
    expect(of(dropping(true), true, false)).toEqual(["ok", 0]);
    expect(of(dropping(false), false, false)).toEqual(["ok", 0]);
    expect(of(dropping(false), true, false)).toEqual(["problem", 1]);
    expect(of(dropping(false), true, true)).toEqual(["problem", 0]);
    expect(of([...dropping(true), ...dropping(false)], true, false)).toEqual(["problem", 1]);
  });
});

describe.if(isRoot)("our table of nftables", () => {
  const FORWARD = "ok forward: no FORWARD policy drops packets";
  const about = (running = false) => {
    const [forward, ...others] = told(filterFindings(running));
    expect(forward).toBe(FORWARD);
    return others;
  };

  test("is looked at where there is a bridge: missing, in place, without masquerading", () => {
    inHost((nl) => {
      expect(about()).toEqual([]);
      bridge(nl, true);
      expect(about()).toEqual([
        "problem firewall: nftables table ip weave is missing: traffic of the network is neither accepted nor masqueraded",
      ]);
      firewall(true);
      expect(about()).toEqual(["ok firewall: nftables table ip weave is in place"]);
      firewall(false);
      expect(about()).toEqual([
        "warning firewall: no masquerading for the exposed address 10.32.0.1/12: it was exposed with --no-masq, or rules were removed",
      ]);
      // The router knows how it was exposed.
      expect(about(true)).toEqual(["ok firewall: nftables table ip weave is in place"]);
    });
  });

  test.each([
    ["add table ip weave { flags dormant; }", ["it is dormant"]],
    ["flush chain ip weave forward", ["chain forward lacks rules of weave"]],
    [
      "flush table ip weave; delete chain ip weave forward",
      ["chain forward is missing or has another hook", "chain forward lacks rules of weave"],
    ],
  ])("was changed: %s", (change, wrong) => {
    inHost((nl) => {
      bridge(nl);
      firewall(true);
      nft(change);
      const [finding] = about();
      expect(finding).toStartWith("problem firewall: nftables table ip weave was changed: ");
      for (const each of wrong) expect(finding).toContain(each);
      const [, running] = filterFindings(true);
      const [, not] = filterFindings(false);
      expect([running?.advice, not?.advice]).toEqual([
        "'weave status' shows why the router does not repair it",
        "'weave launch' repairs it",
      ]);
    });
  });

  test("without a bridge is a leftover of a router that ended", () => {
    inHost((nl) => {
      firewall(true);
      const [finding] = leftoverFindings(undefined);
      expect([finding?.level, finding?.found]).toEqual([
        "warning",
        "table ip weave of a router that ended, with its bridge",
      ]);
      expect(finding?.fixes).toEqual([{ action: "remove-filter", table: true, variants: [] }]);
      bridge(nl);
      expect(leftoverFindings(undefined)[0]?.level).toBe("ok");
    });
  });
});

describe.if(isRoot)("links of ours that another program configures", () => {
  const texts = () => configuredFindings().map(({ level, found }) => [level, found]);
  const port = (nl: NetlinkSocket, name: string) => {
    veth(nl, name);
    ip("link", "set", name, "master", "weave");
  };

  test("are none where only the bridge has an address", () => {
    inHost((nl) => {
      bridge(nl, true);
      port(nl, "vethweplab");
      expect(texts()).toEqual([]);
    });
  });

  test("are told, of links of the bridge alone", () => {
    inHost((nl) => {
      bridge(nl, true);
      for (const name of ["vethweplab", "vethweplcd"]) port(nl, name);
      veth(nl, "vethweother", "169.254.9.9/16");
      veth(nl, "eth7", "169.254.8.8/16");
      ip("addr", "add", "169.254.1.2/16", "dev", "vethweplcd");
      const said = "vethweplcd has 169.254.1.2/16: another program configures links of weave";
      expect(texts()).toEqual([["warning", said]]);
      ip("route", "add", "default", "dev", "vethweplab");
      const all = `vethweplab has a default route, ${said}`;
      expect(texts()).toEqual([["problem", all]]);
    });
  });

  test("are three by name", () => {
    inHost((nl) => {
      bridge(nl);
      for (const i of [1, 2, 3, 4, 5]) {
        port(nl, `vethwepl${i}`);
        ip("addr", "add", `169.254.1.${i}/16`, "dev", `vethwepl${i}`);
      }
      expect(texts()[0]?.[1]).toMatch(
        /^vethwepl1 has 169\.254\.1\.1\/16, vethwepl2 .*, vethwepl3 .*, and 2 more: /,
      );
    });
  });
});

describe.if(isRoot)("firewalld", () => {
  /** Its table, with these rules for zones and in zones. */
  const firewalld = (zones: string, zone: string, content: string, first = "") =>
    nft(
      `add table inet firewalld
       add chain inet firewalld WEAVE-FORWARD
       add chain inet firewalld filter_FORWARD
       add chain inet firewalld filter_FORWARD_ZONES
       add chain inet firewalld filter_FWD_public
       add chain inet firewalld filter_FWD_${zone}
       ${first}
       ${zones}
       ${content}`,
    );
  const jump = (match: string, zone: string) =>
    `add rule inet firewalld filter_FORWARD_ZONES ${match} goto filter_FWD_${zone}`;
  const reject = (zone: string) =>
    `add rule inet firewalld filter_FWD_${zone} reject with icmpx admin-prohibited`;
  const found = () => firewalldFindings().map((each) => `${each.level}: ${each.found}`);

  test("that does not run is no finding", () => inHost(() => expect(found()).toEqual([])));

  test.each([
    [
      "weave's own zone counts",
      `${jump("iifname weave", "trusted")}\n${jump("", "public")}`,
      "trusted",
      "",
      "ok: link weave is in zone trusted",
    ],
    [
      "else the last one, that of all others",
      `${jump("iifname weave2", "public")}\n${jump("", "home")}`,
      "home",
      "",
      "ok: link weave is in zone home",
    ],
    [
      "a zone that rejects",
      jump("", "public"),
      "work",
      reject("public"),
      "problem: link weave is in zone public, which rejects what containers send to and by this host",
    ],
    [
      "a zone that drops by its nature",
      jump("", "drop"),
      "drop",
      "",
      "problem: link weave is in zone drop, which rejects what containers send to and by this host",
    ],
  ])("%s", (_, zones, zone, content, expected) => {
    inHost(() => {
      firewalld(zones, zone, content);
      expect(found()).toEqual([expected]);
    });
  });

  test("with our chain first rejects only what is to this host", () => {
    inHost(() => {
      const first = "add rule inet firewalld filter_FORWARD jump WEAVE-FORWARD";
      firewalld(jump("", "public"), "work", reject("public"), first);
      expect(found()).toEqual([
        "problem: link weave is in zone public, which rejects what containers send to this host",
      ]);
    });
  });

  test.each([
    [undefined, "--add-port=6783/tcp --add-port=6783/udp --add-port=6784/udp"],
    [7_000, "--add-port=7000/tcp --add-port=7000/udp --add-port=7001/udp"],
  ])(
    "that rejects is to trust the bridge, and to let in port %p of the mesh and the next of UDP",
    (port, open) => {
      inHost(() => {
        firewalld(jump("", "public"), "work", reject("public"));
        expect(firewalldFindings(port).map(({ check, advice }) => [check, advice])).toEqual([
          [
            "firewalld",
            `'firewall-cmd --permanent --zone=trusted --add-interface=weave', 'firewall-cmd --permanent ${open}', 'firewall-cmd --reload'`,
          ],
        ]);
      });
    },
  );

  test("without zones says nothing", () => {
    inHost(() => {
      firewalld("", "work", "");
      expect(found()).toEqual([]);
    });
  });
});

describe.if(isRoot)("fixes", () => {
  const apply = (...fixes: Fix[]) =>
    applyFixes(planFixes([{ check: "c", found: "f", fixes }])).map(({ error }) => error);

  test("set what was found, on the link that was examined alone", () => {
    inHost((nl) => {
      bridge(nl);
      const index = indexOf(nl, "weave");
      expect(apply({ action: "set-mtu", link: "weave", index, mtu: 1_300 })).toEqual([undefined]);
      expect(linkByName(nl, "weave")?.mtu).toBe(1_300);
      expect(
        apply(
          { action: "set-mtu", link: "weave", index: index + 1, mtu: 1_200 },
          { action: "delete-link", link: "weave", index, kind: "vxlan" },
          { action: "delete-link", link: "none", index, kind: "bridge" },
        ),
      ).toEqual([
        "another link has that name now",
        "another link has that name now",
        "it was removed meanwhile",
      ]);
      expect(linkByName(nl, "weave")?.mtu).toBe(1_300);
      expect(apply({ action: "delete-link", link: "weave", index, kind: "bridge" })).toEqual([undefined]);
      expect(linkByName(nl, "weave")).toBeUndefined();
    });
  });

  test("set switches of the kernel, and say where it does not take them", () => {
    inHost(() => {
      const name = "net/ipv4/ip_forward";
      const [set, refused] = apply(
        { action: "set-sysctl", name, value: "1" },
        { action: "set-sysctl", name: "net/ipv4/none", value: "1" },
      );
      expect([set, sysctlGet(name)]).toEqual([undefined, "1"]);
      expect(refused).toBe("the kernel refuses 1, or /proc/sys is read-only");
    });
  });

  test("remove our table, and files; a fix that fails does not stop the rest", () => {
    inHost(() => {
      firewall(true);
      const file = join(folder, "leftover");
      writeFileSync(file, "");
      const name = "net/ipv4/none";
      expect(
        apply(
          { action: "set-sysctl", name, value: "1" },
          { action: "remove-file", file },
          { action: "remove-file", file: `${file}2` },
          { action: "remove-filter", table: true, variants: [] },
        ),
      ).toEqual([expect.any(String), undefined, undefined, undefined]);
      expect([existsSync(file), nft("list", "tables")]).toEqual([false, ""]);
    });
  });

  test("leave what a router has that was launched since: its files, and its table", () => {
    inHost(() => {
      firewall(true);
      const socket = join(folder, "weave.sock");
      writeFileSync(socket, "");
      spies.push(spyOn(instances, "isInstanceLocked").mockImplementation(() => true));
      const file = join(folder, "conflist");
      writeFileSync(file, "");
      expect(
        apply(
          { action: "remove-file", file: socket, whileNoRouter: true },
          { action: "remove-filter", table: true, variants: [] },
          { action: "remove-file", file },
        ),
      ).toEqual(["a router was launched meanwhile", "a router was launched meanwhile", undefined]);
      expect([existsSync(socket), existsSync(file), nft("list", "tables")]).toEqual([
        true,
        false,
        "table ip weave\n",
      ]);
      rmSync(socket);
    });
  });

  test("write the plugin and its configuration", () => {
    const bin = mkdtempSync(join(folder, "bin-"));
    const executable = join(folder, "weave");
    writeFileSync(executable, "x", { mode: 0o755 });
    expect(
      apply(
        { action: "install-plugin", folder: bin, executable },
        { action: "write-cni-configuration", folder: bin, file: "10-weave.conflist", hairpin: true },
      ),
    ).toEqual([undefined, undefined]);
    expect(readdirSync(bin)).toEqual(expect.arrayContaining(["10-weave.conflist", "weave-net"]));
  });

  test("accept what is forwarded where iptables drops it", () => {
    inHost((nl) => {
      bridge(nl);
      nft(
        "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }",
      );
      const found = () => told(filterFindings(false))[0];
      expect(found()).toBe(
        "problem forward: iptables-nft drops forwarded packets by policy, and no rule accepts those of weave",
      );
      expect(apply({ action: "accept-forwarded", variants: ["iptables-nft"] })).toEqual([undefined]);
      expect(found()).toBe(
        "ok forward: iptables-nft drops forwarded packets by policy; chain WEAVE-FORWARD accepts those of weave",
      );
      expect(apply({ action: "remove-filter", table: false, variants: ["iptables-nft"] })).toEqual([
        undefined,
      ]);
      expect(nft("list", "chain", "ip", "filter", "FORWARD")).not.toContain("WEAVE");
    });
  });
});

describe.if(isRoot)("the network's ports", () => {
  test("are free, or another program's, which is named", async () => {
    using host = bareContainer();
    const look = (running: boolean, mesh?: number) =>
      inNetns(host.pid, () => portFindings(running, mesh)).map(({ level, found }) => `${level}: ${found}`);
    expect(look(false)).toEqual(["ok: TCP 6783 and 6784, UDP 6783 and 6784 are free"]);
    expect(look(true)).toEqual(["ok: the router has its ports"]);
    const server = inNetns(host.pid, () => createServer().listen(6_784, "127.0.0.1"));
    try {
      const name = /^Name:\s+(.*)$/m.exec(await Bun.file("/proc/self/status").text())?.[1];
      const taken = `problem: TCP port 6784, for the control API, is in use by ${name} (pid ${process.pid})`;
      expect([look(false), look(true)]).toEqual([[taken], [taken]]);
      // It serves the control API elsewhere, or it would not run.
      expect(look(true, 7_000)).toEqual(["ok: the router has its ports"]);
    } finally {
      server.close();
    }
  });

  test("are those that a router was launched with", () => {
    using host = bareContainer();
    inNetns(host.pid, () => {
      const sockets = [Bun.listen({ hostname: "127.0.0.1", port: 7_000, socket: { data() {} } })];
      try {
        const look = (mesh?: number) => portFindings(true, mesh).map(({ level }) => level);
        expect([look(), look(7_000)]).toEqual([["ok"], ["problem"]]);
      } finally {
        for (const socket of sockets) socket.stop(true);
      }
    });
  });

  test("are no problem where the link of a router that ended has one: containers talk by it", () => {
    inHost((nl) => {
      linkAdd(nl, { kind: "vxlan", name: "vxlan-6784", port: 6_784, up: true });
      expect(takenPorts().map(({ protocol, port }) => `${protocol} ${port}`)).toContain("udp 6784");
      expect(portFindings(false).map(({ level }) => level)).toEqual(["ok"]);
      // A link has no TCP port, whoever has that.
      spies.push(spyOn(holders, "programOf").mockImplementation(() => undefined));
      const other = Bun.listen({ hostname: "127.0.0.1", port: 6_784, socket: { data() {} } });
      try {
        expect(portFindings(false).map(({ found }) => found)).toEqual([
          "TCP port 6784, for the control API, is in use by another program or link",
        ]);
      } finally {
        other.stop(true);
      }
    });
    inHost((nl) => {
      linkAdd(nl, { kind: "vxlan", name: "other", port: 6_784, up: true });
      expect(portFindings(false).map(({ found }) => found)).toEqual([
        "UDP port 6784, for the fast datapath, is in use by another program or link",
      ]);
    });
  });
});

describe.if(isRoot)("the kernel", () => {
  test("has what the network needs, each by name; ESP is asked for with a password alone", () => {
    const names = (encrypted: boolean) =>
      kernelFindings(encrypted).map(({ check, level }) => `${check} ${level}`);
    const [first, ...missing] = kernelFindings(false);
    expect(first?.found).toStartWith("the kernel has bridge, veth");
    expect(missing.every(({ level, advice }) => level !== "ok" && advice !== undefined)).toBe(true);
    const with_ = kernelFindings(true);
    const esp = with_[0]?.found.includes("ESP") || with_.some(({ check }) => check === "ESP");
    expect([esp, first?.found.includes("ESP"), names(false).includes("ESP warning")]).toEqual([
      true,
      false,
      false,
    ]);
  });
});
