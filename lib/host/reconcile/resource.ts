// One kind of kernel state: what is desired, what is observed, and the smallest change between the two.

/**
 * Sources of notifications. "links" are those that the router makes itself: bridge, TAP, VXLAN; "ports" are the links of
 * containers; the other notifications are about these. "underlay" are addresses of this host and paths to its peers. Sources
 * without notifications are compared at intervals: "silent" (the older iptables, what policies depend on) every second,
 * "settings" (most sysctls) every 5 s, and "maps" (eBPF maps, programs attached by tcx) every 30 s.
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
  | "underlay"
  | "silent"
  | "settings"
  | "maps";

/** Something in the kernel that is not as desired, and all that is needed to repair it. */
export interface Change {
  /**
   * The kernel object in the words of ip, tc and nft: "link vxlan-6784", "table ip weave". Repairs and fights are counted by it;
   * who changes the link or table that it names is suspected.
   */
  readonly object: string;
  /** What is wrong with it: "missing", "down", "MTU 1500 instead of 1376". */
  readonly wrong: string;
}

/** One kind of kernel state. What it throws is retried with back-off and shown in status. */
export interface Resource<Desired, Observed, Wanted extends Change> {
  /** In logs, status and metrics, plural: "links", "addresses". */
  readonly name: string;
  /** Sources of its changes. In addition, all resources are compared every 30 s to 5 min. */
  readonly sources: readonly Source[];
  /**
   * Return, as text, what changes without a notification: cheap to read, every second. All is compared only where it differs
   * from the last time.
   */
  glance?(): string;
  /** Pure: from options, exposures and attachments. */
  desired(): Desired;
  observe(desired: Desired): Observed;
  /** Pure: what has to change, in order; empty where all is as desired. */
  difference(desired: Desired, observed: Observed): Wanted[];
  apply(changes: readonly Wanted[]): void;
  /** Called after each comparison with what cannot be repaired, or has to wait; undefined where all is as desired. */
  trouble?(reason: string | undefined): void;
  /** Close the files that it keeps open, when it is compared no more. */
  close?(): void;
}

/** A resource without its types. */
export interface Keeper {
  readonly name: string;
  readonly sources: readonly Source[];
  /** See Resource. */
  glance?(): string;
  /** Apply the changes that `accepts` lets through; return these. */
  reconcile(accepts: (change: Change) => boolean): Change[];
  trouble?(reason: string | undefined): void;
  /** See Resource. */
  close?(): void;
}

export function keeper<Desired, Observed, Wanted extends Change>(
  resource: Resource<Desired, Observed, Wanted>,
): Keeper {
  return {
    name: resource.name,
    sources: resource.sources,
    ...(resource.glance && { glance: () => resource.glance?.() ?? "" }),
    reconcile(accepts) {
      const desired = resource.desired();
      const changes = resource.difference(desired, resource.observe(desired)).filter(accepts);
      if (changes.length > 0) resource.apply(changes);
      return changes;
    },
    trouble: (reason) => resource.trouble?.(reason),
    close: () => resource.close?.(),
  };
}
