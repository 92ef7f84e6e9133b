// A small graph in text, of blocks of eight heights. Pure.
import type { Point } from "./trend.ts";

const BLOCKS = "▁▂▃▄▅▆▇█";

/** Return a line of `width` characters from the least to the most of what is there; the mean of each column. */
export function graph(points: readonly Point[], width = 60): string {
  const [start, end] = [points[0]?.[0] ?? 0, points.at(-1)?.[0] ?? 0];
  const columns = Array.from({ length: width }, (): number[] => []);
  for (const [t, value] of points) {
    const column = end > start ? Math.round(((t - start) / (end - start)) * (width - 1)) : 0;
    columns[column]?.push(value);
  }
  const means = columns.map((all) =>
    all.length === 0 ? undefined : all.reduce((a, b) => a + b) / all.length,
  );
  const known = means.filter((mean) => mean !== undefined);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  return means
    .map((mean) => {
      if (mean === undefined) return " ";
      const height = high > low ? Math.round(((mean - low) / (high - low)) * (BLOCKS.length - 1)) : 0;
      return BLOCKS[height];
    })
    .join("");
}
