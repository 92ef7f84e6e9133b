/** There is no such peer to ping; the message says which there are. */
export class PingError extends Error {
  override readonly name = "PingError";
}
