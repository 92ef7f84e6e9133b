// Crash reports of this host: files in the state folder, for root only; the last 10 are kept.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { type CrashKind, crashError, crashText } from "../log/crash.ts";
import type { Log } from "../log/log.ts";
import { recentLines } from "../log/recent.ts";
import { SignalError } from "../sys/crashsignal.ts";
import { openFiles } from "../sys/openfiles.ts";
import { reasonOf } from "../sys/reason.ts";
import { knownSecrets } from "../sys/secrets.ts";
import { VERSION } from "../version.ts";
import { crashDirectory } from "./paths.ts";
import type { CrashSummary } from "./report.ts";

const KEPT = 10;
/** Reports of one process, so that a fault without end writes no files without end. */
const MAX_REPORTS = 20;
/** Bytes: larger files are none of ours. */
const MAX_FILE = 2 << 20;
const DAY_MS = 86_400_000;

const NAME = /^crash-\d{8}T\d{9}Z-(?:weave-router|weave-npc)\.json$/;

const Read = v.object({
  time: v.pipe(v.string(), v.isoTimestamp()),
  number: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  program: v.string(),
  version: v.string(),
  kind: v.string(),
  what: v.string(),
  error: v.object({ name: v.string(), message: v.string(), stack: v.array(v.string()) }),
});

/** A report, as far as lists show it. */
export interface Crash extends v.InferOutput<typeof Read> {
  readonly file: string;
}

/** Names of the reports, the oldest first. */
export function crashFiles(folder = crashDirectory()): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => NAME.test(name))
      .sort();
  } catch {
    return [];
  }
}

/** Read the reports, the oldest first; what cannot be read is left out. */
export function readCrashes(folder = crashDirectory()): Crash[] {
  return crashFiles(folder).flatMap((name) => {
    const file = join(folder, name);
    try {
      if (statSync(file).size > MAX_FILE) return [];
      const read = v.safeParse(v.pipe(v.string(), v.parseJson(), Read), readFileSync(file, "utf8"));
      return read.success ? [{ ...read.output, file }] : [];
    } catch {
      return [];
    }
  });
}

let cached: { readonly folder: string; readonly mtimeMs: number; readonly crashes: Crash[] } | undefined;

/** The same, read again only when a file has come or gone. */
export function knownCrashes(folder = crashDirectory()): Crash[] {
  const mtimeMs = statSync(folder, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (cached?.folder !== folder || cached.mtimeMs !== mtimeMs)
    cached = { folder, mtimeMs, crashes: mtimeMs === 0 ? [] : readCrashes(folder) };
  return cached.crashes;
}

/** What a report is about. */
export interface CrashEvent {
  readonly kind: CrashKind;
  readonly what: string;
  readonly error: unknown;
  /** The log, where it is not that of this program. */
  readonly log?: readonly string[];
}

/** Writes the reports of one daemon. */
export class CrashReporter {
  #count = 0;
  /** What the program knows, once it knows something. */
  state: () => unknown = () => undefined;

  constructor(
    private readonly program: "weave-router" | "weave-npc",
    private readonly log: Pick<Log, "error" | "warning">,
    private readonly folder = crashDirectory(),
  ) {}

  /** Write a report; returns its path, undefined where that is not possible. Never throws. */
  write({ kind, what, error, log }: CrashEvent): string | undefined {
    if (++this.#count > MAX_REPORTS) return undefined;
    const crash = crashError(error);
    try {
      const now = new Date();
      const before = readCrashes(this.folder);
      const text = crashText(
        {
          time: now.toISOString(),
          number: (before.at(-1)?.number ?? 0) + 1,
          program: this.program,
          version: VERSION,
          kind,
          what,
          error: crash,
          pid: process.pid,
          uptimeSeconds: Math.round(
            error instanceof SignalError ? (now.getTime() - error.started) / 1000 : process.uptime(),
          ),
          system: { kernel: release(), processor: process.arch, runtime: `bun ${Bun.version}` },
          resources: { memory: process.memoryUsage.rss(), openFiles: openFiles() },
          state: this.#state(),
          log: log ?? recentLines(),
        },
        knownSecrets(process.pid),
      );
      const end = `-${this.program}.json`;
      removeUnfinished(this.folder, end);
      return keep(this.folder, `crash-${now.toISOString().replace(/[-:.]/g, "")}${end}`, text);
    } catch (reason) {
      // Where there is no folder for it, the log has at least the place.
      this.log.warning(`cannot write a crash report: ${reasonOf(reason)}`, {
        stack: crash.stack.slice(0, 8).join("; "),
      });
      return undefined;
    }
  }

  #state(): unknown {
    try {
      return this.state();
    } catch (error) {
      return { unknown: reasonOf(error) };
    }
  }
}

const UNFINISHED = ".tmp";

/** Remove what a full disk, or a kill, has left of a program's reports. */
function removeUnfinished(folder: string, end: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder))
    if (name.endsWith(`${end}${UNFINISHED}`)) rmSync(join(folder, name), { force: true });
}

/** Write a file whole, and remove the oldest ones. */
function keep(folder: string, name: string, text: string): string {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const file = join(folder, name);
  writeFileSync(`${file}${UNFINISHED}`, text, { mode: 0o600 });
  renameSync(`${file}${UNFINISHED}`, file);
  for (const old of crashFiles(folder).slice(0, -KEPT)) rmSync(join(folder, old), { force: true });
  return file;
}

/** One line: what crashed, why, and where. */
export function crashLine({ program, version, kind, what, error }: Crash): string {
  const [place] = error.stack;
  const where = place === undefined ? "" : ` (${place.replace(/^at /, "").replace(/^.*\((.*)\)$/, "$1")})`;
  return `${program} ${version}: ${kind} in ${what}: ${error.message.split("\n")[0]?.slice(0, 200)}${where}`;
}

/** Reports of the last 24 h. */
export function recentCrashes(now: number, crashes = knownCrashes()): Crash[] {
  return crashes.filter(({ time }) => Math.abs(now - Date.parse(time)) < DAY_MS);
}

/** All reports, for the router's own report. */
export function crashSummaries(crashes = knownCrashes()): CrashSummary[] {
  return crashes.map((crash) => ({
    Time: crash.time,
    Number: crash.number,
    Program: crash.program,
    Kind: crash.kind,
    Error: crashLine(crash),
    File: crash.file,
  }));
}

/** Lines for the status. */
export function crashNotes(now: number): string[] {
  const recent = recentCrashes(now);
  const last = recent.at(-1);
  return last
    ? [`${recent.length} crash reports within 24 h, the last at ${last.time}: ${crashLine(last)}`]
    : [];
}
