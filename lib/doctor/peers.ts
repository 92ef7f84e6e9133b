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
/** Addresses in one finding. */
const MAX_LISTED = 3;
/** A router of an earlier version tells no remedy. */
const LOGS = "see 'weave logs' on both hosts";

/** `told`: addresses of peers that problems are reported for already, such as refused ones. */
export function connectionFindings(connections: readonly Connection[], told: ReadonlySet<string>): Finding[] {
  const failed = connections.flatMap((connection) => {
    if (connection.State === "failed" || connection.State === "retrying")
      // Hosts are often launched with one list of peers, which contains each of them.
      return told.has(connection.Address) || connection.Trouble?.Cause === "self"
        ? []
        : [failing(connection)];
    return [];
  });
  return [...failed, ...slow(connections.filter(({ State }) => State === "established"))];
}

function failing({ Address, Info, Trouble }: Connection): Finding {
  const { Reason, Remedy } = Trouble ?? { Reason: Info, Remedy: LOGS };
  return problem(CHECK, `${Address} cannot be reached: ${Reason}`, Remedy);
}

/** Connections by sleeve, those of one cause together: most have the same, such as a kernel without ESP. */
function slow(connections: readonly Connection[]): Finding[] {
  const bySleeve = connections.filter(({ Attrs }) => Attrs?.["name"] === "sleeve");
  const causes = Map.groupBy(bySleeve, (connection) => JSON.stringify(slowness(connection)));
  return [...causes.values()].flatMap((alike) => {
    const [first] = alike;
    if (!first) return [];
    const { reason, advice } = slowness(first);
    const addresses = alike.map(({ Address }) => Address);
    return warning(CHECK, `${reached(addresses)} by sleeve only: ${reason}`, advice);
  });
}

function slowness({ Attrs, Trouble }: Connection): { reason: string; advice: string } {
  if (!Trouble) return { reason: String(Attrs?.["reason"] ?? "cause unknown"), advice: LOGS };
  // The finding on the kernel says all.
  return { reason: Trouble.Reason, advice: Trouble.Cause === "no encryption" ? "see 'ESP'" : Trouble.Remedy };
}

function reached(addresses: readonly string[]): string {
  const more = addresses.length - MAX_LISTED;
  const listed = addresses.slice(0, MAX_LISTED).join(", ");
  return `${listed}${more > 0 ? ` and ${more} more` : ""} ${addresses.length === 1 ? "is" : "are"} reached`;
}
