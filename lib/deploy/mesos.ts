// Agents of a Mesos cluster, whose names are numbered: c1agent0, c1agent1, … Each is connected to the two beside it, and
// gossip does the rest.

/** A host name that the numbering does not fit. */
export class AgentNameError extends Error {
  override readonly name = "AgentNameError";
  readonly failure = "usage" as const;
}

/**
 * The host names of the agents beside this one, by its own ("c1agent3" or "c1agent3.example.com") and the part that all
 * have in common ("c1agent"). Throws AgentNameError.
 */
export function neighbours(hostname: string, prefix: string): string[] {
  const [own = "", domain = ""] = hostname.toLowerCase().split(/(\..*)/s);
  const number = own.startsWith(prefix.toLowerCase()) ? own.slice(prefix.length) : "";
  if (prefix === "" || !/^\d{1,9}$/.test(number)) {
    throw new AgentNameError(
      `the host name "${hostname}" is not HOST_PREFIX "${prefix}" and a number, such as ${prefix || "agent"}3`,
    );
  }
  // Some number them 001, 002, …
  const called = (n: number) =>
    `${own.slice(0, prefix.length)}${String(n).padStart(number.length, "0")}${domain}`;
  return [Number(number) - 1, Number(number) + 1].filter((n) => n >= 0).map(called);
}
