// What is wrong with links, addresses and routes, found without a kernel: nothing is where all is as the kernel makes it.
import { describe, expect, test } from "bun:test";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { Addresses, ConnectedRoutes } from "../../lib/host/reconcile/addresses.ts";
import { portDifference } from "../../lib/host/reconcile/bridgeport.ts";
import { linkDifference } from "../../lib/host/reconcile/link.ts";
import { type BridgePort, NEW_PORT } from "../../lib/netlink/link/bridgeport.ts";
import type { Link } from "../../lib/netlink/link.ts";
import type { NetlinkSocket } from "../../lib/netlink/socket.ts";

const nl = {} as NetlinkSocket;
const link = (change: Partial<Link>): Link => ({
  index: 3,
  name: "weave",
  kind: "bridge",
  alias: undefined,
  mtu: 1376,
  address: "5e:00:00:00:00:01",
  master: undefined,
  peerIndex: undefined,
  peerNetns: undefined,
  up: true,
  arp: true,
  queue: 1000,
  vxlan: undefined,
  carrier: true,
  leaving: false,
  bridge: undefined,
  bridgePort: undefined,
  ...change,
});
const bridge = link({});

describe("connected routes", () => {
  const wrong = (addresses: string[], routes: string[], link = 3) =>
    new ConnectedRoutes(nl, () => [])
      .difference(addresses.map(parseCidr), {
        bridge,
        present: routes.map((route) => ({ destination: parseCidr(route), link })),
      })
      .map(({ object, wrong }) => `${object} ${wrong}`);

  test.each<[string[], string[], string[]]>([
    [["10.32.0.1/12"], ["10.32.0.0/12"], []],
    [["10.32.0.1/12"], [], ["route 10.32.0.0/12 dev weave missing"]],
    // One for all of a subnet.
    [["10.32.0.1/12", "10.32.0.2/12"], [], ["route 10.32.0.0/12 dev weave missing"]],
    // The kernel makes none for a single address.
    [["10.32.0.1/32"], [], []],
    [["10.32.0.1/32", "10.40.0.1/24"], [], ["route 10.40.0.0/24 dev weave missing"]],
    [[], [], []],
  ])("%p with routes %p", (addresses, routes, expected) => {
    expect(wrong(addresses, routes)).toEqual(expected);
  });
});

test("addresses: one that is wanted is missing, one that is unwanted is still there, others' stay", () => {
  const addresses = new Addresses(nl, () => ({ wanted: [], unwanted: [] }));
  const present = ["10.32.0.1/12", "192.0.2.1/24"].map(parseCidr);
  const wrong = (wanted: string[], unwanted: string[]) =>
    addresses
      .difference({ wanted: wanted.map(parseCidr), unwanted: unwanted.map(parseCidr) }, { bridge, present })
      .map(({ object, wrong }) => `${object} ${wrong}`);
  expect(wrong(["10.32.0.1/12"], [])).toEqual([]);
  expect(wrong(["10.32.0.1/16"], ["10.32.0.1/12"])).toEqual([
    "address 10.32.0.1/16 on weave missing",
    "address 10.32.0.1/12 on weave still there",
  ]);
});

describe("a port", () => {
  const port = (bridgePort: BridgePort, change: Partial<Link> = {}) =>
    link({ index: 7, name: "vethwepl1", kind: "veth", master: 3, bridgePort, ...change });

  test("as the kernel makes it is right, also where the kernel knows less", () => {
    expect(portDifference(NEW_PORT, port(NEW_PORT), bridge)).toEqual({});
    expect(portDifference(NEW_PORT, port({ learning: true, blocked: false }), bridge)).toEqual({});
  });

  test("differs by what was set, however it is called", () => {
    const set = { locked: true, mcast_router: 0, neigh_suppress: true, backup_port: 9 };
    expect(portDifference(NEW_PORT, port({ ...NEW_PORT, ...set }), bridge)).toEqual({
      locked: false,
      mcast_router: 1,
      neigh_suppress: false,
      backup_port: 0,
    });
  });

  test("is blocked by the kernel while its bridge is down, or is another", () => {
    const blocked = { ...NEW_PORT, blocked: true };
    expect(portDifference(NEW_PORT, port(blocked), bridge)).toEqual({ blocked: false });
    expect(portDifference(NEW_PORT, port(blocked), link({ up: false }))).toEqual({});
    expect(portDifference(NEW_PORT, port(blocked, { master: 4 }), bridge)).toEqual({});
  });

  test("is told by the words of bridge(8)", () => {
    const desired = { name: "vethwepl1", master: "weave", port: NEW_PORT };
    const found = port({ ...NEW_PORT, guard: true, mcast_max_groups: 5, blocked: true });
    expect(linkDifference(desired, found, bridge).map(({ wrong }) => wrong)).toEqual([
      "a port with guard on, a port with mcast_max_groups 5, a blocked port",
    ]);
  });
});
