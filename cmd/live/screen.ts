// A screen that is redrawn: the terminal's alternate one, as of watch(1) and top(1), so that its contents
// come back afterwards. log-update writes only the changes.
import ansiEscapes from "ansi-escapes";
import { createLogUpdate } from "log-update";
import { columnsOf, cut, DEFAULT_COLUMNS, type MarkedLine, shown, wrapped } from "../output/fitting.ts";

const DEFAULT_ROWS = 24;
/** Least columns between the two ends of the title. */
const GAP = 2;

export interface Screen {
  /** Draw both ends of the title, and lines, as many as there is room for; `mark` shows what has changed in them. */
  draw(
    title: readonly [left: string, right: string],
    lines: readonly MarkedLine[],
    mark: (text: string) => string,
  ): void;
  /** Restore the terminal; may be called again. */
  close(): void;
}

/** Take over the terminal; call `resized` after its size has changed, to redraw it. */
export function openScreen(stream: NodeJS.WriteStream, resized: () => void): Screen {
  // A serial console says that it has no columns and no rows; log-update would cut all away.
  if (!stream.columns) stream.columns = DEFAULT_COLUMNS;
  if (!stream.rows) stream.rows = DEFAULT_ROWS;
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
  // Ctrl-Z gives the terminal back to the shell; fg takes it over again.
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
    draw([left, right], lines, mark) {
      const [columns, rows] = [columnsOf(stream), stream.rows || DEFAULT_ROWS];
      const gap = Math.max(GAP, columns - Bun.stringWidth(left) - Bun.stringWidth(right));
      const head = cut(left + " ".repeat(gap) + right, columns);
      // The cursor takes the last row.
      const room = rows - 3;
      const all = lines.flatMap((line) => wrapped(line, columns));
      const hidden = all.length > room ? all.length - room + 1 : 0;
      const drawn = all.slice(0, all.length - hidden).map((row) => shown(row, mark));
      const more = hidden > 0 ? [cut(`… ${hidden} more lines`, columns)] : [];
      render([head, "", ...drawn, ...more].join("\n"));
    },
    close() {
      stream.off("resize", onResize);
      process.off("SIGTSTP", onStop);
      process.off("SIGCONT", onContinue);
      leave();
    },
  };
}
