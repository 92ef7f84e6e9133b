// A trouble as a value: made where its cause is known, and passed unchanged to what shows it.

/** `Cause` is a union of codes: programs branch on it, never on the texts. */
export interface Trouble<Cause extends string = string> {
  readonly cause: Cause;
  /** Why, as a clause: lower case, no full stop. */
  readonly reason: string;
  /** What to do about it; empty if the reason says all. */
  readonly remedy: string;
}

/** Return a trouble as one clause: "reason; remedy". */
export const troubleText = ({ reason, remedy }: Trouble) => (remedy === "" ? reason : `${reason}; ${remedy}`);

/** A trouble in a report. */
export interface TroubleReport {
  Cause: string;
  Reason: string;
  Remedy: string;
}

export const troubleReport = ({ cause, reason, remedy }: Trouble): TroubleReport => ({
  Cause: cause,
  Reason: reason,
  Remedy: remedy,
});

/** A problem of a host, as status and doctor show it. */
export interface ProblemReport {
  /** What was looked at, in a word. */
  Check: string;
  Found: string;
  Advice: string;
  /** Where it is about a peer at one: "ip:port". */
  Address?: string;
}

/** Return a problem from an error's text, "cause; remedy"; with `advice` where it has no remedy. */
export function problemOf(check: string, text: string, advice: string): ProblemReport {
  const at = text.lastIndexOf("; ");
  if (at < 0) return { Check: check, Found: text, Advice: advice };
  return { Check: check, Found: text.slice(0, at), Advice: text.slice(at + 2) };
}
