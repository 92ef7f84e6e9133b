// weave-npc by hand: apply and explain a snapshot.
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { NODE } from "../support/conformance.ts";
import { DIST, exec } from "../support/hosts.ts";
import {
  api,
  DENY,
  folder,
  from,
  inHost,
  namespace,
  net,
  onPolicyNode,
  pod,
  policy,
  sending,
} from "../support/policynode.ts";

onPolicyNode();

describe("by hand", () => {
  const snapshot = () => ({
    kind: "List",
    items: [
      namespace("x"),
      namespace("y"),
      ...["x/a", "x/b", "y/a"].map((name) => pod(name)),
      policy("x", "allow", { podSelector: {}, ingress: [{ ...from("y")[0], ports: [{ port: 80 }] }] }),
    ],
  });
  const run = (...args: string[]) => exec(inHost(join(DIST, "weave-npc"), ...args));

  test("apply puts a snapshot in force, and says what it did", async () => {
    const file = join(folder, "snapshot.json");
    writeFileSync(file, JSON.stringify(snapshot()));
    const { code, stdout } = await run("apply", "--snapshot", file, "--node", NODE);
    expect([code, stdout]).toEqual([0, "3 pod addresses on n1, 2 of them isolated; 1 policy\n"]);
    expect(
      await net.probe(["y/a -> x/a 80", "y/a -> x/a 81", "x/b -> x/a 80", "x/a -> y/a 80"].map(sending)),
    ).toEqual([true, false, false, true]);
  });

  test("what cannot be read of a snapshot is isolated, and said: exit code 1", async () => {
    const file = join(folder, "snapshot.json");
    const broken = policy("x", "allow", {
      podSelector: {},
      ingress: [{ from: [{ ipBlock: { cidr: "no" } }] }],
    });
    const { items } = snapshot();
    writeFileSync(file, JSON.stringify({ kind: "List", items: [...items.slice(0, -1), broken] }));
    const { code, stdout, stderr } = await run("apply", "--snapshot", file, "--node", NODE);
    expect([code, stdout]).toEqual([1, "3 pod addresses on n1, 2 of them isolated; 1 policy\n"]);
    expect(stderr).toContain("NetworkPolicy x/allow cannot be read: spec.ingress.0.from.0.ipBlock.cidr: ");
    expect(await net.probe(["y/a -> x/a 80", "x/a -> y/a 80"].map(sending))).toEqual([false, true]);
    const asked = ["explain", "--snapshot", file, "--from", "y/a", "--to", "x/a", "--port", "80"];
    const explained = await run(...asked);
    expect(explained.code).toBe(3);
    expect(explained.stdout).toContain("; x/allow cannot be read: spec.ingress.0.from.0.ipBlock.cidr: ");
  }, 300_000);

  test.each([
    [
      "allow",
      0,
      "y/a",
      "80",
      /^allow: y\/a -> x\/a TCP 80\n {2}egress: {2}allow, no policy isolates y\/a for egress\n {2}ingress: allow, ingress rule 1 of x\/allow allows it\n$/,
    ],
    [
      "deny",
      3,
      "y/a",
      "81",
      /ingress: deny, isolated for ingress by x\/allow, and no rule of theirs allows it/,
    ],
    ["deny", 3, "172.20.0.5", "80", /egress: {2}allow, the source is not a pod of this cluster/],
    ["allow", 0, "10.32.0.1", "81", /a pod and its node may always talk to each other/],
  ] as const)("explain: %s, exit code %i", async (verdict, expected, end, port, text) => {
    const file = join(folder, "snapshot.json");
    writeFileSync(file, JSON.stringify(snapshot()));
    const args = ["explain", "--snapshot", file, "--from", end, "--to", "x/a", "--port", port];
    const { code, stdout } = await run(...args);
    expect(code).toBe(expected);
    expect(stdout).toMatch(text);
    const json = await run(...args, "--json");
    expect([json.code, JSON.parse(json.stdout)]).toMatchObject([
      expected,
      { verdict, egress: {}, ingress: {} },
    ]);
  });

  test("explain asks the API server, where there is no file", async () => {
    api.apply(DENY);
    const { code, stdout } = await run(
      "explain",
      "--kubeconfig",
      join(folder, "kubeconfig"),
      "--from",
      "y/a",
      "--to",
      "x/a",
      "--port",
      "80",
    );
    expect(code).toBe(3);
    expect(stdout).toContain("isolated for ingress by x/deny");
  });

  test.each([
    [["explain", "--from", "x/a", "--to", "x/nobody", "--port", "80"], 1, "no pod x/nobody"],
    [["explain", "--from", "x/a", "--to", "nobody", "--port", "80"], 1, '"nobody" is neither a pod'],
    [
      ["explain", "--from", "x/a", "--to", "2001:db8::1", "--port", "80"],
      1,
      "no addresses of the same family",
    ],
    [["explain", "--from", "x/a", "--to", "x/b", "--port", "0"], 2, "--port is a number from 1 to 65535"],
    [["explain", "--from", "x/a", "--to", "x/b", "--port", "80", "--protocol", "ICMP"], 2, "TCP, UDP, SCTP"],
    [["explain", "--to", "x/b", "--port", "80"], 2, "--from END and --to END"],
    [["apply", "--node", "n1"], 2, "--snapshot FILE"],
    [["apply", "--snapshot", "/nowhere", "--node", "n1"], 1, "/nowhere: "],
    [["--node-name", "n1", "--kubeconfig", "/nowhere"], 1, "cannot read /nowhere"],
    [["--node-name", "n1", "--log-format", "xml"], 2, "text or json"],
    [["watch"], 2, "unknown command 'watch'"],
  ] as const)("refused: %j", async (args, expected, message) => {
    const file = join(folder, "snapshot.json");
    writeFileSync(file, JSON.stringify(snapshot()));
    const { code, stderr } = await run(...args, ...(args[0] === "explain" ? ["--snapshot", file] : []));
    expect([code, stderr.trim().split("\n").length]).toEqual([expected, 1]);
    expect(stderr).toContain(message);
  });
});
