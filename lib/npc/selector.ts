// Label selectors (k8s.io/apimachinery, LabelSelector): all of what they ask for has to hold; an empty one takes everything.

export type Labels = Readonly<Record<string, string>>;

interface Requirement {
  readonly key: string;
  readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
  readonly values: readonly string[];
}

export interface Selector {
  readonly labels: Labels;
  readonly requirements: readonly Requirement[];
}

export const EVERYTHING: Selector = { labels: {}, requirements: [] };

/** Labels of which some are known: an expression about another one's absence, such as NotIn, does not hold. */
export function selectsKnown(selector: Selector, known: Labels): boolean {
  return selects(selector, known, false);
}

export function selects(
  { labels: wanted, requirements }: Selector,
  labels: Labels,
  complete = true,
): boolean {
  for (const key in wanted) if (labels[key] !== wanted[key]) return false;
  return requirements.every((requirement) => holds(requirement, labels, complete));
}

function holds({ key, operator, values }: Requirement, labels: Labels, complete: boolean): boolean {
  const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined && complete;
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined ? complete : !values.includes(value);
  }
}
