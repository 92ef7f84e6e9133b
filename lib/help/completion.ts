// Completion: what may stand for the last word of a command line, and the scripts by which shells ask for it. The scripts
// hand words over and take lines back without evaluating either: peers choose their nicknames.
import { type CommandSpec, type Completes, flagText, type OptionSpec, type OptionTable } from "./spec.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** What an argument may be, by what completes it. */
export type Candidates = (kind: Completes) => readonly string[];

export interface Completion {
  readonly value: string;
  /** Empty where there is nothing to say. */
  readonly description: string;
}

/** What no shell gives a meaning to: it is put into a command line as it is. */
const HARMLESS = /^[\w.:@%+,/=-]+$/;

/** Completions of the last of these words, which may be empty. */
export function completions(
  commands: readonly CommandSpec[],
  words: readonly string[],
  candidates: Candidates,
): Completion[] {
  const last = words.at(-1) ?? "";
  return possible(commands, words.slice(0, -1), last, candidates).filter(
    ({ value }) => value.startsWith(last) && HARMLESS.test(value),
  );
}

function possible(
  commands: readonly CommandSpec[],
  before: readonly string[],
  last: string,
  candidates: Candidates,
): Completion[] {
  const command = commandOf(commands, before);
  if (!command) return nextWords(commands, before);
  const { options = {}, positionalsComplete = [] } = command;
  const spec = optionNamed(options, before.at(-1) ?? "");
  if (spec?.type === "string" && spec.optional === undefined) return valuesOf(spec, candidates).map(plain);
  const [, assigned] = /^(--[\w-]+=)/.exec(last) ?? [];
  if (assigned !== undefined) {
    const named = optionNamed(options, assigned.slice(0, -1));
    return named ? valuesOf(named, candidates).map((value) => plain(assigned + value)) : [];
  }
  if (last.startsWith("-")) return flags(options);
  const values =
    typeof positionalsComplete === "string" ? candidates(positionalsComplete) : positionalsComplete;
  return values.map(plain);
}

const plain = (value: string): Completion => ({ value, description: "" });

/** The command that these words begin with; undefined where they do not name one yet. */
export function commandOf(
  commands: readonly CommandSpec[],
  words: readonly string[],
): CommandSpec | undefined {
  return commands.find(({ name }) => name.split(" ").every((word, at) => word === words[at]));
}

/** Words by which the names of commands go on after these. */
function nextWords(commands: readonly CommandSpec[], before: readonly string[]): Completion[] {
  const found = new Map<string, string>();
  for (const { name, description } of commands) {
    const parts = name.split(" ");
    const next = parts[before.length];
    if (next === undefined || !before.every((word, at) => word === parts[at])) continue;
    found.set(next, parts.length === before.length + 1 ? description : "");
  }
  return [...found].map(([value, description]) => ({ value, description }));
}

function optionNamed(options: OptionTable, flag: string): OptionSpec | undefined {
  const found = Object.entries(options).find(
    ([name, { alias }]) => flag === `--${name}` || flag === `-${alias}`,
  );
  return found?.[1];
}

const valuesOf = ({ values, completes }: OptionSpec, candidates: Candidates) =>
  values ?? (completes ? candidates(completes) : []);

function flags(options: OptionTable): Completion[] {
  const shown = Object.entries(options).filter(([, { retired }]) => retired === undefined);
  return [
    ...shown.map(([name, spec]) => ({
      value: spec.default === true ? `--no-${name}` : `--${name}`,
      description: spec.default === true ? `${flagText(name, spec)}: ${spec.description}` : spec.description,
    })),
    { value: "--help", description: "Show help" },
  ];
}

/** What a shell loads. It runs `weave complete -- WORDS…`, which prints lines of VALUE TAB DESCRIPTION. */
export const SCRIPTS: Readonly<Record<Shell, string>> = {
  // Readline breaks words at colons and equals signs, so words are taken from the line; what stands before the last
  // break is taken off again.
  bash: `# bash completion for weave
_weave() {
  local line=\${COMP_LINE:0:COMP_POINT} value words
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  local last=\${words[-1]} current=\${COMP_WORDS[COMP_CWORD]}
  [[ $current == [=:] ]] && current=
  local prefix=\${last%"$current"}
  COMPREPLY=()
  while IFS=$'\\t' read -r value _; do
    COMPREPLY+=("\${value#"$prefix"}")
  done < <(weave complete -- "\${words[@]:1}" 2>/dev/null)
  [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == */ ]] && compopt -o nospace
  return 0
}
complete -F _weave weave
`,
  zsh: `#compdef weave
_weave() {
  local -a values shown
  local line
  for line in "\${(@f)$(weave complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -n $line ]] || continue
    values+=("\${line%%$'\\t'*}")
    shown+=("\${line/$'\\t'/  }")
  done
  compadd -l -d shown -a values
}
if [[ $funcstack[1] == _weave ]]; then _weave; else compdef _weave weave; fi
`,
  fish: `# fish completion for weave
complete -c weave -f -a '(weave complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
`,
};
