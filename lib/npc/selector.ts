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

export function selects({ labels: wanted, requirements }: Selector, labels: Labels): boolean {
  for (const key in wanted) if (labels[key] !== wanted[key]) return false;
  return requirements.every((requirement) => holds(requirement, labels));
}

function holds({ key, operator, values }: Requirement, labels: Labels): boolean {
  const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
  }
}
