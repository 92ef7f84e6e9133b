// Exposed addresses of a host: on its bridge or not at all, and never taken away from others later.
import { describe, expect, test } from "bun:test";
import { formatCidr, parseCidr } from "../../lib/address/ipv4.ts";
import { Exposure, exposedByBridge, withExposed, withoutExposed } from "../../lib/host/expose.ts";
import { linkSysctls } from "../../lib/host/linksettings.ts";
import { Addresses, ConnectedRoutes } from "../../lib/host/reconcile/addresses.ts";
import { keeper } from "../../lib/host/reconcile/resource.ts";
import { Sysctls } from "../../lib/host/reconcile/sysctls.ts";
import { addressAdd, addressDelete, addressList } from "../../lib/netlink/address.ts";
import { linkAdd } from "../../lib/netlink/link.ts";
import { routeList } from "../../lib/netlink/route.ts";
import type { NetlinkSocket } from "../../lib/netlink/socket.ts";
import { indexOf, inHost, isRoot } from "../support/newnetns.ts";

const [SECOND, THIRD] = [parseCidr("10.32.0.2/12"), parseCidr("10.32.0.3/12")];
const [ONE, TWO] = [parseCidr("10.32.0.1/12"), parseCidr("10.99.0.1/24")];

test("a list of exposures has each address and prefix once, in its place", () => {
  const list = [
    { cidr: ONE, masquerade: true },
    { cidr: TWO, masquerade: true },
  ];
  const again = { cidr: ONE, masquerade: false };
  expect(withExposed(list, again)).toEqual([again, ...list.slice(1)]);
  expect(withExposed(list, { cidr: { ...ONE, prefix: 16 }, masquerade: true }).length).toBe(3);
  expect(withoutExposed(list, ONE)).toEqual(list.slice(1));
  expect(withoutExposed(list, { ...ONE, prefix: 16 })).toEqual(list);
});

describe.if(isRoot)("exposures", () => {
  /** A host whose reconciler does what is desired, or fails. */
  function host(nl: NetlinkSocket) {
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    const bridge = indexOf(nl, "weave");
    const state = { refuse: 0, applied: 0, checks: 0 };
    const exposure: Exposure = new Exposure(nl, {
      check: () => void state.checks++,
      apply() {
        state.applied++;
        const { wanted, unwanted } = exposure.desired;
        for (const cidr of wanted) addressAdd(nl, "weave", bridge, cidr);
        for (const cidr of unwanted) addressDelete(nl, "weave", bridge, cidr);
        if (state.refuse-- > 0) throw new Error("refused");
        return [];
      },
    });
    const there = () => addressList(nl, bridge).map(({ cidr }) => formatCidr(cidr));
    return { nl, exposure, state, there, bridge };
  }

  test("are put on the bridge and taken off; what was hidden may be added by others", () => {
    inHost((nl) => {
      const { exposure, there, state } = host(nl);
      exposure.expose(ONE, true);
      exposure.expose(TWO, false);
      expect([there(), exposure.exposed.map(({ masquerade }) => masquerade)]).toEqual([
        ["10.32.0.1/12", "10.99.0.1/24"],
        [true, false],
      ]);
      expect([exposure.hide(ONE), there()]).toEqual([true, ["10.99.0.1/24"]]);
      expect(exposure.desired).toEqual({ wanted: [TWO], unwanted: [] });
      expect([exposure.hide(ONE), state.checks]).toEqual([false, 4]);
    });
  });

  test("that are in force are not applied again, unless the bridge has lost them or they differ", () => {
    inHost((nl) => {
      const { exposure, there, state, bridge } = host(nl);
      for (let i = 0; i < 3; i++) exposure.expose(ONE, true);
      expect([state.applied, state.checks]).toEqual([1, 1]);
      exposure.expose(ONE, false);
      expect(state.applied).toBe(2);
      addressDelete(nl, "weave", bridge, ONE);
      exposure.expose(ONE, false);
      expect([state.applied, there()]).toEqual([3, ["10.32.0.1/12"]]);
    });
  });

  test("of one subnet do not go with the first of it", () => {
    inHost((nl) => {
      linkAdd(nl, { kind: "bridge", name: "weave", up: true });
      const keepers = [
        keeper(new Sysctls("link settings", ["links"], () => linkSysctls("weave"))),
        keeper(new Addresses(nl, () => exposure.desired)),
        keeper(
          new ConnectedRoutes(
            nl,
            () => exposure.addresses,
            () => 1_300,
          ),
        ),
      ];
      const all = () => keepers.flatMap((each) => each.reconcile(() => true));
      const exposure: Exposure = new Exposure(nl, { check: all, apply: all });
      for (const cidr of [ONE, SECOND, THIRD]) exposure.expose(cidr, true);
      expect(exposure.hide(ONE)).toBe(true);
      expect(exposedByBridge(nl).map(({ cidr }) => cidr)).toEqual([SECOND, THIRD]);
      expect(all()).toEqual([]);
      expect(routeList(nl).map(({ destination, mtu }) => [formatCidr(destination), mtu])).toEqual([
        ["10.32.0.0/12", 1_300],
      ]);
    });
  });

  test("that the kernel refuses change nothing, and are wanted no more", () => {
    inHost((nl) => {
      const { exposure, there, state } = host(nl);
      exposure.expose(ONE, true);
      state.refuse = 1;
      expect(() => exposure.expose(TWO, true)).toThrow("refused");
      expect([there(), exposure.desired]).toEqual([["10.32.0.1/12"], { wanted: [ONE], unwanted: [] }]);
      state.refuse = 2;
      expect(() => exposure.hide(ONE)).toThrow("refused");
      expect([exposure.addresses, exposure.desired.unwanted]).toEqual([[ONE], []]);
    });
  });

  test("need the bridge; its addresses are hidden though nobody has saved them", () => {
    inHost((nl) => {
      const { exposure } = host(nl);
      addressAdd(nl, "weave", indexOf(nl, "weave"), TWO);
      expect(exposedByBridge(nl)).toEqual([{ cidr: TWO, masquerade: true }]);
      expect([exposure.hide(TWO), exposedByBridge(nl)]).toEqual([true, []]);
    });
    inHost((nl) => {
      const exposure = new Exposure(nl, { check: () => {}, apply: () => [] });
      expect(() => exposure.expose(ONE, true)).toThrow();
      expect(exposure.exposed).toEqual([]);
    });
  });

  test("of containers' ranges are applied where they have changed", () => {
    inHost((nl) => {
      const { exposure, state } = host(nl);
      exposure.start([{ cidr: ONE, masquerade: true }]);
      const ranges = [{ start: 1, end: 2 }] as never;
      exposure.setLocalRanges(ranges);
      exposure.setLocalRanges(structuredClone(ranges));
      expect([state.applied, exposure.local]).toEqual([1, ranges]);
    });
  });
});
