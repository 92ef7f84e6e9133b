// Our tables of nftables in a kernel in memory: whatever was there, whatever it refuses, and whoever comes in between.
import { describe, expect, test } from "bun:test";
import { parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { forwardPolicy, tableFindings } from "../../lib/doctor/filter.ts";
import type { Exposed } from "../../lib/host/expose.ts";
import { FIREWALL, FirewallResource, firewallTable } from "../../lib/host/firewall.ts";
import { FIREWALLD, type ForwardChain, IPTABLES_NFT, nftForwarding } from "../../lib/host/forwarding/nft.ts";
import { keeper } from "../../lib/host/reconcile/resource.ts";
import { silentLog } from "../../lib/log/log.ts";
import { addChain, chainGet, chainList, deleteChain } from "../../lib/netlink/nftables/chain.ts";
import { addElements, deleteElements, hasElement } from "../../lib/netlink/nftables/element.ts";
import { counter } from "../../lib/netlink/nftables/expr/counter.ts";
import { verdict } from "../../lib/netlink/nftables/expr/immediate.ts";
import { matchLink } from "../../lib/netlink/nftables/match.ts";
import { commit } from "../../lib/netlink/nftables/message.ts";
import { tableReplace } from "../../lib/netlink/nftables/replace.ts";
import { addRule, insertRule, ruleList } from "../../lib/netlink/nftables/rule.ts";
import { addSet, type SetDefinition } from "../../lib/netlink/nftables/set.ts";
import { readTable, stateOf } from "../../lib/netlink/nftables/state.ts";
import { addTable, hasTable, tableDelete, tableGet, tableList } from "../../lib/netlink/nftables/table.ts";
import { Compiler } from "../../lib/npc/compiler.ts";
import {
  DefaultDeny,
  hasDefaultDeny,
  policySteps,
  removeDefaultDeny,
  removePolicies,
} from "../../lib/npc/defaultdeny.ts";
import { Enforcer } from "../../lib/npc/enforcer.ts";
import { createMetrics } from "../../lib/npc/metrics.ts";
import { Model } from "../../lib/npc/model.ts";
import { KINDS } from "../../lib/npc/objects.ts";
import { NO_RULES, type Ruleset } from "../../lib/npc/ruleset.ts";
import { type InForce, write } from "../../lib/npc/writer.ts";
import { baseCluster, conformanceCases, modelOf, NODE } from "../support/conformance.ts";
import { ERRNO, NftKernel } from "../support/nftkernel.ts";
import { randomOf } from "../support/seed.ts";

const SETTINGS = { allowMulticast: true, denyUnknown: true };
const BRIDGE_FAMILY = 7;

/** Without what says how the state came to be: order of chains, numbers of rules. */
const stateText = (kernel: NftKernel) => JSON.stringify(kernel.dump());

describe("policies, change by change", () => {
  const cases = conformanceCases().filter(({ legacy }) => !legacy);
  /** Rules of each case, of one compiler that goes from one to the next. */
  function* histories(count: number): Generator<Ruleset> {
    const random = randomOf("policies change by change");
    const model = new Model();
    const compiler = new Compiler(model, { node: NODE });
    for (let i = 0; i < count; i++) {
      const target = modelOf(random.pick(cases));
      const policies = [...target.namespaces.keys()].flatMap((each) => [...target.policiesIn(each).values()]);
      const objects = {
        Namespace: [...target.namespaces.values()].map((object) => ({ kind: "Namespace" as const, object })),
        Pod: [...target.pods.values()].map((object) => ({ kind: "Pod" as const, object })),
        NetworkPolicy: policies.map((object) => ({ kind: "NetworkPolicy" as const, object })),
      };
      for (const kind of KINDS) yield compiler.update(model.replace(kind, objects[kind]));
    }
  }

  test("the kernel comes to the same as by a whole write", () => {
    const kernel = new NftKernel();
    const nf = kernel.socket();
    let before: InForce | undefined;
    for (const rules of histories(10)) {
      before = write(nf, before, rules, SETTINGS);
      const fresh = new NftKernel();
      write(fresh.socket(), undefined, rules, SETTINGS);
      expect(stateText(kernel)).toBe(stateText(fresh));
      // Nothing differs: nothing is sent.
      const { transactions } = kernel;
      expect(write(nf, before, rules, SETTINGS)).toEqual(before);
      expect(kernel.transactions).toBe(transactions);
    }
  });

  test("a write that the kernel refuses, at whatever message, changes nothing, and a whole one puts all right", () => {
    const random = randomOf("refused policies");
    const kernel = new NftKernel();
    const nf = kernel.socket();
    let before: InForce | undefined;
    for (const rules of histories(5)) {
      const old = stateText(kernel);
      kernel.refuse = { transaction: kernel.transactions + 1, message: random.below(40), errno: ERRNO.EBUSY };
      if (rules !== before?.rules) {
        let refused = false;
        try {
          write(nf, before, rules, SETTINGS);
        } catch {
          refused = true;
        }
        if (refused) expect(stateText(kernel)).toBe(old);
        kernel.refuse = undefined;
        write(nf, undefined, rules, SETTINGS);
      }
      kernel.refuse = undefined;
      const fresh = new NftKernel();
      write(fresh.socket(), undefined, rules, SETTINGS);
      expect(stateText(kernel)).toBe(stateText(fresh));
      before = { rules, generation: 0 };
    }
  });
});

describe("the enforcer", () => {
  function enforcer(kernel = new NftKernel()) {
    const clock = new SimulatedClock(1_000_000);
    const metrics = createMetrics();
    const logged: string[] = [];
    const note = (level: string) => (text: string) => logged.push(`${level} ${text}`);
    const log = { ...silentLog, info: note("info"), warning: note("warning"), error: note("error") };
    const config = { ...SETTINGS, node: NODE, legacy: false };
    const subject = new Enforcer(config, kernel.socket(), clock, metrics, log);
    const objects = baseCluster().map(({ object }) => object);
    const list = (kind: (typeof KINDS)[number]) =>
      subject.listed(
        kind,
        objects.filter((object) => object.kind === kind),
      );
    const value = async (metric: { get(): Promise<{ values: { value: number }[] }> }) =>
      (await metric.get()).values.at(-1)?.value;
    return { subject, clock, metrics, logged, kernel, list, value, objects };
  }

  test("writes nothing before it has heard of all kinds, and then once, 2 ms after", async () => {
    const { subject, clock, kernel, list, logged, value, metrics } = enforcer();
    for (const kind of ["Namespace", "Pod"] as const) list(kind);
    clock.advance(60_000);
    expect([kernel.transactions, subject.inSync]).toEqual([0, false]);
    list("NetworkPolicy");
    list("Pod");
    clock.advance(1);
    expect(kernel.transactions).toBe(0);
    clock.advance(1);
    // All rules, and then that connections need be judged once only.
    expect([kernel.transactions, subject.inSync]).toEqual([2, true]);
    clock.advance(60_000);
    expect(kernel.transactions).toBe(2);
    expect(logged).toEqual(["info policies are in force"]);
    expect(await value(metrics.inSync)).toBe(1);
    expect(await value(metrics.lastEvent)).toBe(1_700_000_060);
    expect((await metrics.objects.get()).values.map((each) => [each.labels.kind, each.value])).toEqual([
      ["pod", 9],
      ["namespace", 3],
      ["networkpolicy", 0],
    ]);
  });

  test("repairs at once what others change, then every second at most, with everything", async () => {
    const { subject, clock, kernel, logged, list, metrics, value } = enforcer();
    subject.touchedByOthers(undefined);
    for (const kind of KINDS) list(kind);
    clock.advance(10);
    const whole = stateText(kernel);
    const touch = () => {
      kernel.tables.clear();
      subject.touchedByOthers({ pid: 7, name: "ufw" });
    };
    touch();
    touch();
    clock.advance(0);
    expect([kernel.transactions, stateText(kernel) === whole]).toEqual([4, true]);
    expect(logged.at(-2)).toContain("warning ufw (pid 7) changed our nftables table weave-npc; repairing it");
    touch();
    clock.advance(999);
    expect([kernel.transactions, stateText(kernel) === whole]).toEqual([4, false]);
    touch();
    clock.advance(1);
    expect([kernel.transactions, stateText(kernel) === whole]).toEqual([6, true]);
    clock.advance(60_000);
    expect([kernel.transactions, await value(metrics.repairs)]).toEqual([6, 2]);
    kernel.tables.clear();
    subject.touchedByOthers(undefined);
    clock.advance(0);
    expect(logged.filter((line) => line.includes("another program changed")).length).toBe(1);
    expect(stateText(kernel)).toBe(whole);
    // Not while what is in force is unknown: a whole write is coming anyway; nor after the end.
    const { transactions } = kernel;
    subject.stop();
    touch();
    list("Pod");
    clock.advance(60_000);
    expect(kernel.transactions).toBe(transactions);
  });

  test("a stop before the write, and before a repair, leaves the kernel alone", () => {
    const { subject, clock, kernel, list } = enforcer();
    for (const kind of KINDS) list(kind);
    subject.stop();
    clock.advance(60_000);
    expect(kernel.transactions).toBe(0);
    const other = enforcer();
    for (const kind of KINDS) other.list(kind);
    other.clock.advance(10);
    other.subject.touchedByOthers(undefined);
    other.subject.stop();
    other.clock.advance(60_000);
    expect(other.kernel.transactions).toBe(2);
  });

  test("a kernel without nftables for bridges gets the policies all the same, a second later, and says so once", async () => {
    const kernel = new NftKernel();
    kernel.lacking.add(BRIDGE_FAMILY);
    const { subject, clock, list, logged, metrics, value, objects } = enforcer(kernel);
    for (const kind of KINDS) list(kind);
    clock.advance(10);
    expect(subject.inSync).toBe(false);
    clock.advance(1_000);
    expect(subject.inSync).toBe(true);
    expect([...kernel.tables.keys()]).toEqual(["1 weave-npc"]);
    const pod = objects.find(({ kind }) => kind === "Pod") ?? expect.unreachable();
    subject.changed({ type: "delete", object: pod });
    clock.advance(60_000);
    expect(subject.inSync).toBe(true);
    expect(logged).toEqual([
      expect.stringMatching(/^warning pods can send tagged frames past policies.*nf_tables_bridge$/),
      "info policies are in force",
    ]);
    expect(await value(metrics.errors)).toBe(1);
  });

  test("a table of the bridge that others delete comes back, also where a change comes before its repair", () => {
    const kernel = new NftKernel();
    const { subject, clock, list, logged, objects } = enforcer(kernel);
    for (const kind of KINDS) list(kind);
    clock.advance(10);
    const whole = [...kernel.tables.keys()].sort();
    const pod = objects.find(({ kind }) => kind === "Pod") ?? expect.unreachable();
    kernel.tables.delete("7 weave-npc");
    subject.changed({ type: "delete", object: pod });
    clock.advance(10);
    expect(subject.inSync).toBe(false);
    clock.advance(1_000);
    expect(subject.inSync).toBe(true);
    expect([...kernel.tables.keys()].sort()).toEqual(whole);
    expect(logged.join()).not.toContain("nf_tables_bridge");
  });
});

describe("default deny", () => {
  const isWhole = (kernel: NftKernel) => [...kernel.tables.keys()].sort();
  function deny(kernel = new NftKernel()) {
    const nf = kernel.socket();
    const subject = new DefaultDeny(nf);
    const reconcile = () => keeper(subject).reconcile(() => true);
    return { kernel, nf, subject, reconcile };
  }

  test("is put in place where there are no policies, once; what others change in it is put back, and named", () => {
    const { kernel, nf, reconcile } = deny();
    expect(hasDefaultDeny(nf)).toBe(false);
    expect(reconcile()).toMatchObject([{ object: "table inet weave-npc", wrong: "missing" }]);
    expect(isWhole(kernel)).toEqual(["1 weave-npc", "7 weave-npc"]);
    expect(hasDefaultDeny(nf)).toBe(true);
    expect(reconcile()).toEqual([]);
    const whole = stateText(kernel);
    kernel.tables.delete("7 weave-npc");
    expect(reconcile()).toMatchObject([{ object: "table inet weave-npc", wrong: "missing (bridge)" }]);
    expect(stateText(kernel)).toBe(whole);
    kernel.tables.get("1 weave-npc")?.chains.get("postrouting")?.rules.pop();
    kernel.tables.get("7 weave-npc")?.chains.delete("protocols");
    expect(reconcile()[0]?.wrong).toMatch(
      /^with \d+ of \d+ rules in chain postrouting, without chain protocols \(bridge\)$/,
    );
    expect(stateText(kernel)).toBe(whole);
  });

  test("leaves policies that are in force alone, also those that come in between", () => {
    const { kernel, nf, subject, reconcile } = deny();
    const found = subject.observe();
    const stale = subject.difference(subject.desired(), found);
    write(nf, undefined, NO_RULES, SETTINGS);
    const policies = stateText(kernel);
    expect(reconcile()).toEqual([]);
    // weave-npc has put policies in force since we looked.
    subject.apply(stale);
    expect(stateText(kernel)).toBe(policies);
    const marked = deny();
    marked.reconcile();
    marked.kernel.tables.get("1 weave-npc")?.chains.get("postrouting")?.rules.pop();
    const repair = marked.subject.difference(marked.subject.desired(), marked.subject.observe());
    expect(repair.length).toBe(1);
    write(marked.nf, undefined, NO_RULES, SETTINGS);
    marked.subject.apply(repair);
    expect(stateText(marked.kernel)).toBe(policies);
    expect(hasDefaultDeny(marked.nf)).toBe(false);
  });

  test("a kernel without nftables for bridges gets the rest, and is asked for that no more", () => {
    const kernel = new NftKernel();
    kernel.lacking.add(BRIDGE_FAMILY);
    const { subject, nf } = deny(kernel);
    subject.apply(subject.difference(subject.desired(), { policies: undefined, frames: undefined }));
    expect(isWhole(kernel)).toEqual(["1 weave-npc"]);
    expect(subject.desired().map(({ table }) => table.family)).toEqual(["inet"]);
    expect(keeper(subject).reconcile(() => true)).toEqual([]);
    expect(hasDefaultDeny(nf)).toBe(true);
  });

  test("other refusals are told, and nothing is half done", () => {
    const { kernel, reconcile } = deny();
    kernel.refuse = { transaction: 1, message: 5, errno: ERRNO.EPERM };
    expect(reconcile).toThrow("Operation not permitted");
    expect(kernel.tables.size).toBe(0);
  });

  test("is removed with its frames' table, and nothing that has taken its place is", () => {
    const { kernel, nf, reconcile } = deny();
    expect(removeDefaultDeny(nf)).toBe(false);
    reconcile();
    expect(removeDefaultDeny(nf)).toBe(true);
    expect(kernel.tables.size).toBe(0);
    write(nf, undefined, NO_RULES, SETTINGS);
    expect(removeDefaultDeny(nf)).toBe(false);
    expect(kernel.tables.size).toBe(2);
    expect(policySteps(nf).map(({ does, did }) => [does, did])).toEqual([
      [
        "remove the network policies in force (table weave-npc)",
        "removed the network policies in force (table weave-npc)",
      ],
    ]);
    void policySteps(nf)[0]?.run?.();
    expect(kernel.tables.size).toBe(0);
    expect(policySteps(nf)).toEqual([]);
    expect(removePolicies(nf)).toBe(false);
    write(nf, undefined, NO_RULES, { ...SETTINGS, bridge: false });
    expect(removePolicies(nf)).toBe(true);
  });
});

describe("the packet filter of the host", () => {
  const exposed: Exposed[] = [
    { cidr: parseCidr("10.32.0.1/12"), masquerade: true },
    { cidr: parseCidr("10.50.0.1/24"), masquerade: false },
  ];
  const local = [{ start: parseIPv4("10.32.0.0"), end: parseIPv4("10.32.1.0") }];
  const settings = { exposed, controlPort: 6784, local };

  test("is put in place, found as it is, and put back whatever is changed", () => {
    const kernel = new NftKernel();
    const resource = new FirewallResource(kernel.socket(), () => settings);
    const reconcile = () => keeper(resource).reconcile(() => true);
    expect(reconcile()).toMatchObject([{ object: "table ip weave", wrong: "missing" }]);
    const whole = stateText(kernel);
    const table = () => kernel.tables.get("2 weave") ?? expect.unreachable();
    const damages: [damage: () => unknown, wrong: string][] = [
      [() => kernel.tables.clear(), "missing"],
      [() => table().chains.delete("input"), "without chain input, with foreign chains or sets"],
      [() => table().sets.get("local")?.elements.clear(), "with other elements in set local"],
      [() => table().chains.get("forward")?.rules.reverse(), "with changed rules in chain forward"],
      [() => table().chains.get("postrouting")?.rules.shift(), "with 4 of 5 rules in chain postrouting"],
      [() => (table().flags = 1), "dormant"],
      [
        () => commit(kernel.socket(), [addChain(FIREWALL, { name: "foreign" })]),
        "with foreign chains or sets",
      ],
    ];
    for (const [damage, wrong] of damages) {
      expect(reconcile()).toEqual([]);
      damage();
      expect(reconcile().map((each) => each.wrong)[0]).toContain(wrong.split(",")[0] ?? "");
      expect(stateText(kernel)).toBe(whole);
    }
  });

  test("refused: what was there stays", () => {
    const kernel = new NftKernel();
    let port = 6784;
    const resource = new FirewallResource(kernel.socket(), () => ({ ...settings, controlPort: port }));
    keeper(resource).reconcile(() => true);
    const before = stateText(kernel);
    port = 6785;
    for (let message = 0; message < 20; message++) {
      kernel.refuse = { transaction: kernel.transactions + 1, message, errno: ERRNO.EPERM };
      expect(() => keeper(resource).reconcile(() => true)).toThrow("Operation not permitted");
      expect(stateText(kernel)).toBe(before);
    }
    expect(keeper(resource).reconcile(() => true).length).toBe(1);
    expect(stateText(kernel)).not.toBe(before);
  });

  test("doctor: what it finds in it", () => {
    const kernel = new NftKernel();
    const nf = kernel.socket();
    const cidrs = exposed.map(({ cidr }) => cidr);
    const find = (running: boolean) =>
      tableFindings(nf, cidrs, running).map(({ level, found, advice }) => [level, found, advice]);
    expect(find(false)).toEqual([
      [
        "problem",
        "nftables table ip weave is missing: traffic of the network is neither accepted nor masqueraded",
        "'weave launch' repairs it",
      ],
    ]);
    tableReplace(nf, firewallTable(settings));
    expect(find(true)).toEqual([["ok", "nftables table ip weave is in place", undefined]]);
    expect(find(false)).toEqual([
      [
        "warning",
        "no masquerading for the exposed address 10.50.0.1/24: it was exposed with --no-masq, or rules were removed",
        "'weave launch' repairs it",
      ],
    ]);
    tableReplace(
      nf,
      firewallTable({ ...settings, exposed: exposed.map((each) => ({ ...each, masquerade: true })) }),
    );
    expect(find(false)[0]?.[0]).toBe("ok");
    const table = () => kernel.tables.get("2 weave") ?? expect.unreachable();
    table().chains.get("forward")?.rules.pop();
    table().flags = 1;
    table().chains.delete("postrouting");
    expect(find(true)).toEqual([
      [
        "problem",
        "nftables table ip weave was changed: it is dormant, chain postrouting is missing or has another hook, chain forward lacks rules of weave",
        "'weave status' shows why the router does not repair it",
      ],
    ]);
  });

  test("doctor: filters that drop what is forwarded; all have to accept ours, not one of them", () => {
    const drop = (variant: "iptables-nft" | "firewalld", accepts: boolean) => ({ variant, accepts });
    const text = (...args: Parameters<typeof forwardPolicy>) => {
      const { level, found, fixes } = forwardPolicy(...args);
      return [level, found.split(";")[0], fixes ?? []];
    };
    expect(text([], true, true)).toEqual(["ok", "no FORWARD policy drops packets", []]);
    const both = [drop("iptables-nft", true), drop("firewalld", false)];
    expect(text(both, true, true)).toEqual([
      "problem",
      "iptables-nft, firewalld drops forwarded packets by policy, and no rule accepts those of weave",
      [],
    ]);
    expect(text(both, true, false)[2]).toEqual([
      { action: "accept-forwarded", variants: ["iptables-nft", "firewalld"] },
    ]);
    expect(text(both, false, true)[0]).toBe("ok");
    expect(text([drop("firewalld", true)], true, true)[0]).toBe("ok");
  });
});

describe("chains of others", () => {
  const MATCHES = [{ inLink: "weave" }, { outLink: "weave", destination: parseCidr("10.32.0.0/12") }];
  const others = (kernel: NftKernel, chain: ForwardChain, policy: "accept" | "drop", flags = 0) => {
    const base = { type: "filter", hook: "forward", priority: 0, policy } as const;
    const { table, name } = chain;
    commit(kernel.socket(), [
      addTable(table, flags),
      addChain(table, { name, base }),
      addRule(table, name, [...matchLink("iifname", "lo"), verdict("accept")]),
    ]);
  };

  test.each([
    ["iptables-nft", IPTABLES_NFT],
    ["firewalld", FIREWALLD],
  ])("%s: ours is put before theirs, found again, and removed without a trace", (variant, chain) => {
    const kernel = new NftKernel();
    const nf = kernel.socket();
    const subject = nftForwarding(nf, chain);
    expect(subject.variant).toBe(variant as typeof subject.variant);
    expect(subject.observe()).toEqual({ drops: false, jumps: [], rules: undefined });
    others(kernel, chain, "drop");
    const before = stateText(kernel);
    expect(subject.observe()).toEqual({ drops: true, jumps: [], rules: undefined });
    subject.accept(MATCHES);
    const wanted = subject.rules(MATCHES);
    expect(wanted.length).toBe(2);
    expect(subject.observe()).toEqual({ drops: true, jumps: [0], rules: wanted });
    // Again, with others' rules before it, and with fewer of ours.
    commit(nf, [insertRule(chain.table, chain.name, [verdict("accept")])]);
    expect(subject.observe().jumps).toEqual([1]);
    subject.accept(MATCHES.slice(0, 1));
    expect(subject.observe()).toEqual({ drops: true, jumps: [0], rules: wanted.slice(0, 1) });
    expect(ruleList(nf, chain.table, chain.name).length).toBe(3);
    subject.remove();
    expect(subject.observe()).toEqual({ drops: true, jumps: [], rules: undefined });
    kernel.tables
      .get([...kernel.tables.keys()][0] ?? "")
      ?.chains.get(chain.name)
      ?.rules.shift();
    expect(stateText(kernel)).toBe(before);
  });

  test("a chain that accepts drops all by its last rule, or nothing; one that is locked is not ours to change", () => {
    const drops = (policy: "accept" | "drop", flags: number, ...rules: Parameters<typeof addRule>[2][]) => {
      const kernel = new NftKernel();
      others(kernel, IPTABLES_NFT, policy, flags);
      commit(
        kernel.socket(),
        rules.map((rule) => addRule(IPTABLES_NFT.table, IPTABLES_NFT.name, rule)),
      );
      return nftForwarding(kernel.socket(), IPTABLES_NFT).observe().drops;
    };
    expect(drops("accept", 0)).toBe(false);
    expect(drops("accept", 0, [verdict("drop")])).toBe(true);
    expect(drops("accept", 0, [counter(), verdict("drop")])).toBe(true);
    expect(drops("accept", 0, [...matchLink("iifname", "eth0"), verdict("drop")])).toBe(false);
    expect(drops("accept", 0, [counter(), verdict("accept")])).toBe(false);
    expect(drops("drop", 0)).toBe(true);
    // NFT_TABLE_F_OWNER
    expect(drops("drop", 2)).toBe(false);
    expect(drops("accept", 2, [verdict("drop")])).toBe(false);
  });
});

describe("what the kernel lists", () => {
  const T = { family: "inet", name: "t" } as const;
  const SETS: SetDefinition[] = [
    { name: "a", key: ["ipv4"] },
    { name: "b", key: ["ipv4"], interval: true },
    { name: "c", key: ["ipv4", "protocol", "port"] },
    { name: "d", key: ["protocol", "port"], interval: true, verdicts: true },
  ];

  test("is read as what was sent: tables, chains, sets, elements", () => {
    const kernel = new NftKernel();
    const nf = kernel.socket();
    expect([tableList(nf, "inet"), hasTable(nf, T), tableGet(nf, T), chainGet(nf, T, "x")]).toEqual([
      [],
      false,
      undefined,
      undefined,
    ]);
    expect(tableDelete(nf, T)).toBe(false);
    const base = { type: "nat", hook: "output", priority: -100, policy: "drop" } as const;
    const elements = [{ key: Uint8Array.of(10, 0, 0, 1) }, { key: Uint8Array.of(10, 0, 0, 2) }];
    const requests = [
      addTable(T),
      addChain(T, { name: "x", base }),
      addChain(T, { name: "y" }),
      ...SETS.map((set) => addSet(T, set)),
      ...addElements(T, SETS[0] as SetDefinition, elements),
      addRule(T, "x", [verdict({ jump: "y" })]),
    ];
    commit(nf, requests);
    commit(nf, [addTable({ family: "ip", name: "other" })]);
    expect([tableList(nf, "inet"), hasTable(nf, T)]).toEqual([["t"], true]);
    expect(tableGet(nf, T)).toEqual({ dormant: false, owned: false, objects: 6 });
    expect(chainList(nf, "inet")).toEqual([
      {
        table: "t",
        name: "x",
        policy: "drop",
        hook: "type nat hook output priority -100 policy drop",
      },
      { table: "t", name: "y", policy: undefined, hook: "" },
    ]);
    expect(ruleList(nf, T, "x").map(({ jump }) => jump)).toEqual(["y"]);
    expect(readTable(nf, T, stateOf(requests))).toEqual(stateOf(requests));
    const has = (last: number) => hasElement(nf, T, "a", Uint8Array.of(10, 0, 0, last));
    expect([has(1), has(2), has(3), hasElement(nf, T, "z", Uint8Array.of(1))]).toEqual([
      true,
      true,
      false,
      false,
    ]);
    commit(nf, deleteElements(T, SETS[0] as SetDefinition, elements.slice(0, 1)));
    expect([has(1), has(2)]).toEqual([false, true]);
    expect(() => commit(nf, deleteChain(T, "y"))).toThrow("delete chain t y");
    commit(nf, [...deleteChain(T, "x"), ...deleteChain(T, "y")]);
    expect(chainList(nf, "inet")).toEqual([]);
    expect(tableDelete(nf, T)).toBe(true);
    kernel.lacking.add(1);
    expect(hasTable(nf, T)).toBe(false);
  });
});
