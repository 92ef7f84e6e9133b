// Policies of a chaos run: a few that can be put in force and taken back, and what they deny. Pure.

/** What a container is, as its label says. */
export const ROLES = ["open", "closed", "guarded", "quiet"] as const;
export type Role = (typeof ROLES)[number];

/** Policies by name; each selects the containers of one role. */
export const POLICIES = ["close", "guard", "hush"] as const;
export type PolicyName = (typeof POLICIES)[number];

/** Namespace of all containers. */
export const NAMESPACE = "chaos";

const select = (role: Role) => ({ matchLabels: { role } });

const SPECS: Readonly<Record<PolicyName, object>> = {
  close: { podSelector: select("closed"), policyTypes: ["Ingress"] },
  guard: {
    podSelector: select("guarded"),
    policyTypes: ["Ingress"],
    ingress: [{ from: [{ podSelector: select("open") }] }],
  },
  hush: { podSelector: select("quiet"), policyTypes: ["Egress"] },
};

/** The object of the API server. */
export function policyObject(name: PolicyName) {
  return { kind: "NetworkPolicy", metadata: { namespace: NAMESPACE, name }, spec: SPECS[name] };
}

/** Where a policy is enforced: at the sender for egress, at the receiver for ingress. */
export const enforcedAt = (policy: PolicyName): "sender" | "receiver" =>
  policy === "hush" ? "sender" : "receiver";

/** Return whether one of the policies denies what goes from one role to another. */
export function denied(policies: readonly PolicyName[], from: Role, to: Role): boolean {
  return policies.some((policy) => {
    switch (policy) {
      case "close":
        return to === "closed";
      case "guard":
        return to === "guarded" && from !== "open";
      default:
        return from === "quiet";
    }
  });
}
