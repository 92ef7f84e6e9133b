// Rights that a caller lacks.

/** Somebody who is not root asks for what only root may do; or root, in a container, lacks the right. */
export class NotRootError extends Error {
  override readonly name = "NotRootError";
  readonly failure = "not-root" as const;
  /** `what` could not be done for lack of rights; without it, nothing was tried. */
  constructor(what?: string, options?: ErrorOptions) {
    const isRoot = process.getuid?.() === 0;
    const remedy = isRoot
      ? "root has no right to it here; see the container's capabilities, and AppArmor or SELinux"
      : "run it as root, with sudo";
    super(
      what === undefined ? "must be run as root; use sudo" : `${what}: permission denied; ${remedy}`,
      options,
    );
  }
}
