// weave-npc explain: who may talk to whom, and why.
import { printableLines } from "../../../lib/log/printable.ts";
import { endOf, explain, explanationText } from "../../../lib/npc/explain.ts";
import { MAX_PORT, PROTOCOLS, type Protocol } from "../../../lib/npc/objects.ts";
import { JSON_OPTION } from "../../answer.ts";
import { type Command, UsageError } from "../../arguments.ts";
import { KUBECONFIG } from "../../kubeconfig.ts";
import { printJson, write } from "../../output/output.ts";
import { LEGACY, SNAPSHOT } from "./options.ts";
import { modelOf } from "./snapshot.ts";

const DENIED = 3;

const isProtocol = (text: string): text is Protocol => (PROTOCOLS as readonly string[]).includes(text);

export const explainCommand: Command = {
  name: "explain",
  description: "Tell whether policies allow a connection, and which rule decides",
  exitCodes: { 0: "allowed", 3: "denied" },
  options: {
    from: { type: "string", description: "Source: NAMESPACE/POD or an address", valueHint: "END" },
    to: { type: "string", description: "Destination, likewise", valueHint: "END" },
    port: { type: "string", description: "Destination port", valueHint: "PORT" },
    protocol: {
      type: "string",
      default: "TCP",
      description: "Protocol",
      values: PROTOCOLS,
      valueHint: "NAME",
    },
    ...SNAPSHOT,
    ...KUBECONFIG,
    ...JSON_OPTION,
    ...LEGACY,
  },
  async run({ options }) {
    const { from, to, port } = options;
    if (typeof from !== "string" || typeof to !== "string")
      throw new UsageError("name both ends with --from END and --to END");
    const number = Number(port);
    if (typeof port !== "string" || !/^\d+$/.test(port) || number < 1 || number > MAX_PORT)
      throw new UsageError(`--port is a number from 1 to ${MAX_PORT}`);
    const protocol = String(options["protocol"]).toUpperCase();
    if (!isProtocol(protocol)) throw new UsageError(`--protocol is one of ${PROTOCOLS.join(", ")}`);
    const model = await modelOf(options);
    const ends = [endOf(model, from), endOf(model, to)] as const;
    const explanation = explain(model, ...ends, protocol, number, options["use-legacy-netpol"] === true);
    if (options["json"]) printJson(explanation, 0);
    else write(printableLines(explanationText(...ends, protocol, number, explanation)));
    if (explanation.verdict === "deny") process.exitCode = DENIED;
  },
};
