// weave ping: whether frames of containers get through to other hosts, how fast and how large.
import * as v from "valibot";
import { apiClient } from "../../lib/api/client.ts";
import { Pings } from "../../lib/api/shapes.ts";
import { hasPingProblem, pingText } from "../../lib/doctor/pingtext.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import { type Command, UsageError } from "../arguments.ts";
import { withProgress } from "../waiting.ts";
import { peersForm } from "./peers.ts";

const MAX_COUNT = 999;

export const ping: Command = {
  name: "ping",
  group: "Troubleshooting",
  description: "Send probes to peers by the overlays: loss, time, MTU",
  positionals: "[PEER…]",
  positionalsComplete: "peers",
  details: [
    "PEER is a name, a nickname or an address of a peer; all peers without one. Probes go from bridge to bridge, the way of containers' frames: by the eBPF programs, VXLAN, ESP or sleeve. They need no address on the bridge, and pass no packet filter of IP. An overlay in brackets is ready, and not in use.",
    "MTU is the size of the largest packet that got there and back, up to the MTU of the network. Sleeve fragments larger ones.",
    "Weave Net 2.x and older versions do not answer probes; that is not a problem.",
    "Exit code 1: a peer or an overlay has a problem, or no peer is connected.",
  ],
  examples: [
    { command: "weave ping", does: "Ping all peers" },
    { command: "weave ping host2 -n 100", does: "Send 100 probes by each overlay to a peer" },
  ],
  options: {
    count: {
      type: "string",
      alias: "n",
      default: "10",
      description: "Probes by each overlay to each peer, 1 to 999",
      valueHint: "COUNT",
    },
    ...JSON_OPTION,
  },
  async run(args) {
    const count = String(args.options["count"]);
    if (!/^\d{1,3}$/.test(count) || Number(count) < 1)
      throw new UsageError(`--count "${count}" is not a number from 1 to ${MAX_COUNT}`);
    const form = peersForm(args.positionals);
    form.set("count", count);
    const sent = await withProgress(args, apiClient()("POST", "/ping", { form }), "waiting for echoes");
    const pings = v.parse(Pings, JSON.parse(sent));
    answer(args, Pings, pings, pingText(pings).trimEnd());
    if (pings.length === 0 || hasPingProblem(pings)) process.exitCode = 1;
  },
};
