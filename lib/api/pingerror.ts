/** A peer to ping is unknown or ambiguous. */
export class PingError extends Error {
  override readonly name = "PingError";
}
