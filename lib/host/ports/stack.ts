// The stack of the port programs, as offsets from the frame pointer.
export const STACK = {
  /** ifindex of the port. */
  key: -8,
  /** Ethernet addresses of the frame, as keys. */
  source: -16,
  destination: -24,
  /** A value of `seen`. */
  value: -40,
  /** A key of `bindings`. */
  binding: -72,
  /** The first bytes of the packet; a few of what comes behind. */
  frame: -112,
  piece: -120,
} as const;
