// Names of containers in weaveDNS.

/** What a container is called on a network. */
export interface NamedContainer {
  readonly name: string;
  /** Its host name with its domain; undefined without a domain. */
  readonly fqdn?: string | undefined;
}

/**
 * Return the names of a container on a network, fully qualified: its own and its aliases in the domain, and each with the
 * network as well, which tells apart two projects that call a service alike. None without a domain, which ends with a dot.
 */
export function namesOf(
  { name, fqdn }: NamedContainer,
  network: string,
  aliases: readonly string[],
  domain: string | undefined,
): string[] {
  if (domain === undefined) return [];
  const within = (text: string) => `${text}.`.toLowerCase().endsWith(`.${domain}`.toLowerCase());
  const labels = [name, ...aliases].filter((text) => text !== "");
  const whole = [...labels.filter(within), ...(fqdn !== undefined && within(fqdn) ? [fqdn] : [])];
  const bare = labels.filter((text) => !within(text));
  return [
    ...new Set([
      ...whole.map((text) => `${text}.`),
      ...bare.flatMap((text) => [`${text}.${domain}`, `${text}.${network}.${domain}`]),
    ]),
  ];
}
