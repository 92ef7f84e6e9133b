// What a container says of itself about the network: WEAVE_CIDR in its environment, as the original's proxy reads it, or the
// label works.weave.cidr.

/** The variable and the label, in the order in which they count. */
export const CIDR_VARIABLE = "WEAVE_CIDR";
const CIDR_LABEL = "works.weave.cidr";

/** Value of a container that is to be left alone. */
const NONE = "none";

export interface ContainerConfig {
  /** "NAME=value". */
  readonly env: readonly string[];
  /** Labels, or annotations of OCI. */
  readonly labels: Readonly<Record<string, string>>;
}

/** Return the addresses that a container declares as text (parseWantedList()); undefined where it declares nothing. */
export function declaredAddresses({ env, labels }: ContainerConfig): string | undefined {
  const assignment = `${CIDR_VARIABLE}=`;
  // As for a process, the last one counts.
  const variable = env.findLast((text) => text.startsWith(assignment))?.slice(assignment.length);
  const text = (variable ?? labels[CIDR_LABEL])?.trim();
  return text === NONE ? undefined : text;
}
