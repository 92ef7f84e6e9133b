// weave-npc apply in this process: what it puts in force, in what order it gives way to a kernel that lacks something, and what
// it says of what it could not do.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apply } from "../../cmd/commands/npc/apply.ts";
import * as bridgenetfilter from "../../lib/host/bridgenetfilter.ts";
import { NetlinkError } from "../../lib/netlink/message.ts";
import * as writer from "../../lib/npc/writer.ts";
import { EINVAL, ENOENT, EPERM } from "../../lib/sys/errno.ts";
import { runCommand } from "../support/fakerouter.ts";
import { isRoot } from "../support/newnetns.ts";

const pod = (name: string, podIP: string, nodeName = "n1") => ({
  kind: "Pod",
  metadata: { namespace: "x", name },
  spec: { nodeName },
  status: { phase: "Running", podIP, podIPs: [{ ip: podIP }] },
});
const policy = (name: string, ingress: unknown = []) => ({
  kind: "NetworkPolicy",
  metadata: { namespace: "x", name },
  spec: { podSelector: {}, policyTypes: ["Ingress"], ingress },
});
const namespace = { kind: "Namespace", metadata: { name: "x" } };
const PODS = [pod("a", "10.32.0.1"), pod("b", "10.32.0.2"), pod("c", "10.32.0.3", "n2")];

let folder: string;
let written: unknown[][];
let refusals: Error[];
let admitted: number;
let spies: { mockRestore(): void }[];
let warning: string | undefined;
let admission: Error | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-apply-"));
  [written, refusals, admitted, warning, admission] = [[], [], 0, undefined, undefined];
  spies = [
    spyOn(process, "getuid").mockImplementation(() => 0),
    spyOn(bridgenetfilter, "enableBridgeNetfilter").mockImplementation(() => warning),
    spyOn(writer, "write").mockImplementation((_nf, before, rules, settings) => {
      written.push([before, rules.local.size, settings]);
      const refusal = refusals.shift();
      if (refusal) throw refusal;
      return { rules, generation: 0 };
    }),
    spyOn(writer, "admitConnections").mockImplementation(function* () {
      admitted++;
      if (admission) throw admission;
      yield;
      return 1;
    } as never),
  ];
});
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
  rmSync(folder, { recursive: true });
  process.exitCode = 0;
});

async function run(items: readonly unknown[], ...argv: string[]) {
  const file = join(folder, "snapshot.json");
  writeFileSync(file, JSON.stringify({ kind: "List", items }));
  const result = await runCommand(apply, ["--snapshot", file, "--node", "n1", ...argv]);
  return { ...result, exitCode: process.exitCode };
}
const DEFAULT = { allowMulticast: true, denyUnknown: false };

describe.if(isRoot)("apply", () => {
  test("puts the policies of the node in force whole, says how many, and lets judged connections through", async () => {
    const { out, err, error, exitCode } = await run([namespace, ...PODS, policy("deny"), policy("more")]);
    expect([out, err, error]).toEqual([
      "2 pod addresses on n1, 2 of them isolated; 2 policies\n",
      "",
      undefined,
    ]);
    expect([written, admitted, exitCode || 0]).toEqual([[[undefined, 2, DEFAULT]], 1, 0]);
    expect((await run([namespace, ...PODS, policy("deny")])).out).toEndWith("; 1 policy\n");
    expect((await run([namespace, ...PODS])).out).toBe(
      "2 pod addresses on n1, 0 of them isolated; 0 policies\n",
    );
  });

  test("forbids multicast only where it is told to", async () => {
    await run([namespace], "--no-allow-mcast");
    expect(written).toEqual([[undefined, 0, { ...DEFAULT, allowMulticast: false }]]);
  });

  test("reads policies as those of old, which isolate annotated namespaces alone, where it is told to", async () => {
    const isolation = { "net.beta.kubernetes.io/network-policy": '{"ingress":{"isolation":"DefaultDeny"}}' };
    const annotated = { ...namespace, metadata: { name: "x", annotations: isolation } };
    const isolated = async (x: object) =>
      (await run([x, ...PODS, policy("deny")], "--use-legacy-netpol")).out.split(", ")[1];
    expect([await isolated(namespace), await isolated(annotated)]).toEqual([
      "0 of them isolated; 1 policy\n",
      "2 of them isolated; 1 policy\n",
    ]);
  });

  test("does without tables of bridges where the kernel has none, and says what that means", async () => {
    refusals = [new NetlinkError("nftables bridge table create", ENOENT)];
    const { out, err, error } = await run([namespace, ...PODS]);
    expect([error, out.split(" ")[0]]).toEqual([undefined, "2"]);
    expect(written.map(([, , settings]) => settings)).toEqual([DEFAULT, { ...DEFAULT, bridge: false }]);
    expect(err).toStartWith("weave-npc apply: pods can send tagged frames past policies");
    expect([err.trim().split("\n").length, admitted]).toEqual([1, 1]);
  });

  test.each<[string, Error[]]>([
    ["for another reason", [new NetlinkError("nftables inet table create", EINVAL)]],
    ["for want of a right", [new NetlinkError("nftables bridge table create", EPERM)]],
    [
      "also without tables of bridges",
      [new NetlinkError("nftables bridge table create", EINVAL), new NetlinkError("nftables inet", EPERM)],
    ],
  ])("fails where the kernel refuses %s, and lets nothing through", async (_, refused) => {
    refusals = [...refused];
    const { out, error } = await run([namespace, ...PODS]);
    expect([out, error]).toEqual(["", refused.at(-1) as Error]);
    expect([written.length, admitted]).toEqual([refused.length, 0]);
  });

  test("says what makes it slow, or leaves frames between pods alone; policies are in force", async () => {
    admission = new Error("no room");
    warning = "policies are not enforced between pods: no module";
    const { out, err, error, exitCode } = await run([namespace, ...PODS]);
    expect([error, exitCode || 0, out.split(" ")[0]]).toEqual([undefined, 0, "2"]);
    expect(err.trim().split("\n")).toEqual([
      "weave-npc apply: cannot clear the marks of earlier policies, so each packet is evaluated, which is slower: no room",
      "weave-npc apply: policies are not enforced between pods: no module",
    ]);
  });

  test("says of each policy what cannot be read, and ends with 1", async () => {
    const broken = [{ from: [{ ipBlock: { cidr: "none" } }] }];
    const { out, err, error, exitCode } = await run([
      namespace,
      ...PODS,
      policy("one", broken),
      policy("two", broken),
    ]);
    expect([error, exitCode]).toEqual([undefined, 1]);
    expect(out).toBe("2 pod addresses on n1, 2 of them isolated; 2 policies\n");
    const lines = err.trim().split("\n");
    expect([lines.length, lines[0]]).toEqual([
      2,
      expect.stringContaining("NetworkPolicy x/one cannot be read: "),
    ]);
  });

  test("needs a file and a node, and reads the file before anything changes", async () => {
    expect((await runCommand(apply, ["--node", "n1"])).error?.message).toContain("--snapshot FILE");
    expect((await runCommand(apply, ["--snapshot", "x"])).error?.message).toContain("--node NAME");
    const none = join(folder, "none.json");
    expect((await runCommand(apply, ["--snapshot", none, "--node", "n1"])).error?.message).toStartWith(
      `${none}: `,
    );
    expect(written).toEqual([]);
  });
});
