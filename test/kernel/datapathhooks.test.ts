// The programs on the overlay's links as they should be: what others remove, replace or add is told from ours by its id.
import { describe, expect, test } from "bun:test";
import { Assembler, R0 } from "../../lib/bpf/assembler.ts";
import { liftMemoryLimit } from "../../lib/bpf/bpf.ts";
import { loadProgram } from "../../lib/bpf/program.ts";
import { keeper } from "../../lib/host/reconcile/resource.ts";
import { linkAdd } from "../../lib/netlink/link.ts";
import type { NetlinkSocket } from "../../lib/netlink/socket.ts";
import {
  bpfFilterDelete,
  bpfFilterList,
  bpfFilterReplace,
  clsactDelete,
  type Direction,
} from "../../lib/netlink/trafficcontrol.ts";
import { Hooks } from "../../lib/overlay/datapath/hooks.ts";
import { closeMaps, createMaps } from "../../lib/overlay/datapath/maps.ts";
import { indexOf, inHost, isRoot } from "../support/newnetns.ts";

const [VXLAN, TAP] = ["vx", "tp"];
const HOOKS = [
  [VXLAN, "ingress", "weave_ingress"],
  [VXLAN, "egress", "weave_egress"],
  [TAP, "ingress", "weave_tap"],
] as const;

/** A program that lets all pass. */
const other = () => loadProgram("other", new Assembler().mov(R0, { imm: -1 }).exit().assemble());

/** Programs on such links, all as they should be. */
function withHooks(
  act: (
    nl: NetlinkSocket,
    reconcile: () => string[],
    named: (link: string, at: Direction) => string[],
    hooks: Hooks,
  ) => void,
): void {
  inHost((nl) => {
    liftMemoryLimit();
    for (const name of [VXLAN, TAP]) linkAdd(nl, { kind: "veth", name, peer: { name: `${name}x` } });
    const maps = createMaps();
    const links = { vxlan: VXLAN, tap: TAP };
    const hooks = new Hooks(
      nl,
      maps,
      () => links,
      7,
      undefined,
      () => {},
    );
    const kept = keeper(hooks);
    const reconcile = () => kept.reconcile(() => true).map(({ object, wrong }) => `${object}: ${wrong}`);
    try {
      expect(reconcile().length).toBe(HOOKS.length);
      expect(reconcile()).toEqual([]);
      act(
        nl,
        reconcile,
        (link, at) => bpfFilterList(nl, indexOf(nl, link), at).map(({ name }) => name),
        hooks,
      );
    } finally {
      hooks.close();
      closeMaps(maps);
    }
  });
}

describe.if(isRoot)("programs of the overlay", () => {
  test.each(HOOKS)(
    "at %s, %s: put back where it is missing, or another one is in its place",
    (link, at, name) => {
      withHooks((nl, reconcile, named) => {
        const object = `program ${name} at ${at} of ${link}`;
        expect(named(link, at)).toEqual([name]);
        bpfFilterDelete(nl, link, indexOf(nl, link), at);
        expect([reconcile(), named(link, at)]).toEqual([[`${object}: missing`], [name]]);
        const program = other();
        bpfFilterReplace(nl, link, indexOf(nl, link), at, program);
        const [there] = bpfFilterList(nl, indexOf(nl, link), at);
        expect(there).toMatchObject({ name: "other", ours: true });
        expect([reconcile(), named(link, at)]).toEqual([
          [`${object}: replaced by program ${there?.id}`],
          [name],
        ]);
        program.close();
        expect(reconcile()).toEqual([]);
      });
    },
  );

  test("are built anew for another short id, which frames carry", () => {
    withHooks((nl, reconcile, _named, hooks) => {
      const ids = () =>
        HOOKS.flatMap(([link, at]) => bpfFilterList(nl, indexOf(nl, link), at).map(({ id }) => id));
      const before = ids();
      hooks.self = 8;
      expect(reconcile()).toEqual(
        HOOKS.map(([link, at, name]) => `program ${name} at ${at} of ${link}: built for other links`),
      );
      expect(ids().filter((id) => before.includes(id))).toEqual([]);
      expect(reconcile()).toEqual([]);
    });
  });

  test("all come back with the place for programs, and one at another priority stays", () => {
    withHooks((nl, reconcile, named) => {
      const program = other();
      bpfFilterReplace(nl, VXLAN, indexOf(nl, VXLAN), "ingress", program, 9);
      expect(reconcile()).toEqual([]);
      expect(named(VXLAN, "ingress").sort()).toEqual(["other", "weave_ingress"]);
      program.close();
      clsactDelete(nl, VXLAN, indexOf(nl, VXLAN));
      expect(reconcile().length).toBe(2);
      expect(reconcile()).toEqual([]);
    });
  });
});
