/** A request that is answered with an error; the message is the answer. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  /** Whether the log says it, too. */
  readonly logged: boolean;

  /** A request that is wrong (400) is logged unless `logged` says otherwise, one for what is not there is not. */
  constructor(
    readonly status: number,
    message: string,
    { cause, logged = status === 400 }: { readonly cause?: unknown; readonly logged?: boolean } = {},
  ) {
    super(message, { cause });
    this.logged = logged;
  }
}
