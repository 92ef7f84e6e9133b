// A screen that is drawn again and again: the terminal's alternate one, as of watch(1) and top(1), so that what was there
// before comes back. Drawn by log-update, which writes what has changed.
import ansiEscapes from "ansi-escapes";
import { createLogUpdate } from "log-update";

const DEFAULT_COLUMNS = 80;
const DEFAULT_ROWS = 24;
/** Least columns between the two ends of the title. */
const GAP = 2;

export interface Screen {
  /** Draws lines, cut to what fits; both ends of the title, and then the rest. */
  draw(title: readonly [left: string, right: string], lines: readonly ScreenLine[]): void;
  /** Gives the terminal back as it was; may be called again. */
  close(): void;
}

/** Text without escapes, and how a part of it that fits is shown. */
export interface ScreenLine {
  readonly text: string;
  show(fitting: string): string;
}

/** A line as it stands. */
export const plain = (text: string): ScreenLine => ({ text, show: (fitting) => fitting });

/** Takes the terminal over; calls `resized` after its size has changed, with nothing on it. */
export function openScreen(stream: NodeJS.WriteStream, resized: () => void): Screen {
  const render = createLogUpdate(stream, { showCursor: true });
  let open = false;
  const enter = () => {
    open = true;
    stream.write(ansiEscapes.enterAlternativeScreen + ansiEscapes.cursorHide + ansiEscapes.clearViewport);
  };
  const leave = () => {
    if (!open) return;
    open = false;
    render.done();
    stream.write(ansiEscapes.cursorShow + ansiEscapes.exitAlternativeScreen);
  };
  const onResize = () => {
    render.done();
    stream.write(ansiEscapes.clearViewport);
    resized();
  };
  // Ctrl-Z: the shell gets its terminal, and fg takes it back.
  const onStop = () => {
    leave();
    process.kill(process.pid, "SIGSTOP");
  };
  const onContinue = () => {
    if (open) return;
    enter();
    resized();
  };
  stream.on("resize", onResize);
  process.on("SIGTSTP", onStop);
  process.on("SIGCONT", onContinue);
  enter();
  return {
    draw([left, right], lines) {
      const [columns, rows] = [stream.columns || DEFAULT_COLUMNS, stream.rows || DEFAULT_ROWS];
      const head = cut(
        left + " ".repeat(Math.max(GAP, columns - width(left) - width(right))) + right,
        columns,
      );
      // The cursor takes the last row.
      const room = rows - 3;
      const hidden = lines.length > room ? lines.length - room + 1 : 0;
      const shown = lines.slice(0, lines.length - hidden).map((line) => line.show(cut(line.text, columns)));
      const more = hidden > 0 ? [cut(`… ${hidden} more lines`, columns)] : [];
      render([head, "", ...shown, ...more].join("\n"));
    },
    close() {
      stream.off("resize", onResize);
      process.off("SIGTSTP", onStop);
      process.off("SIGCONT", onContinue);
      leave();
    },
  };
}

const width = (text: string) => Bun.stringWidth(text);

/** Cuts text without escapes to so many columns. */
function cut(text: string, columns: number): string {
  if (width(text) <= columns) return text;
  let fitting = "";
  for (const character of text) {
    if (width(fitting + character) >= columns) break;
    fitting += character;
  }
  return `${fitting}…`;
}
