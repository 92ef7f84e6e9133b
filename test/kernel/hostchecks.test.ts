// What the kernel of one host says, in network namespaces of this process: the doctor's checks of links, routes and leftovers,
// and the flow cache's programs on links. Each test has a namespace of its own, which ends with it.
import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type IPv4, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { Assembler, R0 } from "../../lib/bpf/assembler.ts";
import { liftMemoryLimit } from "../../lib/bpf/bpf.ts";
import { loadProgram, type Program } from "../../lib/bpf/program.ts";
import { tcxPrograms } from "../../lib/bpf/tcx.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import type { Finding } from "../../lib/doctor/finding.ts";
import { leftoverFindings } from "../../lib/doctor/leftovers.ts";
import { networkFindings } from "../../lib/doctor/network.ts";
import { overlappingRoute } from "../../lib/host/overlap.ts";
import { Reconciler } from "../../lib/host/reconcile/reconciler.ts";
import { keeper } from "../../lib/host/reconcile/resource.ts";
import { sysctlGet, sysctlSet } from "../../lib/host/sysctl.ts";
import { silentLog } from "../../lib/log/log.ts";
import { addressAdd } from "../../lib/netlink/address.ts";
import { linkAdd, linkSet } from "../../lib/netlink/link.ts";
import { routeAdd, routeDelete } from "../../lib/netlink/route.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { bpfFilterList } from "../../lib/netlink/trafficcontrol.ts";
import {
  removeUnderlayPrograms,
  UNDERLAY_PROGRAMS,
  UnderlayHooks,
} from "../../lib/overlay/flowcache/underlay.ts";
import { Underlay } from "../../lib/router/underlay.ts";
import { type UnderlayListener, underlayKernel } from "../../lib/router/underlaykernel.ts";
import { trySyscall } from "../../lib/sys/syscall.ts";
import { enterNewNetns, indexOf, inHost, isRoot, veth } from "../support/newnetns.ts";

/** flock(2) */
const LOCK_EX = 2;
const before = process.env["WEAVE_RUN_DIR"];
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-checks-"));
  process.env["WEAVE_RUN_DIR"] = folder;
});
afterAll(() => {
  if (before === undefined) delete process.env["WEAVE_RUN_DIR"];
  else process.env["WEAVE_RUN_DIR"] = before;
  rmSync(folder, { recursive: true });
});

/** A link of that MTU with an address, up with the other end of its cable; returns its index. */
function uplink(nl: NetlinkSocket, name: string, mtu: number, cidr: string): number {
  linkAdd(nl, { kind: "veth", name, mtu, up: true, peer: { name: `${name}x`, mtu } });
  linkSet(nl, `${name}x`, indexOf(nl, `${name}x`), { up: true });
  const index = indexOf(nl, name);
  addressAdd(nl, name, index, parseCidr(cidr));
  return index;
}

const defaultRoute = (gateway: string, link: number) => ({
  destination: parseCidr("0.0.0.0/0"),
  gateway: parseIPv4(gateway),
  link,
});

const QUESTIONS = {
  encapsulation: { bytes: 50, by: "fastdp" },
  range: undefined,
  kubernetes: false,
  running: false,
  auto: false,
};
const about = (check: string, findings: readonly Finding[]) =>
  findings.filter((finding) => finding.check === check).map(({ level, found }) => `${level}: ${found}`);
const mtu = (change: object = {}) => about("mtu", networkFindings({ ...QUESTIONS, ...change }))[0];

describe.if(isRoot)("the MTU of links to other hosts", () => {
  test("cannot be judged where none is up", () => {
    inHost((nl) => {
      expect(mtu()).toBe("warning: no link to other hosts is up");
      const index = uplink(nl, "eth0", 1_500, "10.0.0.1/24");
      linkSet(nl, "eth0", index, { up: false });
      expect(mtu()).toBe("warning: no link to other hosts is up");
    });
  });

  test("is the least of all links with an address where none has the default route", () => {
    inHost((nl) => {
      uplink(nl, "eth0", 9_000, "10.0.0.1/24");
      uplink(nl, "eth1", 1_425, "10.0.1.1/24");
      uplink(nl, "eth2", 1_500, "10.0.2.1/24");
      expect(mtu()).toBe(
        "problem: frames of 1376 bytes and 50 bytes of encapsulation (fastdp) exceed the MTU of eth1, 1425",
      );
    });
  });

  test("is that of links with the default route where there is one", () => {
    inHost((nl) => {
      uplink(nl, "eth0", 1_300, "10.0.0.1/24");
      routeAdd(nl, defaultRoute("10.0.1.9", uplink(nl, "eth1", 1_426, "10.0.1.1/24")));
      expect(mtu()).toBe("ok: 1376 bytes and 50 bytes of encapsulation (fastdp) fit the MTU of eth1, 1426");
    });
  });

  test("has to leave room for the encapsulation of the overlay in use", () => {
    inHost((nl) => {
      const encapsulation = { bytes: 102, by: "encrypted sleeve" };
      const index = uplink(nl, "eth0", 1_478, "10.0.0.1/24");
      expect(mtu({ encapsulation })).toStartWith(
        "ok: 1376 bytes and 102 bytes of encapsulation (encrypted sleeve) fit",
      );
      linkSet(nl, "eth0", index, { mtu: 1_477 });
      expect(mtu({ encapsulation })).toStartWith("problem: frames of 1376 bytes and 102 bytes");
      const [finding] = networkFindings({ ...QUESTIONS, encapsulation }).filter(
        ({ check }) => check === "mtu",
      );
      expect(finding?.advice).toStartWith("launch weave with --mtu 1375 (or WEAVE_MTU=1375)");
      // Of routers that measure it, no option is asked for.
      expect(mtu({ encapsulation, running: true, auto: true })).toStartWith("warning: frames of 1376 bytes");
      expect(mtu()).toStartWith("ok");
    });
  });

  test("is compared with what containers are told, else the bridge's; without a port that means nothing", () => {
    inHost((nl) => {
      uplink(nl, "eth0", 1_500, "10.0.0.1/24");
      linkAdd(nl, { kind: "bridge", name: "weave", mtu: 1_451 });
      const bridge = indexOf(nl, "weave");
      const fixes = (running: boolean) =>
        networkFindings({ ...QUESTIONS, running }).find(({ check }) => check === "mtu")?.fixes;
      expect(mtu()).toStartWith("problem: frames of 1451 bytes");
      expect(fixes(false)).toEqual([{ action: "set-mtu", link: "weave", index: bridge, mtu: 1_450 }]);
      expect(fixes(true)).toBeUndefined();
      linkSet(nl, "weave", bridge, { alias: "network mtu 1450" });
      expect(mtu()).toStartWith("ok: 1450 bytes");
      linkSet(nl, "weave", bridge, { alias: "", mtu: 65_535 });
      expect(mtu()).toStartWith("ok: 1376 bytes");
    });
  });
});

test.if(isRoot)(
  "the range overlaps with routes of this host, but for the default one and the bridge's own",
  () => {
    inHost((nl) => {
      const overlap = (range: string) => overlappingRoute(nl, parseCidr(range));
      routeAdd(nl, defaultRoute("10.0.0.9", uplink(nl, "eth0", 1_500, "10.0.0.1/24")));
      linkAdd(nl, { kind: "bridge", name: "weave", up: true });
      addressAdd(nl, "weave", indexOf(nl, "weave"), parseCidr("10.32.0.1/12"));
      expect(
        ["10.32.0.0/12", "10.0.1.0/24", "10.0.0.0/16", "10.0.0.128/25", "0.0.0.0/0"].map(overlap),
      ).toEqual([...[undefined, undefined, "10.0.0.0/24", "10.0.0.0/24", "10.0.0.0/24"]]);
      const found = about("range", networkFindings({ ...QUESTIONS, range: parseCidr("10.0.0.0/8") }));
      expect(found).toEqual([
        "problem: the network's range 10.0.0.0/8 overlaps with route 10.0.0.0/24 of this host",
      ]);
    });
  },
);

describe.if(isRoot)("switches of the kernel", () => {
  test("forwarding that is off is a warning, with a repair", () => {
    inHost(() => {
      sysctlSet("net/ipv4/ip_forward", "0");
      const [finding] = networkFindings(QUESTIONS).filter(({ check }) => check === "ip_forward");
      expect(finding?.level).toBe("warning");
      expect(finding?.fixes).toEqual([{ action: "set-sysctl", name: "net/ipv4/ip_forward", value: "1" }]);
      sysctlSet("net/ipv4/ip_forward", "1");
      expect(about("ip_forward", networkFindings(QUESTIONS))).toEqual([]);
    });
  });

  test("bridged packets that are not filtered are a problem for Kubernetes alone", () => {
    inHost(() => {
      if (sysctlGet("net/bridge/bridge-nf-call-iptables") !== undefined)
        sysctlSet("net/bridge/bridge-nf-call-iptables", "0");
      const level = (kubernetes: boolean) =>
        networkFindings({ ...QUESTIONS, kubernetes }).find(({ check }) => check === "br_netfilter")?.level;
      expect([level(true), level(false)]).toEqual(["problem", "warning"]);
    });
  });

  test("strict reverse path filtering is a warning where this host has several uplinks", () => {
    inHost((nl) => {
      uplink(nl, "eth0", 1_500, "10.0.0.1/24");
      const strict = (name: string, value: string) => sysctlSet(`net/ipv4/conf/${name}/rp_filter`, value);
      for (const name of ["all", "eth0", "eth0x"]) strict(name, "0");
      const filter = () => about("rp_filter", networkFindings(QUESTIONS))[0];
      strict("eth0", "1");
      expect(filter()).toStartWith("ok");
      uplink(nl, "eth1", 1_500, "10.0.1.1/24");
      strict("eth1", "0");
      expect(filter()).toStartWith("ok");
      strict("eth1", "1");
      expect(filter()).toStartWith("warning: strict reverse path filtering (rp_filter=1) on eth0, eth1");
      // The looser of both numbers is the greater one.
      strict("eth1", "2");
      expect(filter()).toStartWith("ok");
      for (const name of ["eth0", "eth1"]) strict(name, "0");
      strict("all", "1");
      expect(filter()).toStartWith("warning");
      strict("all", "2");
      expect(filter()).toStartWith("ok");
    });
  });
});

describe.if(isRoot)("leftovers", () => {
  const found = (router?: { link: string }) =>
    leftoverFindings(router).map(({ level, found }) => `${level}: ${found}`);
  const vxlan = (nl: NetlinkSocket, name: string, port: number) => linkAdd(nl, { kind: "vxlan", name, port });
  const stale = (name: string) => `warning: link ${name} is a leftover of a router that ended`;
  const NONE = ["ok: no leftovers of a router that ended"];

  test("are links of a fast datapath without a bridge; with one a router may take them over", () => {
    inHost((nl) => {
      expect(found()).toEqual(NONE);
      vxlan(nl, "vxlan-6784", 6_784);
      vxlan(nl, "other", 6_790);
      expect(found()).toEqual([stale("vxlan-6784")]);
      linkAdd(nl, { kind: "bridge", name: "weave" });
      expect(found()).toEqual(NONE);
    });
  });

  test("are links of another port than the router that runs", () => {
    inHost((nl) => {
      linkAdd(nl, { kind: "bridge", name: "weave" });
      vxlan(nl, "vxlan-6784", 6_784);
      vxlan(nl, "vxlan-7000", 7_000);
      expect(found({ link: "vxlan-7000" })).toEqual([stale("vxlan-6784")]);
    });
  });

  test("are none of a router that runs and does not answer", () => {
    inHost((nl) => {
      vxlan(nl, "vxlan-6784", 6_784);
      expect(found()).toEqual([stale("vxlan-6784")]);
      const fd = openSync(join(folder, "weave.pid"), constants.O_CREAT | constants.O_RDWR, 0o600);
      try {
        expect(trySyscall("flock", fd, LOCK_EX)).toBe(0);
        expect(found()).toEqual(NONE);
        writeFileSync(join(folder, "weave.sock"), "");
        expect(found()).toEqual(NONE);
      } finally {
        closeSync(fd);
        rmSync(join(folder, "weave.pid"));
        rmSync(join(folder, "weave.sock"), { force: true });
      }
    });
  });

  test("are no bridge in the place of ours, and a socket that nobody answers", () => {
    inHost((nl) => {
      linkAdd(nl, { kind: "veth", name: "weave", peer: { name: "weavex" } });
      writeFileSync(join(folder, "weave.sock"), "");
      const findings = leftoverFindings(undefined);
      expect(findings.map(({ level, found }) => `${level}: ${found}`)).toEqual([
        "problem: link weave is not a bridge but veth: the router cannot start",
        `warning: ${folder}/weave.sock is a leftover of a router that was killed`,
      ]);
      expect(findings[1]?.fixes).toEqual([
        { action: "remove-file", file: `${folder}/weave.sock`, whileNoRouter: true },
      ]);
      rmSync(join(folder, "weave.sock"));
    });
  });
});

describe.if(isRoot)("the flow cache's programs on links", () => {
  let programs: { ingress: Program; egress: Program };
  const load = (name: string) => loadProgram(name, new Assembler().mov(R0, { imm: -1 }).exit().assemble());
  beforeAll(() => {
    liftMemoryLimit();
    programs = { ingress: load(UNDERLAY_PROGRAMS.ingress), egress: load(UNDERLAY_PROGRAMS.egress) };
  });
  afterAll(() => {
    for (const program of Object.values(programs)) program.close();
  });

  /** A host with two links and neighbours that a test names. */
  function hooked(nl: NetlinkSocket) {
    const links = [uplink(nl, "eth0", 1_500, "10.0.0.1/24"), uplink(nl, "eth1", 1_500, "10.0.1.1/24")];
    let neighbours: IPv4[] = [];
    let current = programs;
    const hooks = new UnderlayHooks(
      nl,
      () => neighbours,
      () => current,
      () => {},
    );
    const kept = keeper(hooks);
    return {
      links,
      isOutdated(...names: string[]) {
        neighbours = names.map(parseIPv4);
        return hooks.isOutdated();
      },
      reconcile(...names: string[]) {
        neighbours = names.map(parseIPv4);
        return kept
          .reconcile(() => true)
          .map(({ object, wrong }) => `${object.replace("program ", "")}: ${wrong}`);
      },
      use(others: typeof programs) {
        current = others;
      },
    };
  }
  const both = (link: string, wrong: string) => [
    `weave_arrive at ingress of ${link}: ${wrong}`,
    `weave_depart at egress of ${link}: ${wrong}`,
  ];

  test("are where neighbours are reached, once, and leave a link that leads to none any more", () => {
    inHost((nl) => {
      const { reconcile } = hooked(nl);
      expect(reconcile("10.0.0.2", "10.0.0.3")).toEqual(both("eth0", "missing"));
      expect(reconcile("10.0.0.2")).toEqual([]);
      expect(reconcile("10.0.1.2")).toEqual([...both("eth1", "missing"), ...both("eth0", "not needed")]);
      expect(reconcile("10.0.1.2")).toEqual([]);
      expect(reconcile()).toEqual(both("eth1", "not needed"));
      expect(removeUnderlayPrograms(nl)).toBe(false);
    });
  });

  test("are outdated once other links lead to neighbours; only new neighbours are looked up", () => {
    inHost((nl) => {
      const { reconcile, isOutdated } = hooked(nl);
      expect(isOutdated()).toBe(false);
      expect(isOutdated("10.0.0.2")).toBe(true);
      reconcile("10.0.0.2");
      using requests = spyOn(nl, "request");
      expect(isOutdated("10.0.0.2")).toBe(false);
      expect(requests).toHaveBeenCalledTimes(0);
      expect(isOutdated("10.0.0.2", "10.0.0.3")).toBe(false);
      expect(isOutdated("10.0.0.2", "10.0.0.3", "10.5.0.1")).toBe(false);
      expect(requests).toHaveBeenCalledTimes(2);
      expect(isOutdated("10.0.0.2", "10.0.1.2")).toBe(true);
      expect(reconcile("10.0.0.2", "10.0.1.2")).toEqual(both("eth1", "missing"));
      expect(isOutdated("10.0.1.2")).toBe(true);
      expect(reconcile("10.0.1.2")).toEqual(both("eth0", "not needed"));
    });
  });

  test("follow the route to a neighbour", () => {
    inHost((nl) => {
      const { reconcile, links } = hooked(nl);
      const route = {
        destination: parseCidr("10.9.0.0/24"),
        gateway: parseIPv4("10.0.0.9"),
        link: links[0] ?? 0,
      };
      routeAdd(nl, route);
      expect(reconcile("10.9.0.1")).toEqual(both("eth0", "missing"));
      routeDelete(nl, route);
      expect(reconcile("10.9.0.1")).toEqual(both("eth0", "not needed"));
    });
  });

  test("follow the route to a neighbour once the kernel tells of it, not at the next look", async () => {
    const leave = enterNewNetns();
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    const links = [uplink(nl, "eth0", 1_500, "10.0.0.1/24"), uplink(nl, "eth1", 1_500, "10.0.1.1/24")];
    const remote = parseIPv4("10.0.0.2");
    const clock = new SimulatedClock();
    const reconciler = new Reconciler(clock, silentLog);
    reconciler.keepTrying(
      keeper(
        new UnderlayHooks(
          nl,
          () => [remote],
          () => programs,
          () => {},
        ),
      ),
    );
    const told = Promise.withResolvers<void>();
    const kernel = underlayKernel(nl);
    const mesh = {
      maker: { connections: [{ localIp: "10.0.0.1", remoteIp: "10.0.0.2" }], targets: new Map() },
      underlayChanged() {},
    };
    const watch = (listener: UnderlayListener) =>
      kernel.watch({
        ...listener,
        changed() {
          listener.changed();
          told.resolve();
        },
      });
    const underlay = new Underlay({ ...kernel, watch }, mesh as never, clock, silentLog, () =>
      reconciler.notified("underlay"),
    );
    try {
      // By either way of attaching.
      const hooked = () =>
        links.map((link) => (tcxPrograms(link, "egress") ?? bpfFilterList(nl, link, "egress")).length > 0);
      expect(hooked()).toEqual([true, false]);
      routeAdd(nl, { destination: parseCidr("10.0.0.2/32"), link: links[1] ?? 0 });
      await told.promise;
      clock.advance(2_000);
      expect(hooked()).toEqual([false, true]);
    } finally {
      underlay.stop();
      reconciler.stop();
      removeUnderlayPrograms(nl);
      leave();
    }
  });

  test("of another router are replaced, and all are found by their names", () => {
    inHost((nl) => {
      const { reconcile, use } = hooked(nl);
      reconcile("10.0.0.2");
      const others = { ingress: load(UNDERLAY_PROGRAMS.ingress), egress: load(UNDERLAY_PROGRAMS.egress) };
      use(others);
      expect(reconcile("10.0.0.2")).toEqual(both("eth0", "built for another router"));
      expect(reconcile("10.0.0.2")).toEqual([]);
      expect([removeUnderlayPrograms(nl), removeUnderlayPrograms(nl)]).toEqual([true, false]);
      expect(reconcile("10.0.0.2")).toEqual(both("eth0", "missing"));
      removeUnderlayPrograms(nl);
      for (const program of Object.values(others)) program.close();
    });
  });
});

test.if(isRoot)(
  "a link that has gone has no programs by TCX where the kernel knows of that; its queueing disciplines are not tried",
  () => {
    inHost((nl) => {
      const link = veth(nl, "gone");
      for (const direction of ["ingress", "egress"] as const) {
        const here = tcxPrograms(link, direction);
        expect(here ?? []).toEqual([]);
        expect(tcxPrograms(link + 1_000, direction)).toEqual(here);
      }
    });
  },
);
