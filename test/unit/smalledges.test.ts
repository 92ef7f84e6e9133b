// Thin edges of the host: modules of the kernel, filtering of bridged frames, the older filter table, and bounds of what the
// control API takes. The kernel's side is the test's.
import { afterEach, describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { release } from "node:os";
import * as v from "valibot";
import { CNI_COMMANDS, CniCall, NotedAttachment, WantedAttachment } from "../../lib/api/bodies.ts";
import { AlreadyAttachedError, NoGatewayError } from "../../lib/host/attach.ts";
import { BridgeNetfilter, enableBridgeNetfilter } from "../../lib/host/bridgenetfilter.ts";
import { legacyForwarding } from "../../lib/host/forwarding/legacy.ts";
import * as modules from "../../lib/host/modules.ts";
import * as sysctls from "../../lib/host/sysctl.ts";
import { errorOf, failureOf } from "../../lib/host/workmessages.ts";
import * as lock from "../../lib/netlink/iptables/lock.ts";
import * as legacy from "../../lib/netlink/iptables/socket.ts";
import type { LegacyRule, LegacyTable } from "../../lib/netlink/iptables/table.ts";
import { legacyRule } from "../../lib/netlink/iptables/table.ts";
import { NetnsError } from "../../lib/sys/netns.ts";
import * as syscalls from "../../lib/sys/syscall.ts";

const spies: { mockRestore(): void }[] = [];
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
});

describe("modules of the kernel", () => {
  const FOLDER = `/lib/modules/${release()}`;
  const DEP = [
    "kernel/net/llc/llc.ko.xz:",
    "kernel/net/802/stp.ko.xz: kernel/net/llc/llc.ko.xz",
    "kernel/net/bridge/bridge.ko.xz: kernel/net/802/stp.ko.xz kernel/net/llc/llc.ko.xz",
    "kernel/net/bridge/br-netfilter.ko: kernel/net/bridge/bridge.ko.xz kernel/net/802/stp.ko.xz kernel/net/llc/llc.ko.xz",
  ].join("\n");

  /** A kernel with these modules in its folder; returns what it is told to load, and descriptors that are open. */
  function kernel({
    dep = DEP as string | null,
    loaded = [] as string[],
    results = {} as Record<string, number>,
  } = {}) {
    const told: [string, number][] = [];
    const open = new Map<number, string>();
    const { existsSync, readFileSync, openSync, closeSync } = fs;
    const list = `${FOLDER}/modules.dep`;
    spies.push(
      spyOn(fs, "existsSync").mockImplementation((path) => {
        const [, name] = /^\/sys\/module\/(.*)$/.exec(String(path)) ?? [];
        if (name !== undefined) return loaded.includes(name);
        return path === list ? dep !== null : existsSync(path);
      }),
      spyOn(fs, "readFileSync").mockImplementation(((path: string, ...more: never[]) =>
        path === list ? dep : readFileSync(path, ...more)) as never),
      spyOn(fs, "openSync").mockImplementation(((path: string, flags: "r") => {
        if (!String(path).startsWith(FOLDER)) return openSync(path, flags);
        open.set(900 + told.length, path);
        return 900 + told.length;
      }) as never),
      spyOn(fs, "closeSync").mockImplementation((fd) => {
        if (!open.delete(fd)) closeSync(fd);
      }),
      spyOn(syscalls, "trySyscall").mockImplementation((_name, ...[fd, , flags]: unknown[]) => {
        const path = open.get(Number(fd)) ?? "";
        told.push([path.slice(FOLDER.length + 1), Number(flags)]);
        return results[path.slice(path.lastIndexOf("/") + 1)] ?? 0;
      }),
    );
    return { told, open };
  }

  test("are loaded after what they need, compressed ones as such; those that are there are no error", () => {
    const { told, open } = kernel({ results: { "llc.ko.xz": -17 } });
    modules.loadModule("br_netfilter");
    expect(told).toEqual([
      ["kernel/net/llc/llc.ko.xz", 4],
      ["kernel/net/802/stp.ko.xz", 4],
      ["kernel/net/bridge/bridge.ko.xz", 4],
      ["kernel/net/bridge/br-netfilter.ko", 0],
    ]);
    expect(open.size).toBe(0);
    expect(["br_netfilter", "br-netfilter", "stp", "netfilter"].map(modules.hasModule)).toEqual([
      true,
      true,
      true,
      false,
    ]);
  });

  test("that are loaded are left alone; one that there is not, or that is refused, is an error", () => {
    const { told, open } = kernel({ loaded: ["br_netfilter"], results: { "stp.ko.xz": -1 } });
    modules.loadModule("br-netfilter");
    expect([told, modules.isLoaded("br-netfilter"), modules.isLoaded("stp")]).toEqual([[], true, false]);
    expect(() => modules.loadModule("none")).toThrow(
      `cannot load none: it is not among the kernel's modules in ${FOLDER}`,
    );
    expect(() => modules.loadModule("bridge")).toThrow("load ");
    expect([told.length, open.size]).toEqual([2, 0]);
    modules.loadBridgeNetfilter();
    for (const spy of spies.splice(0)) spy.mockRestore();
    kernel({ dep: null });
    expect(modules.hasModule("stp")).toBe(false);
    // Whoever needs it says so.
    modules.loadBridgeNetfilter();
  });
});

describe("filtering of bridged frames", () => {
  const NAMES = ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"];

  function host(values: Record<string, string>, { loads = true, writable = true } = {}) {
    const did: string[] = [];
    spies.push(
      spyOn(sysctls, "sysctlGet").mockImplementation((name) => values[name]),
      spyOn(sysctls, "sysctlSet").mockImplementation((name, value) => {
        did.push(`${name}=${value}`);
        if (writable) values[name] = value;
        return writable;
      }),
      spyOn(modules, "loadModule").mockImplementation((name) => {
        did.push(`load ${name}`);
        if (!loads) throw new Error("no module");
        for (const each of NAMES) values[each] ??= "0";
      }),
    );
    return did;
  }

  test("is on where it is on, turned on where it is off, after the module where that is missing", () => {
    const did = host({ [NAMES[0] ?? ""]: "1", [NAMES[1] ?? ""]: "0" });
    expect([enableBridgeNetfilter(), did]).toEqual([undefined, [`${NAMES[1]}=1`]]);
    for (const spy of spies.splice(0)) spy.mockRestore();
    const loaded = host({});
    expect([enableBridgeNetfilter(), loaded]).toEqual([
      ...[undefined, ["load br_netfilter", `${NAMES[0]}=1`, `${NAMES[1]}=1`]],
    ]);
  });

  test("that is not possible is a warning with what to do", () => {
    host({}, { loads: false });
    expect(enableBridgeNetfilter()).toMatch(
      /^the kernel has no br_netfilter, so policies are not enforced between pods: 'modprobe br_netfilter' loads it \(no module\)$/,
    );
    for (const spy of spies.splice(0)) spy.mockRestore();
    host(Object.fromEntries(NAMES.map((name) => [name, "0"])), { writable: false });
    expect(enableBridgeNetfilter()).toBe(
      "bridged packets are not filtered, so policies are not enforced between pods: /proc/sys is read-only",
    );
  });

  test("is kept as long as it is needed, which is asked where it is off", () => {
    const did = host(Object.fromEntries(NAMES.map((name) => [name, "0"])));
    let asked = 0;
    let needed = false;
    const subject = new BridgeNetfilter({ needed: () => ++asked > 0 && needed, source: "settings" });
    const missing = () => subject.difference(subject.desired(), subject.observe(subject.desired()));
    expect(missing()).toEqual([]);
    needed = true;
    expect(missing()).toHaveLength(2);
    subject.apply(missing());
    asked = 0;
    expect([missing(), asked, subject.sources]).toEqual([[], 0, ["settings"]]);
    expect(did).toEqual(NAMES.map((name) => `${name}=1`));
  });

  test("is said of each setting by what it is", () => {
    const subject = new BridgeNetfilter();
    const desired = subject.desired();
    const found = new Map([[NAMES[0] ?? "", "0"]]);
    expect(subject.difference(desired, found).map(({ object, wrong }) => `${object} is ${wrong}`)).toEqual([
      "sysctl net.bridge.bridge-nf-call-iptables is 0 instead of 1",
      "sysctl net.bridge.bridge-nf-call-ip6tables is missing",
    ]);
    expect(subject.difference(desired, new Map(NAMES.map((name) => [name, "1"])))).toEqual([]);
  });
});

describe("forwarding in the older filter table", () => {
  const rule = (jump?: string): LegacyRule => legacyRule({ inLink: "eth0" }, jump);
  const policy = (verdict: number) => {
    const bytes = new Uint8Array(152);
    new DataView(bytes.buffer).setUint16(88, 112, true);
    new DataView(bytes.buffer).setInt32(112 + 32, verdict, true);
    return bytes;
  };
  const tableOf = (verdict = -2): LegacyTable => ({
    ...{ name: "filter", entries: 4 },
    hooks: [
      { name: "INPUT", hook: 1, policy: policy(-1), rules: [rule()] },
      { name: "FORWARD", hook: 2, policy: policy(verdict), rules: [rule("DOCKER"), rule("WEAVE-FORWARD")] },
    ],
    chains: [
      { name: "DOCKER", rules: [rule("WEAVE-FORWARD"), rule()] },
      { name: "WEAVE-FORWARD", rules: [rule()] },
    ],
  });

  function kernel(table: LegacyTable | undefined) {
    const written: LegacyTable[] = [];
    let [held, outside] = [false, 0];
    spies.push(
      spyOn(lock, "withIptablesLock").mockImplementation(((act: () => unknown) => {
        held = true;
        try {
          return act();
        } finally {
          held = false;
        }
      }) as never),
      spyOn(legacy, "legacyTables").mockImplementation(() => (table ? ["nat", "filter"] : ["nat"])),
      spyOn(legacy, "readLegacyTable").mockImplementation((name) => {
        expect(name).toBe("filter");
        return table ?? expect.unreachable();
      }),
      spyOn(legacy, "replaceLegacyTable").mockImplementation((replaced) => {
        if (!held) outside++;
        written.push(replaced);
      }),
    );
    return { written, outside: () => outside };
  }
  const matches = [{ inLink: "weave" }, { outLink: "weave" }];

  test("is looked at only where the table is there already: looking makes one", () => {
    kernel(undefined);
    expect(legacyForwarding().observe()).toEqual({ drops: false, jumps: [], rules: undefined });
  });

  test.each([
    [-2, false],
    [-1, true],
  ])("tells where we stand in it, and whether its policy (%d) is to drop", (verdict, drops) => {
    kernel(tableOf(verdict));
    const { rules, ...rest } = legacyForwarding().observe();
    expect([rest, rules?.length]).toEqual([{ drops, jumps: [1] }, 1]);
  });

  test("accepts ours first, once, under the lock of other programs; and removes all of it", () => {
    const { written, outside } = kernel(tableOf());
    const forwarding = legacyForwarding();
    forwarding.accept(matches as never);
    const [table = expect.unreachable()] = written;
    const jumps = (name: string) =>
      [...table.hooks, ...table.chains].find((each) => each.name === name)?.rules.map(({ jump }) => jump);
    expect([jumps("FORWARD"), jumps("DOCKER"), jumps("WEAVE-FORWARD")?.length]).toEqual([
      ["WEAVE-FORWARD", "DOCKER"],
      [undefined],
      2,
    ]);
    expect(table.chains.map(({ name }) => name)).toEqual(["DOCKER", "WEAVE-FORWARD"]);
    forwarding.remove();
    const after = written.at(-1) ?? expect.unreachable();
    expect(after.chains.map(({ name }) => name)).toEqual(["DOCKER"]);
    expect(after.hooks.flatMap(({ rules }) => rules.map(({ jump }) => jump))).toEqual([undefined, "DOCKER"]);
    expect([written.length, outside()]).toEqual([2, 0]);
    expect(forwarding.rules(matches as never).length).toBe(2);
  });
});

describe("bodies of the control API", () => {
  const address = { cidr: "10.32.0.5/12", asked: true };
  const noted = (count: number) => ({ addresses: Array(count).fill(address), multicastRoute: false });
  const wanted = (more: object = {}) => ({ pid: 1, addresses: "", ...more });
  test.each<[string, v.GenericSchema, unknown, boolean]>([
    ["a CNI call", CniCall, { variables: { CNI_COMMAND: "ADD" }, input: "" }, true],
    ["another's variable", CniCall, { variables: { PATH: "/" }, input: "" }, false],
    ["a call without input", CniCall, { variables: {} }, false],
    ["no address", NotedAttachment, noted(0), false],
    ["1 address", NotedAttachment, noted(1), true],
    ["64 addresses", NotedAttachment, noted(64), true],
    ["65 addresses", NotedAttachment, noted(65), false],
    ["no word on multicast", NotedAttachment, { addresses: [address] }, false],
    ["the first process", WantedAttachment, wanted(), true],
    ["no process", WantedAttachment, wanted({ pid: 0 }), false],
    ["a part of one", WantedAttachment, wanted({ pid: 1.5 }), false],
    ["4,096 characters", WantedAttachment, wanted({ addresses: "x".repeat(4_096) }), true],
    ["4,097 characters", WantedAttachment, wanted({ addresses: "x".repeat(4_097) }), false],
    ["a name of 253", WantedAttachment, wanted({ fqdn: "x".repeat(253) }), true],
    ["a name of 254", WantedAttachment, wanted({ fqdn: "x".repeat(254) }), false],
  ])("%s: taken or not", (_, schema, body, taken) => {
    expect(v.safeParse(schema, body).success).toBe(taken);
  });

  test("a call is of the namespace that it names, or of none", () => {
    expect(v.parse(CniCall, { variables: {}, input: "x" })).toEqual({
      variables: {},
      input: "x",
      namespace: "",
    });
    expect(CNI_COMMANDS).toEqual(["ADD", "DEL", "CHECK", "VERSION", "STATUS", "GC"]);
  });
});

test("errors of the work thread have their class and what they say on the other side", () => {
  const over = (error: unknown) => errorOf(structuredClone(failureOf(error)));
  const netns = over(new NetnsError("/proc/7/ns/net", "ENOENT", "gone" as never));
  expect([netns instanceof NetnsError, (netns as NetnsError).path, (netns as NetnsError).reason]).toEqual([
    ...[true, "/proc/7/ns/net", "ENOENT"],
  ]);
  for (const kind of [AlreadyAttachedError, NoGatewayError]) {
    const error = over(new kind("text"));
    expect([error instanceof kind, error.message]).toEqual([true, "text"]);
  }
  const plain = over(new TypeError("text"));
  expect([plain.constructor, plain.message, over("text").message]).toEqual([Error, "text", "text"]);
});
