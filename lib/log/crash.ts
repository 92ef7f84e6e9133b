// A crash report as text: JSON, bounded, without secrets.
import { redact } from "./redact.ts";

/** How it came to the report. */
export type CrashKind =
  /** Nothing caught an error: the process starts again. */
  | "uncaught error"
  /** A part of the program failed, and the rest went on. */
  | "failed part"
  /** The kernel has ended the program by a signal. */
  | "signal";

export interface CrashFacts {
  /** RFC 3339, UTC. */
  readonly time: string;
  /** The count of reports on this host. */
  readonly number: number;
  readonly program: string;
  readonly version: string;
  readonly kind: CrashKind;
  /** What failed: "a callback". */
  readonly what: string;
  readonly error: CrashError;
  readonly pid: number;
  readonly uptimeSeconds: number;
  /** Kernel, processor and runtime. */
  readonly system: Readonly<Record<string, string>>;
  /** Memory in bytes, open files. */
  readonly resources: Readonly<Record<string, number>>;
  /** What the program knew: for the router, its report. */
  readonly state: unknown;
  /** The last lines of its log. */
  readonly log: readonly string[];
}

export interface CrashError {
  readonly name: string;
  readonly message: string;
  /** The innermost frame first: "at function (file:line:column)". */
  readonly stack: readonly string[];
}

/** Bounds, in characters and lines. */
const MAX_MESSAGE = 4_000;
const MAX_FRAMES = 64;
const MAX_FRAME = 500;
const MAX_STATE = 256 * 1024;

/** Return an error, or whatever was thrown, as data; with the errors that caused it. */
export function crashError(error: unknown): CrashError {
  if (!(error instanceof Error))
    return { name: typeof error, message: String(error).slice(0, MAX_MESSAGE), stack: [] };
  const causes: string[] = [];
  for (let each = error.cause; each instanceof Error && causes.length < 8; each = each.cause)
    causes.push(`caused by ${each.name}: ${each.message}`, ...frames(each));
  return {
    name: error.name,
    message: error.message.slice(0, MAX_MESSAGE),
    stack: [...frames(error), ...causes].slice(0, MAX_FRAMES).map((line) => line.slice(0, MAX_FRAME)),
  };
}

function frames({ stack = "" }: Error): string[] {
  return [...stack.matchAll(/^ +(at .*)$/gm)].map(([, frame]) => frame ?? "");
}

/** Return the text of a report without these secrets, and without whatever looks like one. */
export function crashText(facts: CrashFacts, secrets: readonly string[]): string {
  const { state, log, ...rest } = facts;
  const parts = { ...rest, state: bounded(state), log };
  return redact(`${JSON.stringify(parts, plain, 2)}\n`, secrets);
}

const plain = (_key: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);

/** The state, or the beginning of its text where that is too long. */
function bounded(state: unknown): unknown {
  const text = JSON.stringify(state, plain) ?? "";
  return text.length <= MAX_STATE ? state : { beginning: text.slice(0, MAX_STATE) };
}
