// What the program of flowpeer.ts and those who run it agree on.

export const FLOW_PORT = 7_000;
export const EVERY_MS = 8;
/** The label of targets that are sent to by TCP. */
export const TCP_LABEL = "tcp";
/** Label of targets to which each datagram comes from a new port. */
export const NEW_LABEL = "new";

export type Target = readonly [label: string, address: string, port: number];

/** What a program has seen; times are of CLOCK_MONOTONIC, in ms. */
export interface Seen {
  readonly at: number;
  /** By "sender label": how much has come, and when the latest of it was sent. */
  readonly seen: Readonly<Record<string, readonly [count: number, latest: number]>>;
}
