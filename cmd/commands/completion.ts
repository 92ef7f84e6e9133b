// weave completion: what a shell loads to complete commands, options, peers and containers.
import { SCRIPTS, SHELLS, type Shell } from "../../lib/help/completion.ts";
import { type Command, UsageError } from "../arguments.ts";
import { write } from "../output/output.ts";

const isShell = (word: string | undefined): word is Shell =>
  (SHELLS as readonly (string | undefined)[]).includes(word);

export const completion: Command = {
  name: "completion",
  group: "Life cycle",
  description: "Print the completion script of a shell",
  positionals: SHELLS.join("|"),
  positionalsComplete: SHELLS,
  examples: [
    { command: "source <(weave completion bash)", does: "Use it in this shell" },
    {
      command: "weave completion bash > /etc/bash_completion.d/weave",
      does: "Use it in every bash",
    },
    { command: "weave completion fish > ~/.config/fish/completions/weave.fish", does: "Use it in fish" },
  ],
  run({ positionals: [shell, ...more] }) {
    if (!isShell(shell) || more.length > 0)
      throw new UsageError(
        `which shell? ${SHELLS.join(", ")}${shell === undefined ? "" : `, not "${shell}"`}`,
      );
    write(SCRIPTS[shell]);
  },
};
