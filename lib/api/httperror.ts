/** A request answered with an error; the message is the body. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  /** Whether to log it. */
  readonly logged: boolean;

  /** By default, only bad requests (400) are logged. */
  constructor(
    readonly status: number,
    message: string,
    { cause, logged = status === 400 }: { readonly cause?: unknown; readonly logged?: boolean } = {},
  ) {
    super(message, { cause });
    this.logged = logged;
  }
}
