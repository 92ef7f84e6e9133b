// Signs of life and traffic of a connection, over all its overlays.
import type { OverlayVitals, Traffic } from "../mesh/overlay.ts";

/** Return the latest signs of life, and the sum of all traffic, from those of each overlay by its name. */
export function mergeVitals(named: ReadonlyMap<string, OverlayVitals>): OverlayVitals {
  const all = [...named.values()];
  return {
    heardMs: least(all.map(({ heardMs }) => heardMs)),
    beatMs: least(all.map(({ beatMs }) => beatMs)),
    framesMs: least(all.map(({ framesMs }) => framesMs)),
    received: sum(all.map(({ received }) => received)),
    sent: sum(all.map(({ sent }) => sent)),
    byOverlay: [...named].flatMap(([overlay, { received, sent }]) =>
      received && sent ? [{ overlay, received: received.bytes, sent: sent.bytes }] : [],
    ),
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
