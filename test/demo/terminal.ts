// What a terminal showed, as an animated picture: SVG that a browser plays by itself, and shows whole where it does not
// play (CSS animations off, or reduced motion).

/** A line as it stood, with SGR colours (ECMA-48), and when it appeared, in ms from the start. */
export interface Shown {
  readonly atMs: number;
  readonly text: string;
}

const ESCAPE = "\x1b";
const SEQUENCE = new RegExp(`(${ESCAPE}\\[[\\d;]*[A-Za-z])`);
const SGR = new RegExp(`^${ESCAPE}\\[([\\d;]*)m$`);

const COLUMNS = 80;
const CHARACTER = 8.4;
const LINE = 19;
const MARGIN = 16;

const COLOURS: Readonly<Record<number, string>> = {
  1: "b",
  2: "d",
  31: "r",
  32: "g",
  33: "y",
  34: "l",
  36: "c",
};

const escaped = (text: string) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** A line's SGR sequences as spans; all others are left out. */
function spans(text: string): string {
  let classes: string[] = [];
  let out = "";
  for (const part of text.split(SEQUENCE)) {
    const sgr = SGR.exec(part);
    if (sgr) {
      for (const code of (sgr[1] || "0").split(";").map(Number)) {
        const name = COLOURS[code];
        if (code === 0 || code === 22 || code === 39) classes = [];
        else if (name) classes = [...classes, name];
      }
    } else if (part && !part.startsWith(ESCAPE)) {
      out +=
        classes.length > 0 ? `<tspan class="${classes.join(" ")}">${escaped(part)}</tspan>` : escaped(part);
    }
  }
  return out;
}

/** A picture of a terminal of 80 columns; longer lines are folded, as a terminal does. */
export function svg(lines: readonly Shown[], title: string): string {
  const rows = lines.flatMap(({ atMs, text }) => fold(text).map((row) => ({ atMs, row })));
  const width = Math.ceil(COLUMNS * CHARACTER + 2 * MARGIN);
  const height = rows.length * LINE + 2 * MARGIN;
  const body = rows.map(
    ({ atMs, row }, i) =>
      `<text xml:space="preserve" y="${MARGIN + 14 + i * LINE}" style="animation-delay:${Math.round(atMs)}ms">${spans(row)}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>${escaped(title)}</title>
<style>
rect{fill:#14181f}
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d7dce4;white-space:pre}
.b{font-weight:700}.d{fill:#8b93a1}.r{fill:#ff7b72}.g{fill:#7ee787}.y{fill:#e3b341}.l{fill:#79c0ff}.c{fill:#76e3ea}
@media (prefers-reduced-motion:no-preference){text{opacity:0;animation:show 1ms linear forwards}}
@keyframes show{to{opacity:1}}
</style>
<rect width="${width}" height="${height}" rx="8"/>
<g transform="translate(${MARGIN} 0)">
${body.join("\n")}
</g>
</svg>
`;
}

/** Rows of at most 80 visible characters. */
function fold(text: string): string[] {
  const rows: string[] = [];
  let row = "";
  let visible = 0;
  for (const part of text.split(SEQUENCE)) {
    if (part.startsWith(ESCAPE)) {
      row += part;
      continue;
    }
    for (const character of part) {
      if (visible === COLUMNS) {
        rows.push(row);
        row = "";
        visible = 0;
      }
      row += character;
      visible++;
    }
  }
  return [...rows, row];
}
