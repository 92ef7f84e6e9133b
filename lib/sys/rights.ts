// Missing privileges.

/** The caller is not root, or is root in a container without the capability. */
export class NotRootError extends Error {
  override readonly name = "NotRootError";
  readonly failure = "not-root" as const;
  /** `what` was refused by the kernel; without it, nothing was tried. */
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
