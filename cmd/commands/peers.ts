// weave connect, forget, prime, rmpeer.
import * as v from "valibot";
import { apiClient } from "../../lib/api/client.ts";
import { Peers, Primed } from "../../lib/api/shapes.ts";
import { peerFault } from "../../lib/mesh/dial/named.ts";
import { answer, JSON_OPTION, remark } from "../answer.ts";
import { type Arguments, type Command, UsageError } from "../arguments.ts";
import { WAIT_OPTION, waitSeconds } from "../granting.ts";
import { awaitQuorum } from "../launching.ts";
import { write } from "../output/output.ts";
import { progressClient, withProgress } from "../waiting.ts";

/** Return the form of peers for the API. */
export function peersForm(peers: readonly string[]): URLSearchParams {
  const form = new URLSearchParams();
  for (const peer of peers) form.append("peer", peer);
  return form;
}

export const connect: Command = {
  name: "connect",
  group: "Network",
  description: "Connect to more peers",
  examples: [
    { command: "weave connect host3", does: "Connect to host3, and keep dialling it" },
    { command: "weave connect --replace host4", does: "Connect to host4 in place of all others" },
  ],
  positionals: "PEER…",
  positionalsComplete: "peers",
  details: [
    "PEER is HOST or HOST:PORT. It is remembered, and dialled until it answers. A router that is started again with the peers of its last launch keeps the peers of connect and forget; after 'weave stop', it takes those of the launch.",
  ],
  options: {
    replace: { type: "boolean", default: false, description: "Forget all other peers first" },
    ...JSON_OPTION,
  },
  async run(args) {
    const { options, positionals } = args;
    if (positionals.length === 0 && !options["replace"]) throw new UsageError("name at least one peer");
    const fault = positionals.map(peerFault).find((text) => text !== undefined);
    if (fault !== undefined) throw new UsageError(fault);
    const form = peersForm(positionals);
    if (options["replace"]) form.set("replace", "true");
    const told = await withProgress(
      args,
      apiClient()("POST", "/connect", { form }),
      `waiting for nameservers to resolve ${positionals.join(", ")}`,
    );
    const warnings = told.split("\n").filter(Boolean);
    answerWithWarnings(args, "connect", warnings, "; trying again");
  },
};

const Forgotten = v.object({ unknown: v.array(v.string()) });

/** Print the named peers, and warnings about them. */
function answerWithWarnings(args: Arguments, command: string, warnings: readonly string[], what = ""): void {
  const { positionals } = args;
  for (const each of warnings) remark(args, `weave ${command}: ${each}${what}`);
  answer(
    args,
    Peers,
    { peers: [...positionals], ...(warnings.length > 0 && { warnings: [...warnings] }) },
    "",
  );
}

export const forget: Command = {
  name: "forget",
  group: "Network",
  description: "Stop dialling peers; existing connections stay",
  examples: [{ command: "weave forget host3", does: "Stop dialling host3" }],
  positionals: "PEER…",
  positionalsComplete: "targets",
  options: JSON_OPTION,
  async run(args) {
    const { positionals } = args;
    if (positionals.length === 0) throw new UsageError("name at least one peer");
    const form = peersForm(positionals);
    const sent = await progressClient(args)("POST", "/forget", { form, accept: "application/json" });
    const warnings = v
      .parse(Forgotten, JSON.parse(sent))
      .unknown.map((peer) => `"${peer}" is not a target; 'weave status targets' lists all`);
    answerWithWarnings(args, "forget", warnings);
  },
};

export const prime: Command = {
  name: "prime",
  group: "Addresses",
  description: "Wait until peers have divided the address range",
  examples: [
    {
      command: "weave launch host2 && weave prime && weave attach web",
      does: "Attach a container once addresses can be allocated",
    },
  ],
  options: { ...WAIT_OPTION, ...JSON_OPTION },
  async run(args) {
    await awaitQuorum(args, waitSeconds(args));
    answer(args, Primed, { ready: true }, "");
  },
};

export const rmpeer: Command = {
  name: "rmpeer",
  group: "Addresses",
  description: "Take over the addresses of peers gone for good",
  examples: [{ command: "weave rmpeer host3", does: "Take over the addresses of host3, which is gone" }],
  positionals: "PEER…",
  positionalsComplete: "peers",
  details: ["PEER is a name or nickname. Run it on one host, while all hosts that stay are connected."],
  options: {
    force: {
      type: "boolean",
      default: false,
      description: "Also from a connected peer; addresses still in use there are then assigned twice",
    },
    ...JSON_OPTION,
  },
  async run(args) {
    const { options, positionals } = args;
    if (positionals.length === 0) throw new UsageError("name at least one peer");
    const query = options["force"] ? "?force=true" : "";
    for (const peer of positionals) {
      const told = await progressClient(args)("DELETE", `/peer/${encodeURIComponent(peer)}${query}`);
      if (!options["json"]) write(told);
    }
    answer(args, Peers, { peers: [...positionals] }, "");
  },
};
