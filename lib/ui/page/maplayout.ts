// Where peers are drawn: this host in the middle, the others on rings around it, in the order of their names. The same peers
// are always at the same places: nothing moves unless one comes or goes. Pure.

export interface Place {
  readonly x: number;
  readonly y: number;
}

/** Room that a peer on a ring takes along it, in px. */
const SPACING = 74;
const LEAST_SPACING = 26;
/** Room for labels at the edge. */
const MARGIN = { x: 62, y: 40 };

/** Place keys, in order, on a stage of this size in px; `own` is put in the middle. */
export function placePeers(
  keys: readonly string[],
  own: string,
  width: number,
  height: number,
): Map<string, Place> {
  const [cx, cy] = [width / 2, height / 2];
  const [rx, ry] = [Math.max(40, cx - MARGIN.x), Math.max(40, cy - MARGIN.y)];
  const places = new Map<string, Place>([[own, { x: cx, y: cy }]]);
  const others = keys.filter((key) => key !== own);
  let from = 0;
  for (const { scale, count } of rings(others.length, rx, ry)) {
    for (let i = 0; i < count; i++) {
      const key = others[from + i];
      if (key === undefined) break;
      const angle = angleOf(i, count, from > 0);
      places.set(key, { x: cx + rx * scale * Math.cos(angle), y: cy + ry * scale * Math.sin(angle) });
    }
    from += count;
  }
  return places;
}

/** Angle of a place on a ring, clockwise from the right, in radians. */
function angleOf(i: number, count: number, inner: boolean): number {
  // Two are not put in line with this host, so that the connection between them is seen.
  if (count === 2 && !inner) return i === 0 ? Math.PI - 0.55 : 0.55;
  // The first at the top, or half a step on, so that rings do not hide each other.
  return ((i + (inner ? 0.5 : 0)) / count) * 2 * Math.PI - Math.PI / 2;
}

/** Rings from the outside in, as few as there can be: each a share of the whole size, and how many are on it. */
function rings(count: number, rx: number, ry: number): { scale: number; count: number }[] {
  // Ramanujan's first approximation.
  const around = Math.PI * (3 * (rx + ry) - Math.sqrt((3 * rx + ry) * (rx + 3 * ry)));
  for (let number = 1; ; number++) {
    const scales = Array.from({ length: number }, (_, i) => 1 - (i * 0.75) / number);
    const spacing = number < 6 ? SPACING : LEAST_SPACING;
    const room = scales.map((scale) => Math.max(1, Math.floor((around * scale) / spacing)));
    const total = room.reduce((sum, each) => sum + each, 0);
    if (total < count && number < 12) continue;
    // Evenly full.
    let left = count;
    return scales.map((scale, i) => {
      const share = i === number - 1 ? left : Math.min(left, Math.ceil((count * (room[i] ?? 0)) / total));
      left -= share;
      return { scale, count: share };
    });
  }
}
