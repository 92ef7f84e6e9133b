// weave trace: follow a packet from one container to another.
import { apiClient } from "../../lib/api/client.ts";
import { type Shape, Trace } from "../../lib/api/shapes.ts";
import { systemClock } from "../../lib/clock/clock.ts";
import { systemRandom } from "../../lib/clock/random.ts";
import type { ProbeProtocol } from "../../lib/trace/probe.ts";
import { traceText } from "../../lib/trace/text.ts";
import { type Outcome, trace as walk } from "../../lib/trace/trace.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import { type Command, UsageError } from "../arguments.ts";
import { KUBECONFIG } from "../kubeconfig.ts";
import { requireRoot } from "../main.ts";
import { withProgress } from "../waiting.ts";
import { SNAPSHOT } from "./npc/options.ts";
import { podAddress, policyOpinion } from "./pods.ts";
import { runtimeSockets } from "./target.ts";

const MAX_PORT = 65_535;

/** Read "80", "80/tcp" or "53/udp"; ICMP where there is no port. Throw UsageError. */
function probeOf(port: unknown): { protocol: ProbeProtocol; port: number } {
  if (port === undefined) return { protocol: "icmp", port: 0 };
  const [, number, protocol = "tcp"] = /^(\d{1,5})(?:\/(tcp|udp))?$/i.exec(String(port)) ?? [];
  if (number === undefined || Number(number) < 1 || Number(number) > MAX_PORT)
    throw new UsageError(`--port "${port}" is not PORT/PROTOCOL, such as 80/tcp or 53/udp`);
  return { protocol: protocol.toLowerCase() === "udp" ? "udp" : "tcp", port: Number(number) };
}

export const trace: Command = {
  name: "trace",
  group: "Troubleshooting",
  description: "Follow a packet between containers, to where it stops",
  positionals: "FROM TO",
  positionalsComplete: "containers",
  details: [
    "FROM is a container of this host: its name, ID, address or NAMESPACE/POD. TO may be on any host, and a name of weaveDNS, too.",
    "Sends probes from FROM over its own routes and watches them at both ends: in the containers, at the bridge ports, in the packet filters and at the tunnel. Prints one line per hop; the last one says why the packet stops, and what to do.",
    "Asks the other host over the mesh. A host of Weave Net 2.x cannot be asked; the probe is sent nevertheless.",
  ],
  exitCodes: { 0: "TO was reached", 1: "the packet stops on the way, or the trace failed" },
  options: {
    port: {
      type: "string",
      description: "Send a TCP SYN or a UDP datagram to this port",
      defaultText: "ICMP echo",
      valueHint: "N[/PROTOCOL]",
    },
    ...JSON_OPTION,
    ...SNAPSHOT,
    ...KUBECONFIG,
  },
  examples: [
    { command: "weave trace web db", does: "Follow a ping from container web to db" },
    { command: "weave trace web 10.40.0.3 --port 5432/tcp", does: "Follow the first packet of a connection" },
    { command: "weave trace default/web kube-system/dns --port 53/udp", does: "Name the ends as pods" },
  ],
  async run(args) {
    const [from, to, extra] = args.positionals;
    if (from === undefined || to === undefined) throw new UsageError("name both ends: weave trace FROM TO");
    if (extra !== undefined) throw new UsageError(`"${extra}" is superfluous: trace takes two ends`);
    const probe = probeOf(args.options["port"]);
    for (const end of [from, to])
      if (end === "" || end.length > 256) throw new UsageError("an end has 1 to 256 characters");
    requireRoot();
    let waits: string | undefined;
    const walking = walk(
      { from, to, ...probe },
      {
        api: apiClient(),
        runtimes: runtimeSockets(),
        clock: systemClock,
        random: systemRandom,
        probing: (ms) => {
          waits = `watching the probe at both ends, for up to ${ms / 1000} s`;
        },
        pod: (name) => podAddress(args.options, name),
        policy: (sent) => policyOpinion(args.options, sent),
      },
    );
    const outcome = await withProgress(args, walking, async () => waits);
    answer(args, Trace, shapeOf(outcome), traceText(outcome).trimEnd());
    if (!outcome.reached) process.exitCode = 1;
  },
};

function shapeOf(outcome: Outcome): Shape<typeof Trace> {
  const hops = outcome.hops.map(({ host, name, state, found, advice }) => {
    return { host, name, state, found, advice: advice ?? null };
  });
  return { ...outcome, hops };
}
