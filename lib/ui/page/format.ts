// Values as the page shows them, in the words of the command line.
import { rateText, roundTripText } from "../../api/quantities.ts";

export const NOTHING = "–";

export const rate = (bytesPerS: number | undefined) =>
  bytesPerS === undefined ? NOTHING : rateText(bytesPerS);
export const roundTrip = (ms: number | undefined) => (ms === undefined ? NOTHING : roundTripText(ms));
export const count = (value: number | undefined) =>
  value === undefined ? NOTHING : value.toLocaleString("en-US");

/** "14:03:07" of this day, else "11-25 14:03", by the viewer's clock. */
export function time(at: number, now = Date.now()): string {
  const date = new Date(at);
  const two = (value: number) => String(value).padStart(2, "0");
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}`;
  if (now - at < 12 * 3_600_000) return `${clock}:${two(date.getSeconds())}`;
  return `${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock}`;
}

export const plural = (number: number, one: string, many = `${one}s`) =>
  `${count(number)} ${number === 1 ? one : many}`;
