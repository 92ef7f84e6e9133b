// Marks: what stands in place of a value while the manifest is probed.

/** Marks stand between two characters that no text has: private use in Unicode. */
export const OPEN = "\uE000";
export const CLOSE = "\uE001";
/** Ends the mark of a number: it stands without quotes. */
export const NUMBER = "number";

/** Return the mark of a value, or of a part of it. */
export const mark = (...path: readonly string[]) => `${OPEN}${path.join(".")}${CLOSE}`;
