// Errors of plugins, by the CNI specification: https://www.cni.dev/docs/spec/#error

export const CODE = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  io: 5,
  decode: 6,
  invalidConfig: 7,
  /** Used by libcni: CNI_NETNS is the host's namespace. */
  hostNetns: 8,
  tryAgainLater: 11,
  notAvailable: 50,
  /** Codes of the plugin start at 100. */
  failed: 100,
  checkFailed: 101,
} as const;

/** An error with its CNI code. */
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
