// weave-npc apply: policies of a file, put in force once.

import { atOnce } from "../../../lib/clock/slices.ts";
import { enableBridgeNetfilter } from "../../../lib/host/bridgenetfilter.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../../lib/netlink/socket.ts";
import { Compiler } from "../../../lib/npc/compiler.ts";
import { incompletePods, TOO_LARGE } from "../../../lib/npc/ruleset.ts";
import { problemText } from "../../../lib/npc/unreadable.ts";
import { admitConnections, lacksBridge, withoutBridge, write } from "../../../lib/npc/writer.ts";
import { reasonOf } from "../../../lib/sys/reason.ts";
import { type Command, UsageError } from "../../arguments.ts";
import { requireRoot } from "../../main.ts";
import { print, warn } from "../../output/output.ts";
import { LEGACY, MULTICAST, SNAPSHOT } from "./options.ts";
import { modelOfFile } from "./snapshot.ts";

export const apply: Command = {
  name: "apply",
  description: "Enforce the policies of a snapshot for the pods of a node, once",
  options: {
    ...SNAPSHOT,
    node: { type: "string", description: "Name of the node that this host is", valueHint: "NAME" },
    ...MULTICAST,
    ...LEGACY,
  },
  run({ options }) {
    const { snapshot, node } = options;
    if (typeof snapshot !== "string") throw new UsageError("name the policies with --snapshot FILE");
    if (typeof node !== "string") throw new UsageError("name this node with --node NAME");
    const model = modelOfFile(snapshot);
    requireRoot();
    const rules = new Compiler(model, { node, legacy: options["use-legacy-netpol"] === true }).all();
    using nf = new NetlinkSocket(NETLINK_NETFILTER);
    const warning = enableBridgeNetfilter();
    // No events will announce pods that the file does not contain.
    const settings = { allowMulticast: options["allow-mcast"] !== false, denyUnknown: false };
    try {
      write(nf, undefined, rules, settings);
    } catch (error) {
      if (!lacksBridge(error)) throw error;
      write(nf, undefined, rules, { ...settings, bridge: false });
      warn(`weave-npc apply: ${withoutBridge(error)}`);
    }
    try {
      atOnce(admitConnections(nf));
    } catch (error) {
      warn(
        `weave-npc apply: cannot clear the marks of earlier policies, so each packet is evaluated, which is slower: ${reasonOf(error)}`,
      );
    }
    if (warning) warn(`weave-npc apply: ${warning}`);
    const isolated = new Set([...rules.isolated.ingress.keys(), ...rules.isolated.egress.keys()]);
    // All policies are in force, but some are not readable.
    for (const object of model.unreadable()) {
      warn(`weave-npc apply: ${problemText(object)}`);
      process.exitCode = 1;
    }
    for (const { pod, direction } of incompletePods(rules)) {
      warn(
        `weave-npc apply: ${TOO_LARGE} for the ${direction} of ${pod}: some allowed traffic is denied; use fewer port ranges or fewer peers`,
      );
      process.exitCode = 1;
    }
    const { policyCount: count } = model;
    print(
      `${rules.local.size} pod addresses on ${node}, ${isolated.size} of them isolated; ${count} ${count === 1 ? "policy" : "policies"}`,
    );
  },
};
