// Refresh of an output in place, until Ctrl-C. Without a terminal, it is printed once, and then new and changed lines,
// as of `kubectl get --watch`. While the router does not answer, that is shown, and retried.
import { hostname } from "node:os";
import { RouterDownError } from "../../lib/api/client.ts";
import type { Style } from "../../lib/help/layout.ts";
import { printableLines } from "../../lib/log/printable.ts";
import { reasonOf } from "../../lib/sys/reason.ts";
import type { MarkedLine } from "../output/fitting.ts";
import { printJson, warn, write } from "../output/output.ts";
import { stdout } from "../output/stdout.ts";
import { Changes } from "./changes.ts";
import { openScreen } from "./screen.ts";

export interface Watched {
  /** The command, as a person typed it. */
  readonly command: string;
  readonly everyMs: number;
  readonly style: Style;
  /** Whether changes are marked; not for measurements. */
  readonly marks?: boolean;
  /** Return the current lines. */
  look(): Promise<readonly string[]>;
}

/** Refresh until a signal ends the process. Reject with errors that waiting cannot cure. */
export function watch(watched: Watched): Promise<void> {
  return stdout.isTTY ? watchInPlace(watched) : watchLines(watched);
}

/** Return the lines, or why there are none from a router that may come back. */
async function lookOnce(watched: Watched): Promise<{ lines: readonly string[] } | { away: string }> {
  try {
    return { lines: (await watched.look()).map(printableLines) };
  } catch (error) {
    if (error instanceof RouterDownError) return { away: reasonOf(error) };
    throw error;
  }
}

async function watchInPlace(watched: Watched): Promise<void> {
  const { command, everyMs } = watched;
  const { mark } = watched.style;
  const changes = new Changes();
  let shown: readonly MarkedLine[] = [];
  const title = () =>
    [
      `Every ${everyMs / 1_000} s: ${command}`,
      `${hostname()}  ${new Date().toTimeString().slice(0, 8)}`,
    ] as const;
  const draw = () => screen.draw(title(), shown, mark ?? String);
  const screen = openScreen(process.stdout, draw);
  const end = endOnSignals(() => screen.close());
  try {
    for (let awaySince: string | undefined; ; ) {
      const seen = await lookOnce(watched);
      if ("lines" in seen) {
        awaySince = undefined;
        const lines = watched.marks === false ? seen.lines.map(plain) : changes.next(seen.lines);
        shown = mark || watched.marks === false ? lines : lines.map(withAsterisk);
      } else {
        awaySince ??= new Date().toTimeString().slice(0, 8);
        shown = [plain(`${seen.away}`), plain(`since ${awaySince}; trying again`)];
      }
      draw();
      await Bun.sleep(everyMs);
    }
  } finally {
    screen.close();
    end();
  }
}

/** Return a line without marks. */
const plain = (text: string): MarkedLine => ({ text, marks: [] });

/** Without colour, an asterisk marks changed lines. */
const withAsterisk = ({ text, marks }: MarkedLine): MarkedLine =>
  plain(`${marks.length > 0 ? "*" : " "} ${text}`);

async function watchLines(watched: Watched): Promise<void> {
  const changes = new Changes();
  let isFirst = true;
  let away = "";
  const end = endOnSignals(() => {});
  try {
    for (;;) {
      const seen = await lookOnce(watched);
      if ("lines" in seen) {
        if (away !== "") warn(`${watched.command}: the router answers again`);
        away = "";
        const lines = changes.next(seen.lines);
        for (const { text, marks } of lines) if (isFirst || marks.length > 0) write(`${text}\n`);
        isFirst = false;
      } else if (seen.away !== away) {
        away = seen.away;
        warn(`${watched.command}: ${away}; waiting for it`);
      }
      await Bun.sleep(watched.everyMs);
    }
  } finally {
    end();
  }
}

/** Print each result as one line of JSON, until a signal ends the process. */
export async function watchJson(
  command: string,
  everyMs: number,
  look: () => Promise<unknown>,
): Promise<void> {
  let away = "";
  const end = endOnSignals(() => {});
  try {
    for (;;) {
      try {
        printJson(await look(), 0);
        away = "";
      } catch (error) {
        if (!(error instanceof RouterDownError)) throw error;
        const why = reasonOf(error);
        if (why !== away) warn(`${command}: ${why}; waiting for it`);
        away = why;
      }
      await Bun.sleep(everyMs);
    }
  } finally {
    end();
  }
}

/** End on signals, with exit code 0 for Ctrl-C, and when the reader has gone (`| head`). Return the undo. */
function endOnSignals(restore: () => void): () => void {
  const finish = (code: number) => () => {
    restore();
    process.exit(code);
  };
  const [interrupted, terminated, hungUp] = [finish(0), finish(143), finish(129)];
  const gone = (error: NodeJS.ErrnoException) => finish(error.code === "EPIPE" ? 0 : 1)();
  process.on("SIGINT", interrupted);
  process.on("SIGTERM", terminated);
  process.on("SIGHUP", hungUp);
  process.stdout.on("error", gone);
  return () => {
    process.off("SIGINT", interrupted);
    process.off("SIGTERM", terminated);
    process.off("SIGHUP", hungUp);
    process.stdout.off("error", gone);
  };
}
