// Agents of a Mesos cluster with numbered names: c1agent0, c1agent1, … Each dials its two neighbours; gossip finds the rest.

/** A host name without the prefix and a number. */
export class AgentNameError extends Error {
  override readonly name = "AgentNameError";
  readonly failure = "usage" as const;
}

/**
 * Return the host names of the neighbours of an agent ("c1agent3" or "c1agent3.example.com") by the common prefix
 * ("c1agent"). Throws AgentNameError.
 */
export function neighbours(hostname: string, prefix: string): string[] {
  const [own = "", domain = ""] = hostname.toLowerCase().split(/(\..*)/s);
  const number = own.startsWith(prefix.toLowerCase()) ? own.slice(prefix.length) : "";
  if (prefix === "" || !/^\d{1,9}$/.test(number)) {
    throw new AgentNameError(
      `the host name "${hostname}" is not HOST_PREFIX "${prefix}" and a number, such as ${prefix || "agent"}3`,
    );
  }
  // Keep leading zeros: 001, 002, …
  const called = (n: number) =>
    `${own.slice(0, prefix.length)}${String(n).padStart(number.length, "0")}${domain}`;
  return [Number(number) - 1, Number(number) + 1].filter((n) => n >= 0).map(called);
}
