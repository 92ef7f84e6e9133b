// The commands that the manual shows: blocks of indented lines, as Markdown has them.

/** A command, and the number of the host that its prompt names ("host2# …"); 1 where there is no prompt. */
export interface Command {
  readonly host: number;
  readonly text: string;
  /** Line of the page, from 1. */
  readonly line: number;
}

const PROMPT = /^host(\d)# /;

/** Groups of lines indented by four, after an empty line; each with the number of its first line. */
function blocks(page: string): { line: number; lines: string[] }[] {
  const found: { line: number; lines: string[] }[] = [];
  let before = "";
  let open: { line: number; lines: string[] } | undefined;
  for (const [i, line] of page.split("\n").entries()) {
    const code = /^ {4,}\S/.test(line);
    if (code && before === "") {
      open = { line: i + 1, lines: [] };
      found.push(open);
    }
    if (code) open?.lines.push(line.slice(4));
    else open = undefined;
    before = line;
  }
  return found;
}

/** The commands of a page, in order. In a group with prompts, lines without one are what a command prints. */
export function commands(page: string): Command[] {
  return blocks(page).flatMap(({ line, lines }) => {
    const prompts = lines.some((text) => PROMPT.test(text));
    const found: Command[] = [];
    let open = "";
    let from = 0;
    for (const [i, text] of lines.entries()) {
      if (open === "") from = line + i;
      open += text;
      if (text.endsWith("\\")) {
        open = `${open.slice(0, -1).trimEnd()} `;
        continue;
      }
      const command = open.replace(/\s+/g, " ").trim();
      open = "";
      const prompt = PROMPT.exec(command);
      if (command === "" || (prompts && !prompt)) continue;
      const said = prompt ? command.slice(prompt[0].length) : command;
      found.push({ host: Number(prompt?.[1] ?? 1), text: said.replace(/ # .*$/, ""), line: from });
    }
    return found;
  });
}
