// A change to a host as it is listed before it is made, and told afterwards.

export interface Step {
  /** Verb first: "remove /etc/cni/net.d/10-weave.conflist". */
  readonly does: string;
  /** The same once it is done: "removed …". */
  readonly did: string;
  /** Do it; throw the reason where it cannot be done. Undefined where something is left as it is, on purpose. */
  readonly run?: () => void | Promise<void>;
}

/** Return a step that removes something. */
export const removing = (what: string, run: () => void): Step => ({
  does: `remove ${what}`,
  did: `removed ${what}`,
  run,
});

/** Return a step that leaves something, and says why. */
export const keeping = (what: string): Step => ({ does: `keep ${what}`, did: `kept ${what}` });
