// Quantities as people read them: times and rates of traffic.

const RATES = ["B/s", "kB/s", "MB/s", "GB/s"];

/** Bytes a second in powers of 1,000, as links count: "0 B/s", "1.2 kB/s", "118 MB/s". */
export function rateText(bytesPerS: number): string {
  let [value, unit] = [bytesPerS, 0];
  // What is rounded to 1000 is 1 of the next unit.
  while (value >= 999.5 && unit < RATES.length - 1) {
    value /= 1_000;
    unit++;
  }
  return `${unit > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${RATES[unit]}`;
}

/** A time that has gone by, in the unit it is told in: "3 s", "4 min", "2 h", "5 d". */
export function ageText(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6_000) return `${Math.floor(seconds / 60)} min`;
  return seconds < 48 * 3_600 ? `${Math.floor(seconds / 3_600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

/** A round trip: "0.042 ms", "0.35 ms", "12 ms". */
export function roundTripText(ms: number): string {
  return `${ms < 0.1 ? ms.toFixed(3) : ms < 10 ? ms.toFixed(2) : Math.round(ms)} ms`;
}
