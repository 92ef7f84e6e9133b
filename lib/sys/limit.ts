// What others can make grow, and how far: each room tells its own bounds, and the report, the metrics and the status show
// them all.

/** A quantity that peers, strangers, containers or clients can make grow, and its bound. */
export interface Limit {
  /** As `weave help limits` has it: "peers". */
  readonly name: string;
  readonly value: number;
  readonly max: number;
  /** How many were refused, dropped or ignored at the bound since the start, where that is counted. */
  readonly refused?: number;
  /** At the bound the oldest is forgotten: that is no trouble. */
  readonly forgets?: true;
}

/** Return the limit of a map whose oldest entry is forgotten at the bound. */
export const forgetting = (name: string, map: { readonly size: number; readonly max: number }): Limit => ({
  name,
  value: map.size,
  max: map.max,
  forgets: true,
});
