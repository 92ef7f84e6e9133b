// What others do to the links, programs, maps, addresses and routes that the router made, by the tools that they do it with,
// is seen for what it is, and put back as it was.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { Assembler, R0 } from "../../lib/bpf/assembler.ts";
import { loadProgram, type Program } from "../../lib/bpf/program.ts";
import { linkSysctls, silentSysctls } from "../../lib/host/linksettings.ts";
import { overlappingRoute } from "../../lib/host/overlap.ts";
import { Addresses, ConnectedRoutes } from "../../lib/host/reconcile/addresses.ts";
import { BridgeResource } from "../../lib/host/reconcile/bridge.ts";
import { type Keeper, keeper } from "../../lib/host/reconcile/resource.ts";
import { Sysctls } from "../../lib/host/reconcile/sysctls.ts";
import { ReconcilerWatch } from "../../lib/host/reconcile/watch.ts";
import { decodeAttributes } from "../../lib/netlink/attributes.ts";
import { bridgePortSet, encodeBridgePort, NEW_PORT } from "../../lib/netlink/link/bridgeport.ts";
import {
  IFINFOMSG,
  IFLA_INFO_SLAVE_DATA,
  IFLA_LINKINFO,
  linkMessage,
  RTM_GETLINK,
} from "../../lib/netlink/link/message.ts";
import { linkByName, linkList } from "../../lib/netlink/link.ts";
import { RouteMonitor } from "../../lib/netlink/monitor.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { bpfFilterReplace } from "../../lib/netlink/trafficcontrol.ts";
import { Datapath } from "../../lib/overlay/datapath/datapath.ts";
import { NEW_NEIGHBOUR } from "../../lib/overlay/datapath/maps.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { eventually, type Host, Hosts } from "../support/hosts.ts";

const ADDRESS = "5e:00:00:00:00:01";
const exposed = [parseCidr("10.32.0.1/12"), parseCidr("10.96.0.1/24")];

let hosts: Hosts;
let host: Host;
let nl: NetlinkSocket;
let datapath: Datapath;
const keepers: Keeper[] = [];
let recreated = 0;
const troubles: (string | undefined)[] = [];

const inHost = <T>(fn: () => T): T => inNetns(`/run/netns/${host.netns}`, fn);
const sh = (script: string) => host.must(["sh", "-ec", script]);

/** A program of somebody else. */
function passAll(): Program & Disposable {
  const program = loadProgram("others", new Assembler().mov(R0, { imm: 0 }).exit().assemble());
  return { ...program, [Symbol.dispose]: () => program.close() };
}

/** Reconciles everything in order; what was wrong, in words. */
function reconcile(): string[] {
  return inHost(() => keepers.flatMap(({ reconcile: run }) => run(() => true))).map(
    ({ object, wrong }) => `${object} was ${wrong}`,
  );
}

/** What there is, without numbers that the kernel gives out anew. */
async function state(): Promise<string> {
  const text = await sh(`
    for link in weave vxlan-7784 sleeve-7783; do ip -d link show $link; tc filter show dev $link ingress; tc filter show dev $link egress; done
    ip -4 addr show dev weave; ip -4 route show dev weave; bridge -d link show
    cd /proc/sys/net; grep . ipv4/conf/weave/* ipv6/conf/weave/accept_ra ipv6/conf/*/disable_ipv6 ipv4/neigh/weave/ucast_solicit`);
  return (
    text
      .replace(/^\d+: /gm, "")
      // What follows from the rest, a moment later (rfc2863_policy of net/core/link_watch.c).
      .replace(/NO-CARRIER,|,LOWER_UP| state [A-Z]+/g, "")
      .replace(
        / (id|tag) [0-9a-f]+| jited|(no|designated_port|port_no|port_id|designated_root|root_id|bridge_id) \S+|_timer +\S+/g,
        "",
      )
      .replace(/valid_lft.*/g, "")
      // The kernel numbers labels when a link is renamed.
      .replace(/ weave:\d+/g, " weave")
  );
}

/** The state is that of before, once ports that are up again forward. */
async function isAsBefore(before: string): Promise<void> {
  const now = await eventually("the state is as before", state, (seen) => seen === before).catch(state);
  expect(now).toBe(before);
}

beforeAll(async () => {
  hosts = await Hosts.create("rcl", 1);
  host = hosts.host(1);
  nl = inHost(() => new NetlinkSocket(NETLINK_ROUTE));
  const keep = (each: Keeper) => {
    keepers.push(each);
    each.reconcile(() => true);
  };
  inHost(() => {
    const sysctls = [
      ...linkSysctls("weave"),
      ...["vxlan-7784", "sleeve-7783"].flatMap(silentSysctls),
      { name: "net/ipv4/conf/weave/forwarding", value: "1" },
    ];
    keep(keeper(new BridgeResource(nl, { address: ADDRESS, mtu: 1376 })));
    keep(keeper(new Addresses(nl, () => ({ wanted: exposed, unwanted: [] }))));
    keep(keeper(new ConnectedRoutes(nl, () => exposed)));
    datapath = new Datapath(nl, { name: ADDRESS, port: 7783, mtu: () => 1376, self: 5, fastdp: true }, keep);
    keep(keeper(new Sysctls("settings", [], () => sysctls)));
    datapath.tap.recreated = () => recreated++;
    datapath.onTrouble = (reason) => troubles.push(reason);
    datapath.apply({
      routes: new Map([[7, 0x0a630002]]),
      hops: new Map([[5, { vxlan: [{ shortId: 7, address: 0x0a630002 }], sleeve: false }]]),
      neighbours: new Set([0x0a630002]),
    });
  });
  expect(reconcile()).toEqual([]);
  await eventually(
    "its port forwards",
    () => sh("bridge link show"),
    (text) => /vxlan-7784: .* state forwarding /.test(text),
  );
  // Others are told where the addresses are.
  expect(await sh("cat /proc/sys/net/ipv4/conf/weave/arp_notify")).toBe("1\n");
});

afterAll(() => {
  inHost(() => datapath?.remove());
  nl?.close();
  hosts?.disposeSync();
});

const BRIDGE_LOST = [
  "address 10.32.0.1/12 on weave was missing",
  "address 10.96.0.1/24 on weave was missing",
];
const NO_PORT = "link vxlan-7784 was no port of weave";
const PROGRAMS = ["weave_ingress at ingress of vxlan-7784", "weave_egress at egress of vxlan-7784"];
const TAP_PROGRAM = "weave_tap at ingress of sleeve-7783";
const programs = (wrong: string, ...names: string[]) => names.map((name) => `program ${name} was ${wrong}`);

test.each<[string, string, (string | RegExp)[]]>([
  ["bridge down", "ip link set weave down", ["link weave was down"]],
  ["bridge deleted", "ip link del weave", ["link weave was missing", ...BRIDGE_LOST, NO_PORT]],
  [
    "bridge renamed",
    "ip link set weave down; ip link set weave name other0; ip link set other0 up",
    ["link weave was renamed to other0"],
  ],
  ["bridge MTU", "ip link set weave mtu 1300", ["link weave was of MTU 1300 instead of 1376"]],
  [
    "bridge address",
    "ip link set weave address 5e:00:00:00:00:99",
    [`link weave was of Ethernet address 5e:00:00:00:00:99 instead of ${ADDRESS}`],
  ],
  [
    "bridge mode",
    "ip link set weave type bridge stp_state 1 ageing_time 0 mcast_snooping 0",
    ["link weave was a bridge with ageingTime 0, a bridge with stp on, a bridge with multicastSnooping off"],
  ],
  ["bridge without ARP", "ip link set weave arp off", ["link weave was ARP off"]],
  ["addresses flushed", "ip addr flush dev weave", BRIDGE_LOST],
  ["address of another prefix", "ip addr del 10.96.0.1/24 dev weave", BRIDGE_LOST.slice(1)],
  ["route deleted", "ip route del 10.32.0.0/12", ["route 10.32.0.0/12 dev weave was missing"]],
  ["route replaced", "ip route replace blackhole 10.32.0.0/12", ["route 10.32.0.0/12 dev weave was missing"]],
  ["VXLAN link down", "ip link set vxlan-7784 down", ["link vxlan-7784 was down"]],
  [
    "VXLAN link deleted",
    "ip link del vxlan-7784",
    [
      "link vxlan-7784 was missing",
      ...programs("missing", ...PROGRAMS),
      ...programs("built for other links", TAP_PROGRAM),
    ],
  ],
  [
    "VXLAN link renamed",
    "ip link set vxlan-7784 down; ip link set vxlan-7784 name other0",
    ["link vxlan-7784 was renamed to other0, down"],
  ],
  ["VXLAN link off the bridge", "ip link set vxlan-7784 nomaster", [NO_PORT]],
  [
    "VXLAN link on another bridge",
    "ip link add br9 type bridge; ip link set vxlan-7784 master br9; ip link del br9; ip link add br9 type bridge; ip link set vxlan-7784 master br9",
    ["link vxlan-7784 was a port of another bridge"],
  ],
  [
    "VXLAN link learning",
    "ip link set vxlan-7784 type vxlan id 0 learning",
    ["link vxlan-7784 was learning addresses"],
  ],
  [
    "VXLAN link's address",
    "ip link set vxlan-7784 address 5e:00:00:00:00:98",
    [/^link vxlan-7784 was of Ethernet address 5e:00:00:00:00:98 instead of .[26ae]:/],
  ],
  [
    "port flags",
    "bridge link set dev vxlan-7784 hairpin on learning off flood off mcast_flood off bcast_flood off isolated on guard on root_block on",
    [
      "link vxlan-7784 was a port with hairpin on, a port with guard on, a port with root_block on, a port with learning off, " +
        "a port with flood off, a port with mcast_flood off, a port with bcast_flood off, a port with isolated on",
    ],
  ],
  ["port blocked", "bridge link set dev vxlan-7784 state 0", ["link vxlan-7784 was a blocked port"]],
  [
    "TAP link deleted",
    "ip link del sleeve-7783",
    [
      "link sleeve-7783 was missing",
      ...programs("built for other links", ...PROGRAMS),
      ...programs("missing", TAP_PROGRAM),
    ],
  ],
  [
    "TAP link renamed",
    "ip link set sleeve-7783 down; ip link set sleeve-7783 name other0",
    ["link sleeve-7783 was renamed to other0, down"],
  ],
  [
    "TAP link's settings",
    "ip link set sleeve-7783 mtu 1300 txqueuelen 7",
    ["link sleeve-7783 was of MTU 1300 instead of 1376, of queue length 7 instead of 256"],
  ],
  ["clsact removed", "tc qdisc del dev vxlan-7784 clsact", programs("missing", ...PROGRAMS)],
  [
    "clsact replaced by an ingress qdisc",
    "tc qdisc del dev vxlan-7784 clsact; tc qdisc add dev vxlan-7784 ingress",
    programs("missing", ...PROGRAMS),
  ],
  ["program removed", "tc filter del dev sleeve-7783 ingress", programs("missing", TAP_PROGRAM)],
  [
    "settings",
    "cd /proc/sys/net; echo 0 > ipv4/conf/weave/forwarding; echo 0 > ipv6/conf/vxlan-7784/disable_ipv6; echo 9 > ipv4/neigh/weave/ucast_solicit",
    [
      "sysctl net.ipv4.neigh.weave.ucast_solicit was 9 instead of 1",
      "sysctl net.ipv6.conf.vxlan-7784.disable_ipv6 was 0 instead of 1",
      "sysctl net.ipv4.conf.weave.forwarding was 0 instead of 1",
    ],
  ],
])("%s: put back as it was, once", async (_, script, wrong) => {
  const before = await state();
  await sh(script);
  const found = reconcile();
  for (const each of wrong)
    expect(found).toContainEqual(typeof each === "string" ? each : expect.stringMatching(each));
  // Settings go with a link that is made anew, or loses IPv6.
  const settings = (line: string) =>
    line.startsWith("sysctl") && !wrong.some((each) => String(each) === line);
  expect(found.filter((line) => !settings(line))).toHaveLength(wrong.length);
  await sh("ip link del br9 2>/dev/null || true");
  await isAsBefore(before);
  expect(reconcile()).toEqual([]);
});

/** Attributes of a port that cannot be set, or that only the spanning tree protocol reads (linux/if_link.h: IFLA_BRPORT_*). */
const NOT_KEPT = new Set([1, 2, 3, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 35, 36, 38, 41]);
/** Settings that need more than a port: another one, a next hop, locked. */
const NEED_MORE = ["backup_port", "backup_nhid", "mab"];

describe("a bridge's port", () => {
  const port = () => {
    const link = inHost(() => linkByName(nl, "vxlan-7784"));
    if (!link?.bridgePort) throw new Error("no port");
    return { index: link.index, settings: link.bridgePort };
  };

  test("has no setting on this kernel that nobody looks at", () => {
    const { index } = port();
    const [message] = nl.request({ operation: "get", type: RTM_GETLINK, body: linkMessage(index).done() });
    const attributes = decodeAttributes(message?.body.subarray(IFINFOMSG) ?? new Uint8Array());
    const reported = attributes.need(IFLA_LINKINFO).nested.need(IFLA_INFO_SLAVE_DATA).nested.list;
    const [kept] = decodeAttributes(encodeBridgePort(index, NEW_PORT).subarray(IFINFOMSG)).list;
    const known = new Set(kept?.nested.list.map(({ type }) => type));
    expect(reported.length).toBeGreaterThan(10);
    expect(reported.filter(({ type }) => !known.has(type) && !NOT_KEPT.has(type))).toEqual([]);
  });

  test("any setting is put back, and looks as a new one does", () => {
    const { index, settings } = port();
    const { blocked: _, ...initial } = settings;
    expect(NEW_PORT).toMatchObject(initial);
    const refused: string[] = [];
    for (const [name, value] of Object.entries(initial)) {
      // Bits 0 to 2 of the mask are refused.
      const other = typeof value === "boolean" ? !value : name === "group_fwd_mask" ? 8 : value + 1;
      try {
        using others = inHost(() => new NetlinkSocket(NETLINK_ROUTE));
        bridgePortSet(others, "vxlan-7784", index, { [name]: other });
      } catch {
        refused.push(name);
        continue;
      }
      const text = typeof other === "boolean" ? (other ? "on" : "off") : other;
      expect(reconcile()).toEqual([`link vxlan-7784 was a port with ${name} ${text}`]);
      expect(port().settings).toEqual(settings);
    }
    expect(NEED_MORE).toEqual(expect.arrayContaining(refused));
  });
});

test("a bridge that was renamed while no router ran is known by its Ethernet address", async () => {
  const before = await state();
  await sh("ip link set weave down; ip link set weave name other0");
  const range = parseCidr("10.32.0.0/12");
  await sh("ip link set other0 up; ip route replace 10.32.0.0/12 dev other0");
  expect(inHost(() => overlappingRoute(nl, range))).toBe("10.32.0.0/12");
  expect(inHost(() => overlappingRoute(nl, range, ADDRESS))).toBeUndefined();
  const next = new BridgeResource(nl, { address: ADDRESS, mtu: 1376 });
  expect(inHost(() => keeper(next).reconcile(() => true))).toEqual([
    expect.objectContaining({ object: "link weave", wrong: "renamed to other0" }),
  ]);
  reconcile();
  await isAsBefore(before);
});

test.each([
  ["ip link set vxlan-7784 mtu 1300", "links vxlan-7784"],
  ["ip link del vxlan-7784", "links vxlan-7784"],
  ["bridge link set dev vxlan-7784 learning off", "links vxlan-7784"],
  ["bridge link set dev vxlan-7784 state 0", "links vxlan-7784"],
  ["ip link set weave arp off", "links weave"],
  ["tc filter del dev sleeve-7783 ingress", "trafficcontrol sleeve-7783"],
  ["ip addr del 10.96.0.1/24 dev weave", "addresses weave"],
  ["ip route del 10.32.0.0/12", "routes weave"],
  ["ip route replace blackhole 10.32.0.0/12", "routes "],
  ["echo 0 > /proc/sys/net/ipv4/conf/weave/forwarding", "netconf weave"],
])("the kernel tells of %s", async (script, notification) => {
  const told: string[] = [];
  const watch = new ReconcilerWatch(
    { notified: (source, subject) => told.push(`${source} ${subject}`) },
    (name) => ["weave", "vxlan-7784", "sleeve-7783"].includes(name),
    () => [nl.port],
  );
  watch.start(inHost(() => linkList(nl)));
  const monitor = inHost(() => new RouteMonitor((error) => told.push(String(error))));
  monitor.add({ changed: (event) => watch.changed(event), lost: () => told.push("lost") });
  try {
    await sh(script);
    await eventually(
      "the notification",
      () => told,
      () => told.includes(notification),
    );
  } finally {
    monitor.stop();
    reconcile();
  }
});

test("the sleeve engine is told of a TAP link that was made anew", async () => {
  const before = recreated;
  await sh("ip link del sleeve-7783");
  reconcile();
  expect(recreated).toBe(before + 1);
});

describe("programs of others", () => {
  const CLASSIC = "bpf bytecode '1,6 0 0 4294967295,'";

  test.each([
    ["eBPF", /^program weave_egress at egress of vxlan-7784 was replaced by program \d+$/],
    ["classic BPF", /^program weave_egress at egress of vxlan-7784 was missing$/],
  ])("in our place are replaced, %s", async (kind, wrong) => {
    const before = await state();
    if (kind === "eBPF") {
      using program = passAll();
      inHost(() => {
        const index = linkByName(nl, "vxlan-7784")?.index ?? 0;
        bpfFilterReplace(nl, "vxlan-7784", index, "egress", program);
      });
    } else {
      await sh(
        `tc filter del dev vxlan-7784 egress; tc filter add dev vxlan-7784 egress pref 1 handle 1 ${CLASSIC}`,
      );
    }
    expect(reconcile()).toEqual([expect.stringMatching(wrong)]);
    await isAsBefore(before);
  });

  test("at other places stay", async () => {
    await sh(`tc filter add dev vxlan-7784 ingress pref 77 ${CLASSIC}`);
    expect(reconcile()).toEqual([]);
    expect(await sh("tc filter show dev vxlan-7784 ingress")).toContain("pref 77");
  });
});

test("the program that left by the TAP link while there was no VXLAN link is removed", async () => {
  using program = passAll();
  const tap = inHost(() => linkByName(nl, "sleeve-7783"))?.index ?? 0;
  inHost(() => bpfFilterReplace(nl, "sleeve-7783", tap, "egress", program));
  expect(reconcile()).toEqual(["program at egress of sleeve-7783 was not needed"]);
  expect(await sh("tc filter show dev sleeve-7783 egress")).toBe("");
  expect(reconcile()).toEqual([]);
});

test("what others write into the maps is written over", () => {
  const { routes, hops, neighbours } = datapath.maps;
  routes.set(7, 1);
  routes.set(8, 2);
  hops.delete(5);
  neighbours.set(3, NEW_NEIGHBOUR);
  neighbours.delete(0x0a630002);
  expect(reconcile()).toEqual([
    "map weave_routes was wrong in 2 entries",
    "map weave_hops was wrong in 1 entries",
    "map weave_neighb was wrong in 2 entries",
  ]);
  expect([routes.get(7), routes.get(8), neighbours.get(3)]).toEqual([0x0a630002, 0, undefined]);
  expect(neighbours.get(0x0a630002)).toEqual(NEW_NEIGHBOUR);
  expect(hops.get(5)?.vxlan).toEqual([{ shortId: 7, address: 0x0a630002 }]);
  expect(reconcile()).toEqual([]);
});

test("another VXLAN link on our UDP port is not taken for ours", async () => {
  await sh("ip link del vxlan-7784; ip link add vx9 up type vxlan external dstport 7784");
  expect(() => reconcile()).toThrow("no VXLAN link on UDP port 7784: link vx9 has it");
  expect(await sh("ip -br link show vx9")).toContain("vx9");
  await sh("ip link del vx9");
  expect(reconcile()).toContain("link vxlan-7784 was missing");
});

test("a link that is in the way is left alone, and named", async () => {
  await sh("ip link del vxlan-7784; ip link add vxlan-7784 type bridge");
  expect(() => reconcile()).toThrow("link vxlan-7784 is in the way");
  await sh("ip link del vxlan-7784");
  expect(reconcile()).toContain("link vxlan-7784 was missing");
});
