// Connections to peers, by a router's report: which of them fail, are silent or slow, and the remedy for each cause.
import * as v from "valibot";
import { type Finding, problem, warning } from "./finding.ts";

export const ConnectionSchema = v.object({
  Address: v.string(),
  State: v.string(),
  Info: v.string(),
  Attrs: v.nullish(v.record(v.string(), v.union([v.string(), v.number(), v.boolean()]))),
  Trouble: v.optional(v.object({ Cause: v.string(), Reason: v.string(), Remedy: v.string() })),
});
type Connection = v.InferOutput<typeof ConnectionSchema>;

const CHECK = "connections";
/** A router of an earlier version tells no remedy. */
const LOGS = "'weave logs', here and there, says more";

/** `told`: addresses of peers that problems are reported for already, such as refused ones. */
export function connectionFindings(connections: readonly Connection[], told: ReadonlySet<string>): Finding[] {
  return connections.flatMap((connection) => {
    if (connection.State === "failed" || connection.State === "retrying")
      // Hosts are often launched with one list of peers, which contains each of them.
      return told.has(connection.Address) || connection.Trouble?.Cause === "self"
        ? []
        : [failing(connection)];
    return connection.State === "established" ? slow(connection) : [];
  });
}

function failing({ Address, Info, Trouble }: Connection): Finding {
  const { Reason, Remedy } = Trouble ?? { Reason: Info, Remedy: LOGS };
  return problem(CHECK, `${Address} cannot be reached: ${Reason}`, Remedy);
}

function slow({ Address, Attrs, Trouble }: Connection): Finding[] {
  if (Attrs?.["name"] !== "sleeve") return [];
  const { Reason, Remedy } = Trouble ?? { Reason: String(Attrs["reason"] ?? "cause unknown"), Remedy: LOGS };
  return [warning(CHECK, `${Address} is reached by sleeve only: ${Reason}`, Remedy)];
}
