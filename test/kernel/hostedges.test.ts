// Small decisions about a host: routes that overlap, settings that the kernel refuses, who changed what, the host's name.
import { describe, expect, spyOn, test } from "bun:test";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { clockFinding } from "../../lib/doctor/clock.ts";
import { overlappingRoute, refuseOverlap } from "../../lib/host/overlap.ts";
import { culpritOf, pidOf } from "../../lib/host/reconcile/culprit.ts";
import { keeper } from "../../lib/host/reconcile/resource.ts";
import { Sysctls } from "../../lib/host/reconcile/sysctls.ts";
import { KeptSysctls, sysctlGet, sysctlSet } from "../../lib/host/sysctl.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { linkDelete } from "../../lib/netlink/link/delete.ts";
import { linkAdd } from "../../lib/netlink/link.ts";
import { deriveName, findName } from "../../lib/router/peername.ts";
import { inNewNetns } from "../../lib/sys/netns.ts";
import * as syscalls from "../../lib/sys/syscall.ts";
import { indexOf, inHost, ip, isRoot, veth } from "../support/newnetns.ts";

describe.if(isRoot)("a range", () => {
  test("overlaps with routes of others, but not with the default one nor with the bridge's own", () => {
    inHost((nl) => {
      const range = parseCidr("10.32.0.0/12");
      veth(nl, "eth0", "192.0.2.1/24");
      ip("route", "add", "default", "via", "192.0.2.9");
      linkAdd(nl, { kind: "bridge", name: "weave", up: true, address: "02:00:00:00:00:01" });
      ip("addr", "add", "10.32.0.1/12", "dev", "weave");
      expect(overlappingRoute(nl, range)).toBeUndefined();
      ip("link", "set", "weave", "name", "other");
      expect(overlappingRoute(nl, range, "02:00:00:00:00:01")).toBeUndefined();
      expect(overlappingRoute(nl, range, "02:00:00:00:00:02")).toBe("10.32.0.0/12");
      ip("route", "add", "10.33.0.0/16", "via", "192.0.2.9");
      ip("link", "set", "other", "name", "weave");
      expect(overlappingRoute(nl, range)).toBe("10.33.0.0/16");
      expect(overlappingRoute(nl, parseCidr("10.48.0.0/12"))).toBeUndefined();
      expect(() => refuseOverlap(nl, range)).toThrow(
        "IPALLOC_RANGE 10.32.0.0/12 overlaps with existing route 10.33.0.0/16 of this host",
      );
      expect(() => refuseOverlap(nl, parseCidr("10.48.0.0/12"))).not.toThrow();
    });
  });
});

describe.if(isRoot)("settings of the kernel", () => {
  const NAME = "net/ipv4/conf/lo/rp_filter";
  const kept = (name: string, value: string) =>
    keeper(new Sysctls("settings", ["netconf"], () => [{ name, value }]));
  const wrong = (one: ReturnType<typeof kept>) =>
    one.reconcile(() => true).map((change) => `${change.object}: ${change.wrong}`);

  test("are put right, and told by their dotted names; those that the kernel lacks are left out", () => {
    inNewNetns(() => {
      const one = kept(NAME, "2");
      expect([wrong(one), wrong(one), sysctlGet(NAME)]).toEqual([
        ["sysctl net.ipv4.conf.lo.rp_filter: 0 instead of 2"],
        [],
        "2",
      ]);
      expect(wrong(kept("net/ipv4/conf/lo/none", "1"))).toEqual([]);
    });
  });

  test("that are read again are those of the link that has the name now", () => {
    inHost((nl) => {
      const name = "net/ipv4/conf/weave/promote_secondaries";
      const kept = new KeptSysctls();
      const make = (value: string) => {
        linkAdd(nl, { kind: "bridge", name: "weave" });
        sysctlSet(name, value);
      };
      expect(kept.get(name)).toBeUndefined();
      make("0");
      expect(kept.get(name)).toBe("0");
      sysctlSet(name, "1");
      expect(kept.get(name)).toBe("1");
      linkDelete(nl, "weave");
      expect(kept.get(name)).toBeUndefined();
      make("0");
      expect(kept.get(name)).toBe("0");
    });
  });

  test("of a link that goes while they are put right come back with the link", () => {
    inHost((nl) => {
      const name = "net/ipv4/conf/weave/promote_secondaries";
      const one = kept(name, "1");
      const make = () => linkAdd(nl, { kind: "bridge", name: "weave" });
      make();
      // Between the comparison and the repair.
      const seen = one.reconcile((change) => {
        linkDelete(nl, "weave");
        return change.object.endsWith("promote_secondaries");
      });
      expect(seen.length).toBe(1);
      make();
      expect([wrong(one).length, sysctlGet(name)]).toEqual([1, "1"]);
    });
  });

  test("that cannot be written are tried once", () => {
    inNewNetns(() => {
      const refused = kept(NAME, "not a number");
      expect([wrong(refused).length, wrong(refused)]).toEqual([1, []]);
    });
  });
});

describe("who changed kernel state", () => {
  // The kernel's pids have 22 bits at most (PID_MAX_LIMIT), libnl counts sockets in the ten bits above them.
  test.each([1, 0xffff, 0x1_0000, 0x1_0001, 0x12_3456, 0x20_0000, 0x3f_ffff])(
    "has the pid %d that is the port, or the low bits of libnl's",
    (pid) => {
      for (let socket = 0; socket < 512; socket++) expect(pidOf(pid + socket * 2 ** 22)).toBe(pid);
      for (let socket = 512; socket < 1_024; socket++) expect(pidOf(pid + socket * 2 ** 22)).toBeUndefined();
    },
  );

  test("is nobody by no port, by that of a second socket, or by our own", () => {
    for (const port of [0, 2 ** 31, 2 ** 32 - 5, process.pid, 4_194_303])
      expect(culpritOf(port)).toBeUndefined();
  });

  test.if(isRoot)("is a process of this namespace that may, by its pid, also in the low bits", () => {
    const child = Bun.spawn(["sleep", "60"]);
    const elsewhere = inNewNetns(() => Bun.spawn(["sleep", "60"]));
    try {
      const known = { pid: child.pid, name: "sleep" };
      expect([culpritOf(child.pid), culpritOf(child.pid + (3 << 22))]).toEqual([known, known]);
      expect(culpritOf(elsewhere.pid)).toBeUndefined();
    } finally {
      child.kill();
      elsewhere.kill();
    }
  });
});

describe.if(isRoot)("the name of a host", () => {
  const [TOLD, KEPT] = [nameFromNumber(1n), nameFromNumber(2n)];
  const keep = (name: PeerName | undefined) => {
    const kept = { value: name };
    const store = {
      get: () => kept.value,
      set(value: PeerName) {
        kept.value = value;
      },
    };
    return { kept, store };
  };

  test("is as told, else as kept, else the bridge's, else made from an ID; and is kept", () => {
    inHost((nl) => {
      const id = "0a1b";
      const all = keep(KEPT);
      expect([findName(TOLD, all.store, nl, id), all.kept.value]).toEqual([TOLD, TOLD]);
      expect(findName(undefined, keep(KEPT).store, nl, id)).toBe(KEPT);
      expect(findName(undefined, keep(undefined).store, nl, id)).toBe(deriveName([id]));
      const made = keep(undefined);
      const own = findName(undefined, made.store, nl);
      expect([own, made.kept.value]).toEqual([findName(undefined, keep(undefined).store, nl), own]);
      expect(own).not.toBe(deriveName([]));
      linkAdd(nl, { kind: "bridge", name: "weave", address: "02:00:00:00:00:09" });
      expect(findName(undefined, keep(undefined).store, nl, id) as string).toBe("02:00:00:00:00:09");
      expect(indexOf(nl, "weave")).toBeGreaterThan(0);
    });
  });

  test("made from links does not count those that come and go with the network", () => {
    inHost((nl) => {
      const name = () => findName(undefined, keep(undefined).store, nl);
      const before = name();
      linkAdd(nl, { kind: "bridge", name: "docker0" });
      expect(name()).toBe(before);
      veth(nl, "eth0");
      expect(name()).not.toBe(before);
    });
  });
});

test("a clock is told by its date, then by whether something keeps it", () => {
  const state = (value: number, now = Date.UTC(2026, 0, 1)) => {
    const spy = spyOn(syscalls, "trySyscall").mockImplementation(() => value);
    try {
      const { level, found } = clockFinding(now);
      return `${level}: ${found}`;
    } finally {
      spy.mockRestore();
    }
  };
  expect(state(0)).toBe("ok: time synchronisation is running");
  expect(state(5)).toBe("warning: no time synchronisation is running; peers reject clocks more than 1 h off");
  expect(state(0, Date.UTC(2024, 0, 1) - 1)).toStartWith("problem: the clock says 2023-12-31T23:59:59.999Z");
  expect(state(0, Date.UTC(2024, 0, 1))).toStartWith("ok");
});
