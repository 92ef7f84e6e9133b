// A change to a host: announced, made, reported.

export interface Step {
  /** Verb first: "remove /etc/cni/net.d/10-weave.conflist". */
  readonly does: string;
  /** The same once it is done: "removed …". */
  readonly did: string;
  /** Make the change; throws the reason if it fails. Undefined if something is kept on purpose. */
  readonly run?: () => void | Promise<void>;
}

/** Return a step that removes something. */
export const removing = (what: string, run: () => void): Step => ({
  does: `remove ${what}`,
  did: `removed ${what}`,
  run,
});

/** Return a step that keeps something, and says why. */
export const keeping = (what: string): Step => ({ does: `keep ${what}`, did: `kept ${what}` });
