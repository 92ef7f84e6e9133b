// The filter of system calls, run as the kernel runs classic BPF.
import { describe, expect, test } from "bun:test";
import { TOPICS } from "../../lib/help/topics.ts";
import { privilegesIn } from "../../lib/sys/confine.ts";
import { capabilityBits, namesOf } from "../../lib/sys/privileges.ts";
import { type Architecture, callsHere, filterOf, type Instruction } from "../../lib/sys/seccomp.ts";

const ALLOW = 0x7fff0000;
const EPERM = 0x00050001;
const PROBED = 0x0005002a;

const AUDIT = { x64: 0xc000003e, arm64: 0xc00000b7, i386: 0x40000003 };

/** Answer of a filter, and the steps that it took. */
function run(filter: readonly Instruction[], arch: number, nr: number, argument = 0) {
  let accumulator = 0;
  let at = 0;
  for (let steps = 1; ; steps++) {
    const { code, ifTrue, ifFalse, k } = filter[at] ?? { code: 0, ifTrue: 0, ifFalse: 0, k: 0 };
    at++;
    if (code === 0x20) accumulator = { 0: nr, 4: arch, 16: argument }[k] ?? Number.NaN;
    else if (code === 0x15) at += accumulator === k ? ifTrue : ifFalse;
    else if (code === 0x35) at += accumulator >= k ? ifTrue : ifFalse;
    else if (code === 0x06) return { answer: k, steps };
    else throw new Error(`no such instruction, or past the end: ${code}`);
  }
}

describe.each(["x64", "arm64"] as const)("%s", (arch: Architecture) => {
  const { denied } = callsHere(arch);
  const calls = { denied, socket: 600, prctl: 601 };
  const filter = filterOf(arch, calls);

  test("denies what is in the list, and lets all else through", () => {
    expect(new Set(denied).size).toBe(denied.length);
    for (let nr = 0; nr < 600; nr++)
      expect([nr, run(filter, AUDIT[arch], nr).answer]).toEqual([nr, denied.includes(nr) ? EPERM : ALLOW]);
  });

  test("takes no more than 18 steps, and its jumps have 8 bits", () => {
    for (let nr = 0; nr < 602; nr++) expect(run(filter, AUDIT[arch], nr).steps).toBeLessThanOrEqual(18);
    for (const { ifTrue, ifFalse } of filter) expect(Math.max(ifTrue, ifFalse)).toBeLessThan(256);
  });

  test("denies other architectures, and x32", () => {
    expect(run(filter, AUDIT.i386, 20).answer).toBe(EPERM);
    expect(run(filter, AUDIT[arch], 0x40000000 + 1).answer).toBe(EPERM);
  });

  test("lets five families of sockets through", () => {
    const families = Array.from({ length: 50 }, (_, family) => family);
    const open = families.filter((family) => run(filter, AUDIT[arch], 600, family).answer === ALLOW);
    expect(open).toEqual([1, 2, 10, 16, 17]);
    expect(run(filter, AUDIT[arch], 600, 38).answer).toBe(EPERM);
  });

  test("shows that it is there", () => {
    expect(run(filter, AUDIT[arch], 601, 0x57454156).answer).toBe(PROBED);
    expect(run(filter, AUDIT[arch], 601, 38).answer).toBe(ALLOW);
  });
});

test("privileges of a thread are read as the kernel shows them", () => {
  const status = [
    ..."CapInh:\t0000000000000000,CapPrm:\t000001fffeffffff,CapEff:\t0000000000003000".split(","),
    ..."CapBnd:\t000001ffffffffff,CapAmb:\t0000000000000001,NoNewPrivs:\t1,Seccomp:\t2".split(","),
    "Seccomp_filters:\t1",
  ].join("\n");
  expect(privilegesIn(status)).toEqual({
    inheritable: 0n,
    permitted: 0x1fffeffffffn,
    effective: capabilityBits(["NET_ADMIN", "NET_RAW"]),
    bounding: 0x1ffffffffffn,
    ambient: 1n,
    noNewPrivileges: true,
    filtered: true,
  });
  expect(privilegesIn("Name:\tx\n")).toMatchObject({ bounding: 0n, noNewPrivileges: false });
});

test("weave-npc may do nothing that the router may not", () => {
  const [router, npc] = [namesOf("weave-router"), namesOf("weave-npc")];
  expect(npc.filter((name) => !router.includes(name))).toEqual([]);
});

test("the manual's table names the capabilities of both daemons, and no others", () => {
  const rows = [
    ...(TOPICS["security"] ?? "").matchAll(/^\| ([A-Z_]+) +\| .* \| (yes|no) +\| (yes|no) +\|$/gm),
  ];
  const named = (column: number) => rows.filter((row) => row[column] === "yes").map(([, name]) => name);
  expect(named(2).sort()).toEqual([...namesOf("weave-router")].sort());
  expect(named(3).sort()).toEqual([...namesOf("weave-npc")].sort());
});
