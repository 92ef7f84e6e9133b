// weave report.
import { ApiError, apiClient } from "../../lib/api/client.ts";
import { printableLines } from "../../lib/log/printable.ts";
import { type Command, UsageError } from "../arguments.ts";
import { write } from "../output/output.ts";
import { stdout } from "../output/stdout.ts";

export const report: Command = {
  name: "report",
  group: "Troubleshooting",
  description: "Print the state of the router, as JSON or in a format",
  details: [
    "A template is text with {{actions}}: {{.Path.To.Value}}, range, if, with, else, break, continue, variables and pipes; functions and, or, not, eq, ne, lt, le, gt, ge, len, index, slice, print, printf, println and json. Objects are printed as Go prints structs; json prints them as JSON.",
  ],
  options: {
    format: {
      type: "string",
      alias: "f",
      description: "Fill in this template, in the language of Go's text/template",
      defaultText: "JSON",
      valueHint: "FORMAT",
    },
    json: { type: "boolean", default: false, description: "Print JSON; the default" },
  },
  examples: [
    { command: "weave report", does: "Print everything as JSON" },
    { command: "weave report -f '{{.Router.Name}}'", does: "Print the name of this peer" },
    { command: "weave report -f '{{json .DNS}}'", does: "Print a part of it as JSON" },
    {
      command: `weave report -f '{{range .Router.Peers}}{{println .Name .NickName}}{{end}}'`,
      does: "Print a line for each peer",
    },
  ],
  async run({ options }) {
    const format = options["format"];
    if (format !== undefined && options["json"]) throw new UsageError("--format or --json, not both");
    const text =
      typeof format === "string"
        ? await apiClient()("GET", `/report?format=${encodeURIComponent(format)}`).catch(asUsageError)
        : await apiClient()("GET", "/report", { accept: "application/json" });
    // A format may end its lines itself. Peers choose their nicknames, also escape sequences.
    const shown = stdout.isTTY ? printableLines(text) : text;
    write(shown.endsWith("\n") ? shown : `${shown}\n`);
  },
};

/** Status of a template that cannot be read, or asks for what is not there. */
const BAD_FORMAT = 400;

function asUsageError(error: unknown): never {
  if (error instanceof ApiError && error.status === BAD_FORMAT)
    throw new UsageError(error.message, { cause: error });
  throw error;
}
