// How a connection does at a moment.
import type { OverlayTraffic, OverlayVitals, Traffic } from "./overlay.ts";

export const HEARTBEAT_MS = 30_000;
/** A heartbeat later than this is missed: both ends look at their clocks once a second. */
const LATE_MS = 2_500;

export interface Vitals {
  /** When frames first got through, in ms of the clock; undefined before. */
  readonly since: number | undefined;
  /** ms since the peer's router was last heard, by any path. */
  readonly heardMs: number;
  /** A heartbeat is missing. */
  readonly silent: boolean;
  /** ms since a frame of the peer's containers, which its kernel may send without its router; undefined for never. */
  readonly framesMs: number | undefined;
  /** Lowest round trip of the control connection in the last 5 min; undefined where the network does not tell. */
  readonly roundTripMs: number | undefined;
  /** Frames received and sent. */
  readonly received: Traffic | undefined;
  readonly sent: Traffic | undefined;
  readonly byOverlay: readonly OverlayTraffic[];
}

/** Return vitals from the control connection, last heard `controlMs` ago, and those of its overlay. */
export function vitalsOf(
  controlMs: number,
  overlay: OverlayVitals | undefined,
  { since, roundTripMs }: Pick<Vitals, "since" | "roundTripMs">,
): Vitals {
  return {
    since,
    heardMs: heardMs(controlMs, overlay),
    silent: isSilent(controlMs, overlay),
    framesMs: overlay?.framesMs,
    roundTripMs,
    received: overlay?.received,
    sent: overlay?.sent,
    byOverlay: overlay?.byOverlay ?? [],
  };
}

/** Return whether a heartbeat is missing. */
export const isSilent = (controlMs: number, overlay: OverlayVitals | undefined): boolean =>
  heardMs(controlMs, overlay) > (overlay?.beatMs ?? HEARTBEAT_MS) + LATE_MS;

const heardMs = (controlMs: number, overlay: OverlayVitals | undefined): number =>
  Math.max(0, Math.round(Math.min(controlMs, overlay?.heardMs ?? Number.POSITIVE_INFINITY)));
