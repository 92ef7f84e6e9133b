/**
 * The report, or a part of it, as JSON, indented by so many spaces; 0 for one line. Uids are 64-bit numbers, which
 * JSON.stringify cannot write by itself.
 */
export function reportJson(report: unknown, indent = 4): string {
  return JSON.stringify(
    report,
    (_, value) => (typeof value === "bigint" ? JSON.rawJSON(String(value)) : value),
    indent,
  );
}
