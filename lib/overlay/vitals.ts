// Signs of life and traffic of a connection, over all its overlays.
import type { OverlayVitals, Traffic } from "../mesh/overlay.ts";

/** Return the latest signs of life, and the sum of all traffic. */
export function mergeVitals(all: readonly OverlayVitals[]): OverlayVitals {
  return {
    heardMs: least(all.map(({ heardMs }) => heardMs)),
    beatMs: least(all.map(({ beatMs }) => beatMs)),
    framesMs: least(all.map(({ framesMs }) => framesMs)),
    received: sum(all.map(({ received }) => received)),
    sent: sum(all.map(({ sent }) => sent)),
  };
}

const isKnown = <T>(value: T | undefined): value is T => value !== undefined;

function least(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter(isKnown);
  return known.length === 0 ? undefined : Math.min(...known);
}

function sum(values: readonly (Traffic | undefined)[]): Traffic | undefined {
  const known = values.filter(isKnown);
  if (known.length === 0) return undefined;
  const add = (field: keyof Traffic) => known.reduce((total, traffic) => total + traffic[field], 0);
  return { bytes: add("bytes"), perSecond: add("perSecond") };
}
