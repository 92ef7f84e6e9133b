// Domain names as text: fully qualified ones end with a dot (RFC 1035, 3.1).

/** A name that DNS does not allow; the message quotes it. */
export class DomainNameError extends Error {
  override readonly name = "DomainNameError";
}

/** The name with a dot at its end; throws DomainNameError. */
export function fullyQualified(text: string): string {
  const name = text.endsWith(".") ? text : `${text}.`;
  if (!isFullyQualified(name)) {
    throw new DomainNameError(`"${text}" is not a domain name: ${reasonAgainst(text)}`);
  }
  return name;
}

function reasonAgainst(text: string): string {
  const [strange] = /[^\x21-\x7e]/u.exec(text) ?? [];
  if (strange === undefined)
    return "labels of 1 to 63 characters, separated by dots, 253 characters in total";
  // Not domainToASCII: to load node:url takes 4 ms of each start.
  const ascii = /[/?#@:\\]/.test(text) ? undefined : URL.parse(`http://${text}`)?.hostname;
  return `the character "${strange}" is not allowed${ascii ? `; write ${ascii}` : ""}`;
}

/** True for a domain name with a dot at its end. */
export function isFullyQualified(name: string): boolean {
  return name.length <= 254 && /^([\x21-\x2d\x2f-\x7e]{1,63}\.)+$/.test(name);
}

/** True for the domain itself and for names in it, whatever their case; both fully qualified. */
export function isInDomain(name: string, domain: string): boolean {
  const lower = name.toLowerCase();
  const suffix = domain.toLowerCase();
  return lower === suffix || lower.endsWith(`.${suffix}`);
}
