// The functions that a format may call: Go's own, and json.
export const FUNCTIONS: readonly string[] = [
  "and",
  "eq",
  "ge",
  "gt",
  "index",
  "json",
  "le",
  "len",
  "lt",
  "ne",
  "not",
  "or",
  "print",
  "printf",
  "println",
  "slice",
];
