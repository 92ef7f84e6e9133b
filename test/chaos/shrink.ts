// The shortest history that still fails, by delta debugging (Zeller and Hildebrandt 2002): halves first, then ever smaller
// parts are left out. Pure; `fails` tries one.

/** Return a part of `steps`, in order, that fails and of which no single step can be left out; or the shortest at the end of `within`. */
export async function shrink<T>(
  steps: readonly T[],
  fails: (steps: readonly T[]) => Promise<boolean>,
  within: () => boolean = () => true,
): Promise<readonly T[]> {
  let shortest = steps;
  let size = Math.ceil(steps.length / 2);
  while (size >= 1) {
    let shorter = false;
    // From the end: what comes after a fault is seldom needed.
    for (let end = shortest.length; end > 0 && within(); end -= size) {
      const start = Math.max(0, end - size);
      const rest = [...shortest.slice(0, start), ...shortest.slice(end)];
      if (!(await fails(rest))) continue;
      shortest = rest;
      shorter = true;
    }
    if (!within()) break;
    if (size > 1) size = Math.ceil(size / 2);
    else if (!shorter) break;
  }
  return shortest;
}
