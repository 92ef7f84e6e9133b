// Network policy in the kernel: every case of test/conformance with real packets between namespaces on a bridge.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { atOnce } from "../../lib/clock/slices.ts";
import { enableBridgeNetfilter } from "../../lib/host/bridgenetfilter.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { Compiler } from "../../lib/npc/compiler.ts";
import { NO_RULES } from "../../lib/npc/ruleset.ts";
import { admitConnections, type InForce, write } from "../../lib/npc/writer.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { type Case, conformanceCases, modelOf, NODE, type Probe } from "../support/conformance.ts";
import { must } from "../support/hosts.ts";
import { PolicyNet } from "../support/policynet.ts";

const SETTINGS = { allowMulticast: true, denyUnknown: false };

let net: PolicyNet;
let nf: NetlinkSocket;
let inForce: InForce | undefined;

beforeAll(async () => {
  net = await PolicyNet.create("pol");
  nf = inNetns(net.host, () => new NetlinkSocket(NETLINK_NETFILTER));
  expect(inNetns(net.host, enableBridgeNetfilter)).toBeUndefined();
  write(nf, undefined, NO_RULES, SETTINGS);
  inForce = { rules: NO_RULES, generation: atOnce(admitConnections(nf)) };
}, 300_000);

afterAll(() => {
  nf?.close();
  net?.dispose();
});

const text = ({ from, to, port, protocol }: Probe, allowed: boolean) =>
  `${allowed ? "allow" : "deny"} ${from} -> ${to} ${port}/${protocol}`;

describe.each(conformanceCases().map((each) => [each.file, each.name, each] as const))(
  "%s: %s",
  (_file, _name, each: Case) => {
    test("with packets", async () => {
      const next = new Compiler(modelOf(each), { node: NODE, legacy: each.legacy }).all();
      // From the rules of the case before, by what is different.
      inForce = write(nf, inForce, next, SETTINGS);
      const outcomes = await net.probe(each.probes);
      expect(each.probes.map((probe, i) => text(probe, outcomes[i] ?? false))).toEqual(
        each.probes.map((probe) => text(probe, probe.allowed)),
      );
      for (const probe of each.replies) {
        const port = net.nextPort();
        net.send(probe, port);
        expect(await net.outcomes([probe], [port])).toEqual([true]);
        const { from, to, source, destination, protocol } = probe;
        const reply = { from: to, to: from, source: destination, destination: source, protocol, port };
        net.send(reply, probe.port);
        expect(await net.outcomes([reply], [probe.port])).toEqual([true]);
      }
    });
  },
);

test("nft(8) shows rules with names of ports, blocks and pods", async () => {
  // nft aborts on an assertion if it cannot tell how a register was filled.
  for (const each of conformanceCases().filter(({ file }) => file === "ports.yaml")) {
    inForce = write(nf, inForce, new Compiler(modelOf(each), { node: NODE }).all(), SETTINGS);
    const shown = await must(["ip", "netns", "exec", `${net.prefix}-host`, "nft", "list", "ruleset"]);
    expect(shown).toContain("chain judge");
  }
});
