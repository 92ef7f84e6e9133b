// Connections to peers, by a router's report: which of them fail, are silent or slow, and the remedy for each cause.
import * as v from "valibot";
import { connectionRemedy, overlayRemedy } from "../api/remedies.ts";
import { type Finding, problem, warning } from "./finding.ts";

export const ConnectionSchema = v.object({
  Address: v.string(),
  State: v.string(),
  Info: v.string(),
  Attrs: v.nullish(v.record(v.string(), v.union([v.string(), v.number(), v.boolean()]))),
});
type Connection = v.InferOutput<typeof ConnectionSchema>;

const CHECK = "connections";
/** All hosts may be launched with one list of peers, in which each finds itself. */
const SELF = /^cannot connect to ourself\b/;

/** `told`: what is reported as problems already; a refused peer is among them, with its cause. */
export function connectionFindings(connections: readonly Connection[], told: readonly string[]): Finding[] {
  const isTold = ({ Address }: Connection) => told.some((found) => found.includes(` at ${Address} `));
  return connections.flatMap((connection) => {
    if (connection.State === "failed" || connection.State === "retrying")
      return isTold(connection) || SELF.test(connection.Info) ? [] : [failing(connection)];
    return connection.State === "established" ? slow(connection) : [];
  });
}

function failing({ Address, Info }: Connection): Finding {
  const cause = Info.replace(/, retry: .*$/, "");
  return problem(CHECK, `${Address} cannot be reached: ${cause}`, connectionRemedy(cause, Address));
}

function slow({ Address, Info, Attrs }: Connection): Finding[] {
  if (!/\bsleeve\b/.test(Info)) return [];
  const reason = String(Attrs?.["reason"] ?? "that peer offers no fast datapath");
  const found = `${Address} is reached by sleeve only: ${reason}`;
  return [warning(CHECK, found, overlayRemedy(reason))];
}
