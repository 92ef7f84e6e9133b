// What the doctor makes of files: ports, kube-proxy's settings, CNI's folders.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseSubnet } from "../../lib/address/ipv4.ts";
import { originalConflist } from "../../lib/cni/conflist.ts";
import { addressFindings } from "../../lib/doctor/addresses.ts";
import { clockFinding } from "../../lib/doctor/clock.ts";
import { cniFindings, findRuntime } from "../../lib/doctor/cni.ts";
import { findingsText, ok, problem } from "../../lib/doctor/finding.ts";
import { describeFix, type Fix, planFixes } from "../../lib/doctor/fix.ts";
import { kubeProxyFindings, kubeProxyProblems, readKubeProxy } from "../../lib/doctor/kubeproxy.ts";
import { linkProblems } from "../../lib/doctor/links.ts";
import { repairFindings } from "../../lib/doctor/repairs.ts";
import { reportFindings } from "../../lib/doctor/router.ts";
import { addressObstacle } from "../../lib/ipam/obstacle.ts";
import type { Link } from "../../lib/netlink/link.ts";
import * as processes from "../../lib/sys/processes.ts";
import * as textfiles from "../../lib/sys/textfile.ts";
import type { Trouble } from "../../lib/sys/trouble.ts";

test("findings read as a table", () => {
  expect(findingsText([ok("mtu", "fits"), problem("ports", "taken", "free them")])).toBe(
    "ok       mtu    fits\nproblem  ports  taken\n                -> free them\n",
  );
});

test.each<[Fix, string]>([
  [{ action: "set-sysctl", name: "net/ipv4/ip_forward", value: "1" }, "sysctl -w net.ipv4.ip_forward=1"],
  [
    { action: "set-sysctl", name: "net/ipv4/conf/eth0.5/rp_filter", value: "2" },
    "sysctl -w net/ipv4/conf/eth0.5/rp_filter=2",
  ],
  [{ action: "load-module", module: "vxlan" }, "modprobe vxlan"],
  [{ action: "delete-link", link: "vxlan-7001", index: 7, kind: "vxlan" }, "ip link del vxlan-7001"],
  [{ action: "set-mtu", link: "weave", index: 7, mtu: 1350 }, "ip link set weave mtu 1350"],
  [
    { action: "accept-forwarded", variants: ["iptables-legacy"] },
    "iptables-legacy -I FORWARD -j WEAVE-FORWARD (accepting what is from and to weave)",
  ],
  [
    { action: "accept-forwarded", variants: ["firewalld"] },
    "nft insert rule inet firewalld filter_FORWARD jump WEAVE-FORWARD (accepting what is from and to weave)",
  ],
  [
    { action: "remove-filter", table: false, variants: ["firewalld"] },
    "nft delete chain inet firewalld WEAVE-FORWARD, and the jumps to it",
  ],
  [
    { action: "remove-filter", table: true, variants: ["iptables-nft"] },
    "nft delete table ip weave; iptables-nft -F, -X WEAVE-FORWARD, and the jumps to it",
  ],
  [
    {
      action: "remove-original-rules",
      rules: [{ variant: "iptables-nft", chains: 2, rules: 3 }],
      sets: ["weave-x"],
    },
    "remove 2 chains WEAVE* and 3 rules of the original from iptables-nft; ipset destroy weave-x",
  ],
])("%j is told as %s", (fix, does) => expect(describeFix(fix)).toBe(does));

test("what several findings ask for is done once, in order", () => {
  const sysctl = (value: string): Fix => ({ action: "set-sysctl", name: "net/a", value });
  const planned = planFixes([
    ok("x", "well"),
    problem("a", "1", "", [sysctl("1"), sysctl("2")]),
    problem("b", "2", "", [sysctl("2"), sysctl("3")]),
  ]);
  expect(planned.map(({ check, does }) => `${check} ${does}`)).toEqual([
    "a sysctl -w net.a=1",
    "a sysctl -w net.a=2",
    "b sysctl -w net.a=3",
  ]);
});

test("a peer that cannot be reached: one problem, and advice for its cause", () => {
  const failed = (Address: string, Cause: string, Reason: string, Remedy: string) => ({
    ...{ Address, State: "failed", Info: "what logs have" },
    Trouble: { Cause, Reason, Remedy },
  });
  const findings = reportFindings({
    Ready: true,
    Problems: [
      { Check: "peers", Found: "peer x is refused since then", Advice: "reset it", Address: "10.0.0.3:6783" },
    ],
    Router: {
      Encryption: true,
      Interface: "vxlan-6784 (fast datapath: VXLAN and eBPF)",
      Connections: [
        failed("10.0.0.1:6783", "refused", "connection refused", "launch it"),
        failed("10.0.0.3:6783", "range", "Incompatible IP allocation ranges", "use one"),
        failed("10.0.0.4:6783", "self", "cannot connect to ourself", "forget it"),
        // As a router of an earlier version has it.
        { Address: "10.0.0.5:6783", State: "failed", Info: "EOF" },
      ],
    },
    IPAM: { Range: "10.32.0.0/12", RangeNumIPs: 1 },
  });
  expect(findings.flatMap(({ advice }) => advice ?? [])).toEqual([
    "reset it",
    "launch it",
    "see 'weave logs' on both hosts",
  ]);
});

describe("a router's report", () => {
  const connection = (State: string) => ({ Address: "10.0.0.1:6783", State, Info: "why" });
  const report = (Connections: ReturnType<typeof connection>[], Entries: object[] = []) => ({
    Ready: true,
    Problems: [],
    Router: { Encryption: false, Interface: "", Connections },
    IPAM: { Range: "10.32.0.0/12", RangeNumIPs: 100, Entries: Entries as never[] },
  });
  const about = (subject: string, given: ReturnType<typeof report>) =>
    reportFindings(given).filter(({ check }) => check === subject);

  test.each([
    ["failed", 1],
    ["retrying", 1],
    ["connecting", 0],
    ["pending", 0],
    ["established", 0],
  ])("a connection that is %s: problems %d", (state, problems) => {
    expect(about("connections", report([connection(state)])).length).toBe(problems);
  });

  test.each([
    [0, []],
    [5, []],
    [6, ["6 % of the range belongs to peers that cannot be reached: two (x)"]],
    [60, ["60 % of the range belongs to peers that cannot be reached: two (x)"]],
  ])("with %d of 100 addresses out of reach", (Size, found) => {
    const entries = [
      { Size, Peer: "x", Nickname: "two", IsKnownPeer: false },
      { Size: 100 - Size, Peer: "y", Nickname: "one", IsKnownPeer: true },
    ];
    expect(about("addresses", report([], entries)).map((finding) => finding.found)).toEqual(found);
  });
});

describe("addresses", () => {
  const ipam = { Range: "10.32.0.0/12", RangeNumIPs: 100 };
  const found = (given: object, obstacle?: Trouble) =>
    addressFindings({ ...ipam, ...given }, obstacle).map(({ level, found }) => `${level}: ${found}`);
  const whole = [{ Size: 100, Peer: "x", Nickname: "one", IsKnownPeer: true }];

  test("a range that nobody has asked for yet is no finding; one that waits for others is", () => {
    expect(found({})).toEqual([]);
    expect(found({ Paxos: { Elector: true, KnownNodes: 1, Quorum: 2 } })).toEqual([
      "problem: no quorum: 1 of at least 2 peers for the division of range 10.32.0.0/12 are known",
    ]);
    expect(found({ Paxos: { Elector: false, KnownNodes: 0, Quorum: 0 } })).toEqual([
      "problem: range 10.32.0.0/12 is not divided yet: this host has no vote in it",
    ]);
    expect(found({ Paxos: { Elector: true, KnownNodes: 1, Quorum: 2 }, WaitsFor: ["h2"] })).toEqual([
      "problem: range 10.32.0.0/12 is not divided yet: no answer from h2, which may know the ring",
    ]);
  });

  test("why a container would get none now, once", () => {
    expect(found({ Entries: whole })).toEqual([]);
    expect(found({ Entries: whole, PendingAllocates: ["a"] })).toEqual([
      "problem: 1 containers wait for addresses",
    ]);
    const full = addressObstacle("exhausted", "range is full");
    const given = { ...ipam, Entries: whole, PendingAllocates: ["a"] };
    expect(found(given, full)).toEqual(["problem: range is full"]);
    expect(addressFindings(given, full)[0]?.advice).toBe(full.remedy);
  });
});

describe("links", () => {
  const link = (name: string, more: Partial<Link> = {}): Link =>
    ({ name, index: 1, up: true, mtu: 1376, carrier: true, ...more }) as Link;
  const bridge = link("weave", { kind: "bridge" });
  const vxlan = link("vxlan-6784", {
    index: 2,
    kind: "vxlan",
    master: 1,
    vxlan: { port: 6784, external: true, learning: false },
  });
  const found = (links: Link[], running = true, port?: string) =>
    linkProblems(links, running, port).map(({ level, found }) => `${level}: ${found}`);

  test.each<[string, Link[], string | undefined, string[]]>([
    ["all", [bridge, vxlan], "vxlan-6784", ["ok: weave and vxlan-6784 are up"]],
    ["nothing", [], undefined, ["problem: bridge weave is missing: containers cannot reach each other"]],
    [
      "no port",
      [bridge],
      "vxlan-6784",
      ["problem: link vxlan-6784 is missing: containers cannot reach containers on other hosts"],
    ],
    [
      "another port",
      [bridge, vxlan],
      "sleeve-6783",
      ["problem: link sleeve-6783 is missing: containers cannot reach containers on other hosts"],
    ],
    [
      "down, and off",
      [
        { ...bridge, up: false },
        { ...vxlan, up: false, master: undefined },
      ],
      undefined,
      [
        "problem: bridge weave is down: containers cannot reach each other",
        "problem: link vxlan-6784 is down: containers cannot reach containers on other hosts",
        "problem: link vxlan-6784 is off bridge weave: containers cannot reach containers on other hosts",
      ],
    ],
  ])("%s", (_, links, port, expected) => expect(found(links, true, port)).toEqual(expected));

  test("a host that was never one of the network has none", () => expect(found([], false)).toEqual([]));
});

describe("kube-proxy", () => {
  const RANGE = parseSubnet("10.32.0.0/12");
  const file = (text: string) => () => text;

  test.each<[string[], string, boolean, string]>([
    [["kube-proxy"], "", false, ""],
    [["kube-proxy", "--masquerade-all"], "", true, ""],
    [["kube-proxy", "--masquerade-all=true", "--cluster-cidr=10.32.0.0/12"], "", true, "10.32.0.0/12"],
    [["kube-proxy", "--masquerade-all=false", "--cluster-cidr", "10.0.0.0/8"], "", false, "10.0.0.0/8"],
    [
      ["kube-proxy", "--config=/c"],
      "clusterCIDR: 10.1.0.0/16\niptables:\n  masqueradeAll: true\n",
      true,
      "10.1.0.0/16",
    ],
    [["kube-proxy", "--config", "/c"], 'clusterCIDR: ""\niptables: null\n', false, ""],
    // A configuration file is all that counts.
    [["kube-proxy", "--config=/c", "--masquerade-all"], "iptables: { masqueradeAll: null }", false, ""],
  ])("%j", (args, config, masqueradeAll, clusterCidr) => {
    expect(readKubeProxy(args, file(config))).toEqual({ masqueradeAll, clusterCidr });
  });

  describe("on this host", () => {
    let spies: { mockRestore(): void }[];
    afterEach(() => {
      for (const spy of spies) spy.mockRestore();
    });
    /** Look at processes 7 and 8; `files` by their paths in /proc. */
    const look = (files: Record<string, string>, strangers: readonly string[] = []) => {
      spies = [
        spyOn(processes, "processIds").mockImplementation(() => ["7", "8"]),
        spyOn(processes, "managesNetwork").mockImplementation(
          (pid) => strangers.includes(String(pid)) === false,
        ),
        spyOn(textfiles, "readRegularFile").mockImplementation((path) => fs.readFileSync(path, "utf8")),
        spyOn(fs, "readFileSync").mockImplementation(((path: string) => {
          const text = files[path];
          if (text === undefined) throw Object.assign(new Error(`ENOENT ${path}`), { code: "ENOENT" });
          return text;
        }) as never),
      ];
      return kubeProxyFindings(RANGE).map(({ level }) => level);
    };
    const ITS = "/proc/8/root/var/lib/kube-proxy/config.conf";
    const RUNS = {
      "/proc/8/cmdline": "/usr/local/bin/kube-proxy\0--config=/var/lib/kube-proxy/config.conf\0",
      "/proc/8/comm": "kube-proxy\n",
    };
    const OTHER = { "/proc/7/cmdline": "sh\0", "/proc/7/comm": "sh\n" };

    test("its configuration is read where it has it, in its container", () => {
      expect(look({ ...OTHER, ...RUNS, [ITS]: "iptables: { masqueradeAll: true }" })).toEqual(["problem"]);
      expect(
        look({
          ...RUNS,
          [ITS]: "{}",
          "/var/lib/kube-proxy/config.conf": "iptables: { masqueradeAll: true }",
        }),
      ).toEqual(["ok"]);
    });

    test("a process of a container that calls itself so says nothing", () => {
      const stranger = {
        "/proc/7/cmdline": "kube-proxy\0--masquerade-all\0",
        "/proc/7/comm": "kube-proxy\n",
      };
      expect(look(stranger, ["7"])).toEqual([]);
      expect(look({ ...stranger, ...RUNS, [ITS]: "{}" }, ["7"])).toEqual(["ok"]);
    });

    test("none, and one that has just ended, are nothing", () => {
      expect(look(OTHER)).toEqual([]);
      expect(look({ "/proc/8/cmdline": "wrapper\0" })).toEqual([]);
    });

    test("a configuration that cannot be read is no kube-proxy that fits", () => {
      expect(() => look(RUNS)).toThrow(`ENOENT ${ITS}`);
      expect(() => look({ ...RUNS, [ITS]: "a: [" })).toThrow();
    });
  });

  test("what does not go with the network", () => {
    const found = (masqueradeAll: boolean, clusterCidr: string) =>
      kubeProxyProblems({ masqueradeAll, clusterCidr }, RANGE).map(({ found }) => found);
    expect(found(false, "")).toEqual([]);
    expect(found(false, "10.32.0.0/12")).toEqual([]);
    expect(found(false, "fd00::/64,10.32.0.0/12")).toEqual([]);
    expect(found(true, "")).toEqual([expect.stringContaining("masquerades everything")]);
    expect(found(false, "10.244.0.0/16")).toEqual([
      "kube-proxy expects pods in 10.244.0.0/16, but the range of the network is 10.32.0.0/12",
    ]);
    expect(found(false, "everything")).toHaveLength(1);
  });
});

test("a clock that cannot be right", () => {
  expect(clockFinding(0)).toMatchObject({
    level: "problem",
    found: "the clock says 1970-01-01T00:00:00.000Z",
  });
});

describe("CNI's folders", () => {
  let folder: string;
  const at = (path: string) => join(folder, path);
  const found = (about: { runtime?: string; named?: boolean } = {}) =>
    look(about).map(({ level, found }) => `${level}: ${found.replaceAll(folder, "")}`);
  const look = ({ runtime, named = false }: { runtime?: string; named?: boolean } = {}) =>
    cniFindings({
      bin: at("bin"),
      conf: at("conf"),
      executable: at("executable"),
      hairpin: true,
      runtime,
      named,
    });
  const fixes = () => planFixes(look()).map(({ does }) => does.replaceAll(folder, ""));
  const [install, write] = ["ln -f /executable /bin/weave-net", "write /conf/10-weave.conflist"];
  const plugin = (name: string) => writeFileSync(at(`bin/${name}`), "", { mode: 0o755 });

  test("runtimes are known by what they have on the host", () => {
    expect(findRuntime(folder)).toBeUndefined();
    mkdirSync(at("run/crio"), { recursive: true });
    expect(findRuntime(folder)).toBeUndefined();
    writeFileSync(at("run/crio/crio.sock"), "");
    expect(findRuntime(folder)).toBe("CRI-O");
  });

  const LIST = '{"plugins":[{"type":"weave-net"},{"type":"portmap"}]}';

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "weave-doctor-"));
    writeFileSync(at("executable"), "");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test("none, empty, half, whole", () => {
    expect(found()).toEqual([]);
    expect(found({ named: true })).toEqual([]);
    expect(found({ runtime: "CRI-O" })).toEqual([
      "warning: CRI-O runs on this host and neither /bin nor /conf exists",
    ]);
    mkdirSync(at("bin"));
    mkdirSync(at("conf"));
    expect(found()).toEqual([]);
    expect(found({ named: true })).toEqual(["warning: weave is not set up in /bin and /conf"]);
    expect(found({ runtime: "CRI-O" })).toEqual(["warning: weave is not set up in /bin and /conf for CRI-O"]);
    expect(planFixes(look({ named: true })).map(({ does }) => does.replaceAll(folder, ""))).toEqual([
      install,
      write,
    ]);
    writeFileSync(at("bin/weave-net"), "");
    writeFileSync(at("conf/10-weave.conflist"), LIST);
    expect(found()).toEqual([
      "problem: /bin has no executable weave-net",
      "problem: /bin has no portmap, which /conf/10-weave.conflist names: no pod starts",
    ]);
    expect(fixes()).toEqual([install]);
    rmSync(at("bin"), { recursive: true });
    expect(look()[0]?.advice?.replaceAll(folder, "")).toBe(
      "create /bin, or name the runtime's folder by --cni-bin-dir; 'weave setup' installs it",
    );
    mkdirSync(at("bin"));
    writeFileSync(at("bin/weave-net"), "");
    // The original's list may be written anew.
    writeFileSync(at("conf/10-weave.conflist"), originalConflist(true));
    expect(fixes()).toEqual([install, write]);
    writeFileSync(at("conf/10-weave.conflist"), LIST);
    rmSync(at("bin/weave-net"));
    plugin("weave-net");
    plugin("portmap");
    expect(found()).toEqual(["ok: weave-net is in /bin, and /conf names it first"]);
    writeFileSync(at("bin/weave-net"), "older");
    expect(found()).toEqual(["warning: /bin/weave-net is of another version"]);
    expect(fixes()).toEqual([install]);
    writeFileSync(at("executable"), "newer");
    expect(fixes()).toEqual([install]);
    writeFileSync(at("executable"), "older");
    expect(fixes()).toEqual([]);
    writeFileSync(at("conf/05-flannel.conflist"), "{}");
    expect(found()).toEqual([
      "problem: runtimes take /conf/05-flannel.conflist before 10-weave.conflist: containers get another network",
    ]);
    rmSync(at("conf/05-flannel.conflist"));
    writeFileSync(at("conf/10-weave.conflist"), "{");
    expect(found()).toEqual(["problem: /conf/10-weave.conflist is not JSON"]);
    expect(fixes()).toEqual(["rm /conf/10-weave.conflist", write]);
    rmSync(at("conf/10-weave.conflist"));
    expect(found()).toEqual(["problem: /conf has no configuration of weave"]);
    expect(fixes()).toEqual([write]);
  });
});

describe("repairs", () => {
  const NOW = Date.parse("2026-11-25T12:00:00Z");
  const at = (minutes: number, object: string, Wrong: string, By?: { Name: string; Pid: number }) => ({
    Time: new Date(NOW - minutes * 60_000).toISOString(),
    Object: object,
    Wrong,
    ...(By && { By }),
  });
  const none = { Count: 0, Latest: [], Resources: [{ Name: "links" }], Fights: [] };
  const found = (repairs: Parameters<typeof repairFindings>[0]) =>
    repairFindings(repairs, NOW).map(({ level, found }) => `${level}: ${found}`);

  test("of the last hour are named by object; older ones are counted", () => {
    expect(found(none)).toEqual(["ok: no other program changed kernel state of the router"]);
    const old = at(61, "link weave", "down");
    expect(found({ ...none, Count: 7, Latest: [old] })).toEqual([
      "ok: 7 changes by others were repaired, none of them in the last hour",
    ]);
    const ip = { Name: "ip", Pid: 12 };
    const latest = [
      old,
      at(59, "link weave", "missing"),
      at(3, "table ip weave", "missing"),
      at(2, "link weave", "down", ip),
    ];
    expect(found({ ...none, Count: 9, Latest: latest })).toEqual([
      "warning: changed by others in the last hour, and repaired: link weave (down by ip (pid 12), 2 times), table ip weave (missing)",
    ]);
    const many = Array.from({ length: 8 }, (_, i) => at(1, `link v${i}`, "down"));
    expect(found({ ...none, Count: 8, Latest: many })[0]).toEndWith("link v3 (down), and 3 more");
  });

  test("that fail, and fights, are problems", () => {
    const repairs = {
      ...none,
      Resources: [{ Name: "links", Failing: "EPERM" }],
      Fights: ["link weave: undone 9 times"],
    };
    expect(found(repairs)).toEqual([
      "problem: links cannot be repaired: EPERM",
      "problem: link weave: undone 9 times",
    ]);
  });
});
