// Errors as the CNI specification has plugins report them: https://www.cni.dev/docs/spec/#error

export const CODE = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  io: 5,
  decode: 6,
  invalidConfig: 7,
  /** Of CNI's own library: CNI_NETNS is the namespace of the host. */
  hostNetns: 8,
  tryAgainLater: 11,
  notAvailable: 50,
  /** From here on codes are the plugin's own. */
  failed: 100,
  checkFailed: 101,
} as const;

/** An error with its CNI code; the message says what, where and what to do. */
export class CniError extends Error {
  override readonly name = "CniError";
  constructor(
    readonly code: number,
    message: string,
    readonly details = "",
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
