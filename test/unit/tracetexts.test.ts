// A trace in words: what rules and policies are said to do, and where a packet is said to stop.
import { describe, expect, test } from "bun:test";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import type { Evidence, Hop } from "../../lib/trace/hops/hop.ts";
import { ruleAdvice, ruleName, rulesHop } from "../../lib/trace/hops/rules.ts";
import type { Drop, Side } from "../../lib/trace/side.ts";
import { traceText } from "../../lib/trace/text.ts";
import type { Outcome } from "../../lib/trace/trace.ts";

const drop = (change: Partial<Drop> = {}): Drop => ({
  ...{
    family: "inet",
    table: "weave-npc",
    chain: "blocked-ingress",
    handle: "5",
    comment: null,
    forth: true,
  },
  ...change,
});
const POLICIES = { ingress: false, egress: false, defaultDeny: false };
const side = (change: Partial<Side> = {}) =>
  ({ drops: [], policies: null, unfiltered: null, ...change }) as unknown as Side;
const evidence = (change: object = {}, probe: object = {}) =>
  ({
    probe: {
      ...{
        source: parseIPv4("10.32.0.5"),
        destination: parseIPv4("10.40.0.6"),
        protocol: "tcp",
        port: 80,
        id: 1,
      },
      ...probe,
    },
    policy: undefined,
    ...change,
  }) as unknown as Evidence;
const hop = (given: Side, of = evidence()) => rulesHop(of, "one", given, ["ingress"]);

describe("rules", () => {
  test.each<[string, Partial<Side>, Partial<Hop>]>([
    ["none", {}, { state: "ok", found: "no policies here; no rule has dropped it" }],
    [
      "that cannot be traced",
      { unfiltered: "no nftables" },
      { state: "unknown", found: "rules cannot be traced: no nftables" },
    ],
    [
      "of no policy for it",
      { policies: POLICIES },
      { state: "ok", found: "no policy isolates the container" },
    ],
    [
      "that isolate it, and allow",
      { policies: { ...POLICIES, ingress: true } },
      { state: "ok", found: "isolated for ingress, and allowed" },
    ],
    [
      "for the other direction",
      { policies: { ...POLICIES, egress: true } },
      { found: "no policy isolates the container" },
    ],
    ["that dropped an answer alone", { drops: [drop({ forth: false })] }, { state: "ok" }],
  ])("%s", (_, change, expected) => expect(hop(side(change))).toMatchObject(expected));

  test("of default deny say so before anything else", () => {
    const given = side({ drops: [drop()], policies: { ...POLICIES, defaultDeny: true } });
    expect(hop(given).found).toBe("default deny: no policies are in force yet (weave launch --expect-npc)");
    const other = side({ drops: [drop({ table: "filter" })], policies: { ...POLICIES, defaultDeny: true } });
    expect(hop(other).found).toStartWith("a rule of the host's firewall drops it: table inet filter");
  });

  test("of policies name the end, and who can say which policies", () => {
    expect(hop(side({ drops: [drop()] }))).toMatchObject({
      ...{ state: "fail", name: "policy" },
      found: "policies deny ingress of 10.40.0.6 (table inet weave-npc, chain blocked-ingress, rule 5)",
      advice:
        "'weave-npc explain --from 10.32.0.5 --to 10.40.0.6 --port 80' names the policies; allow it by one more",
    });
    const egress = side({ drops: [drop({ chain: "blocked-egress" })] });
    expect(hop(egress, evidence({}, { protocol: "udp" }))).toMatchObject({
      found: expect.stringContaining("policies deny egress of 10.32.0.5 ("),
      advice: expect.stringContaining("--port 80 --protocol UDP'"),
    });
    expect(hop(egress, evidence({}, { protocol: "icmp" })).advice).toContain("--to 10.40.0.6' names");
    const known = evidence({ policy: { ingress: "no rule of n/deny", egress: "" } });
    expect(hop(side({ drops: [drop()] }), known)).toMatchObject({
      ...{ found: "policies deny ingress of 10.40.0.6: no rule of n/deny" },
      advice: "allow it by a NetworkPolicy, or change that one",
    });
  });

  test("of weave-npc that know no pod", () => {
    expect(hop(side({ drops: [drop({ chain: "unknown" })] })).found).toStartWith(
      "weave-npc drops it because it does not know the sending pod: ",
    );
  });

  test("are named by table, chain, handle and comment, or as the policy of the chain", () => {
    const mine = drop({ comment: "no pods" });
    expect(ruleName(mine)).toBe('table inet weave-npc, chain blocked-ingress, rule 5 ("no pods")');
    const policy = drop({ handle: null });
    expect(ruleName(policy)).toBe("table inet weave-npc, chain blocked-ingress, policy");
    expect(ruleAdvice(policy)).toEndWith("; accept it before the chain ends");
    expect(ruleAdvice(mine)).toEndWith("; nft delete rule inet weave-npc blocked-ingress handle 5");
  });
});

describe("a trace", () => {
  const outcome = (change: Partial<Outcome> = {}): Outcome => ({
    from: { name: "web", address: "10.32.0.5", host: "one" },
    to: { name: "10.40.0.6", address: "10.40.0.6", host: null },
    ...{ protocol: "tcp", port: 80, reached: true },
    hops: [{ host: "one", name: "link", state: "ok", found: "eth0 is up" }],
    ...change,
  });

  test("names its ends, each hop, and that it was reached", () => {
    expect(traceText(outcome())).toBe(
      "TCP port 80: web 10.32.0.5 (one) -> 10.40.0.6\n 1 ok   one link      eth0 is up\nreached\n",
    );
    expect(traceText(outcome({ protocol: "icmp" }))).toStartWith("ICMP echo: ");
  });

  test("says where it stopped, what to do, and what cannot be known", () => {
    const hops: Hop[] = [
      { host: "one", name: "rules", state: "unknown", found: "not traced" },
      { host: "", name: "tunnel", state: "fail", found: "no way", advice: "connect them" },
    ];
    expect(
      traceText(outcome({ hops, reached: false }))
        .split("\n")
        .slice(1),
    ).toEqual([
      " 1 ?    one rules     not traced",
      " 2 FAIL     tunnel    no way",
      "                      -> connect them",
      "stopped at tunnel",
      "",
    ]);
    const there = outcome({ hops: [{ ...(hops[1] as Hop), host: "two" }], reached: false });
    expect(traceText(there)).toEndWith("stopped at tunnel on two\n");
  });

  test("has lines of 80 columns, and names of hosts of 16 characters", () => {
    const hops: Hop[] = [{ host: "h".repeat(40), name: "link", state: "ok", found: "word ".repeat(40) }];
    const lines = traceText(outcome({ hops })).split("\n");
    expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(80);
    expect(lines[1]).toStartWith(` 1 ok   ${"h".repeat(16)} link      word`);
  });
});
