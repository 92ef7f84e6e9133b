// One kind of kernel state that this host keeps: what it should be, what it is, and the smallest change between the two.

/**
 * What the kernel notifies of. "links" are those that the router makes itself: bridge, TAP, VXLAN; "ports" are the links of
 * containers. "silent" is what changes without a word (most sysctls, the older iptables).
 */
export type Source =
  | "links"
  | "ports"
  | "addresses"
  | "routes"
  | "netconf"
  | "trafficcontrol"
  | "nftables"
  | "xfrm"
  | "silent";

/** Something in the kernel that is not as desired, and all that is needed to put it right. */
export interface Change {
  /**
   * The kernel object in the words of ip, tc and nft: "link vxlan-6784", "table ip weave". Repairs and fights are counted by
   * it; whoever changes the link or table that it names as a word is suspected.
   */
  readonly object: string;
  /** What is wrong with it: "missing", "down", "MTU 1500 instead of 1376". */
  readonly wrong: string;
}

/** One kind of kernel state. What it throws is retried with back-off and shown in status. */
export interface Resource<Desired, Observed, Wanted extends Change> {
  /** In logs, status and metrics, plural: "links", "addresses". */
  readonly name: string;
  /** What tells of changes; all resources are looked at every 30 s beside that. */
  readonly sources: readonly Source[];
  /** Pure: from options, exposures and attachments. */
  desired(): Desired;
  observe(desired: Desired): Observed;
  /** Pure: what has to change, in order; empty where all is as desired. */
  difference(desired: Desired, observed: Observed): Wanted[];
  apply(changes: readonly Wanted[]): void;
  /** Told after each look what cannot be put right, or has to wait; undefined where all is as desired. */
  trouble?(reason: string | undefined): void;
}

/** A resource with its types closed in. */
export interface Keeper {
  readonly name: string;
  readonly sources: readonly Source[];
  /** Applies the changes that `accepts` lets through; returns these. */
  reconcile(accepts: (change: Change) => boolean): Change[];
  trouble?(reason: string | undefined): void;
}

export function keeper<Desired, Observed, Wanted extends Change>(
  resource: Resource<Desired, Observed, Wanted>,
): Keeper {
  return {
    name: resource.name,
    sources: resource.sources,
    reconcile(accepts) {
      const desired = resource.desired();
      const changes = resource.difference(desired, resource.observe(desired)).filter(accepts);
      if (changes.length > 0) resource.apply(changes);
      return changes;
    },
    trouble: (reason) => resource.trouble?.(reason),
  };
}
