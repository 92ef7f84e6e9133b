// What packages say of themselves.

export interface About {
  /** Of semver; the first of its letters sorts before the release: 3.0.0~rc1. */
  readonly version: string;
  readonly arch: "x64" | "arm64";
  readonly summary: string;
  /** Lines of at most 78 characters. */
  readonly description: readonly string[];
  readonly license: string;
  readonly maintainer: string;
  /** gzip's level, 1 to 9; 0 for none. */
  readonly compression: number;
  /** Time of all files, in s since the epoch: SOURCE_DATE_EPOCH. */
  readonly seconds: string;
}
